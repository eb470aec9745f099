"""What tensors do not show: cuDNN's workspaces, the CUDA context, NCCL; constants from ``constants.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from math import prod
from typing import Any

from voxplan.plans.schema import Precision

from .events import Convolution

ASSUMPTION = "unmeasured assumption"
TENSOR_CORES_SINCE = (7, 0)
"""Compute capability of the first tensor cores (Volta), for fp16."""
AMPERE = (8, 0)
"""First with tensor cores for bf16 and TF32, which cuDNN convolutions use for fp32 by torch's default."""
_MATRIX_PRODUCTS = ("aten.mm.", "aten.bmm.", "aten.addmm.", "aten.baddbmm.", "aten.addmv.", "aten.mv.")


@cache
def constants() -> Mapping[str, Any]:
    """The data file: every constant with its source."""
    import yaml

    text = resources.files("voxplan.planning.memory").joinpath("constants.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def _since(rows: list[dict[str, Any]], capability: tuple[int, int]) -> dict[str, Any]:
    fitting = [row for row in rows if tuple(row["since"]) <= capability]
    return fitting[-1] if fitting else rows[0]


@dataclass(slots=True, kw_only=True)
class DeviceModel:
    """A GPU, as far as memory outside tensors goes.

    Every constant that was asked for and is an assumption is noted in ``unmeasured``.
    """

    compute_capability: tuple[int, int]
    precision: Precision
    cudnn_benchmark: bool = False
    num_gpus: int = 1
    unmeasured: dict[str, str] = field(default_factory=dict)

    def _noted(self, name: str, constant: Mapping[str, Any]) -> Mapping[str, Any]:
        if str(constant["source"]).startswith(ASSUMPTION):
            self.unmeasured[name] = str(constant["source"])
        return constant

    def context(self) -> int:
        """Bytes of the process outside the caching allocator."""
        row = self._noted("context", _since(constants()["context"], self.compute_capability))
        total = int(row["bytes"])
        if self.num_gpus > 1:
            total += int(self._noted("nccl", constants()["nccl"])["bytes"])
        return total

    def cublas(self) -> int:
        """Bytes of cuBLAS's workspace."""
        rows = constants()["cublas_workspace"]
        return int(self._noted("cublas_workspace", _since(rows, self.compute_capability))["bytes"])

    def convolution(self, convolution: Convolution) -> int:
        """Bytes of the workspace of one convolution kernel."""
        table = constants()["convolution"]
        if convolution.depthwise:
            return int(self._noted("convolution.depthwise", table["depthwise"])["bytes"])
        kind = "tensor_core" if self._tensor_cores(convolution.itemsize) else "plain"
        row = self._noted(f"convolution.{kind}.{convolution.direction}", table[kind][convolution.direction])
        tensors = prod(convolution.input) + prod(convolution.output)
        elements = row["tensors"] * tensors + row["weights"] * prod(convolution.weight)
        size = elements * convolution.itemsize
        if self.cudnn_benchmark:
            size *= self._noted("convolution.benchmark", table["benchmark"])["factor"]
        return int(size)

    def _tensor_cores(self, itemsize: int) -> bool:
        if itemsize == 2:
            needed = AMPERE if self.precision == "bf16" else TENSOR_CORES_SINCE
            return self.compute_capability >= needed
        # torch lets cuDNN use TF32 by default (``torch.backends.cudnn.allow_tf32``), so fp32 counts too.
        return self.compute_capability >= AMPERE


def is_matrix_product(operator: str) -> bool:
    """Whether an operator runs in cuBLAS."""
    return operator.startswith(_MATRIX_PRODUCTS)


def default_capability() -> tuple[int, int]:
    """The compute capability that is taken where none is named."""
    major, minor = constants()["default_compute_capability"]["value"]
    return int(major), int(minor)


def process_base() -> int:
    """Resident bytes of the Python process itself, for training on the CPU."""
    return int(constants()["process_base"]["bytes"])
