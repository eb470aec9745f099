"""Played autocast against torch's real one: bytes that a forward pass saves for backward, without a GPU.

    python -m voxplan.scripts.benchmarks.autocast_oracle

Needs a CUDA build of torch, but no GPU: its fake tensors run the forward pass of a network "on cuda" with
torch's own autocast kernels. Beside it the same pass on meta tensors, as a trace runs it. Exit status 1 if
any architecture differs, 2 on a CPU build.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from voxplan.planning.memory.autocast import play_autocast
from voxplan.plans.architectures import ARCHITECTURES, Architecture

PATCH, BATCH, CHANNELS, CLASSES = (64, 64, 64), 2, 1, 3


@contextmanager
def real_autocast(dtype: torch.dtype) -> Iterator[None]:
    """``torch.autocast("cuda", dtype)``, which switches itself off where there is no GPU."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


def saved_bytes(
    build: Callable[[], nn.Module], device: str, autocast: AbstractContextManager[None]
) -> tuple[int, set[torch.dtype]]:
    """Bytes of all storages that a training-mode forward pass keeps for backward, parameters left out.

    Returns:
        The bytes, and the types of the outputs.
    """
    with torch.device(device):
        network = build()
    network.train()
    parameters = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in parameters:
            held.setdefault(key, tensor)
        return tensor

    source = torch.empty(BATCH, CHANNELS, *PATCH, device=device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        outputs = network(source)
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    total = sum(tensor.untyped_storage().nbytes() for tensor in held.values())
    return total, {output.dtype for output in several}


def builder(architecture: Architecture) -> Callable[[], nn.Module]:
    """The architecture for the patch, with its deep-supervision heads."""
    arguments = architecture.topology(PATCH, None)
    return lambda: architecture.build(
        arguments,
        dimensions=len(PATCH),
        in_channels=CHANNELS,
        out_channels=CLASSES,
        deep_supervision=architecture.deep_supervision,
        checkpointing=False,
    )


def main() -> int:
    """Print one line an architecture and type."""
    if torch.version.cuda is None:
        print("this torch has no CUDA: install a CUDA build; a GPU is not needed", file=sys.stderr)
        return 2
    from torch._subclasses.fake_tensor import FakeTensorMode

    differing = 0
    for name, architecture in ARCHITECTURES.items():
        for dtype in (torch.float16, torch.bfloat16):
            build = builder(architecture)
            with FakeTensorMode(allow_non_fake_inputs=True):
                real = saved_bytes(build, "cuda", real_autocast(dtype))
            played = saved_bytes(build, "meta", play_autocast(dtype))
            differing += real != played
            share = played[0] / real[0] - 1
            print(
                f"{name}, {dtype}: {real[0]:,} bytes saved, played {played[0]:,} ({share:+.3%})", flush=True
            )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
