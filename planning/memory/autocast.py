"""CUDA's autocast played on meta tensors: which operators run in fp16 or bf16, which in fp32.

PyTorch casts in kernels of a dispatch key of its own, above autograd. Meta tensors never have CUDA's key, so
the same casts are registered here, from Python, for the key of a backend that no build of torch has
(Graphcore's IPU), and that key is switched on for the length of a trace. Unlike a ``TorchFunctionMode`` this
also sees what ``interpolate``, ``cross_entropy`` or attention call inside, and what gradient checkpointing
runs again. Nothing outside a trace is touched: without the switch the key is never reached.

The table follows ``torch/include/ATen/autocast_mode.h`` (torch 2.13), plus what ``autocast_mode.cpp``
registers by hand; of it, what the torch at hand registers for CUDA is played (2.11 does not yet have
``rms_norm``, say). A test holds it against both. ``cat`` and ``stack`` are in neither: they promote by
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

Policy = Literal["lower", "fp32", "fp32_set_dtype", "fp32_append_dtype", "promote", "banned"]

LOWER = """
_convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input
conv_transpose3d.input convolution cudnn_convolution cudnn_convolution_transpose prelu addmm addmv addr matmul
einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot _thnn_fused_lstm_cell
_thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell _scaled_dot_product_flash_attention
scaled_dot_product_attention
"""
FP32 = """
acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim
nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d
hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss
multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits
dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d
_upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
_upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa
"""
FP32_SET_DTYPE = """
prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm
linalg_matrix_norm.str_ord sum sum.dim_IntList
"""
FP32_APPEND_DTYPE = "norm.Scalar norm.ScalarOpt_dim"
PROMOTE = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add"
BANNED = "binary_cross_entropy"

POLICIES: dict[str, Policy] = {
    **dict.fromkeys(LOWER.split(), "lower"),
    **dict.fromkeys(FP32.split(), "fp32"),
    **dict.fromkeys(FP32_SET_DTYPE.split(), "fp32_set_dtype"),
    **dict.fromkeys(FP32_APPEND_DTYPE.split(), "fp32_append_dtype"),
    **dict.fromkeys(PROMOTE.split(), "promote"),
    **dict.fromkeys(BANNED.split(), "banned"),
}
"""Policy of each ``aten`` operator (``name.overload``) under CUDA autocast."""

KEY = "AutocastIPU"
"""Dispatch key that carries the played autocast."""


def _key() -> Any:
    return torch._C.DispatchKey.__members__[KEY]


@dataclass
class _State:
    """What the kernels read while a trace runs."""

    dtype: torch.dtype = torch.float16
    backward: bool = False
    weights: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Casts of parameters, kept until autocast is left, by the id of the parameter (kept alive beside)."""


_state = _State()


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """One argument cast as ``cached_cast`` does it: floating point only, never float64, leaves once."""
    if isinstance(value, Tensor):
        if value.dtype is dtype or not value.is_floating_point() or value.dtype is torch.float64:
            return value
        if not (
            dtype is _state.dtype and value.requires_grad and value.is_leaf and value.dtype is torch.float32
        ):
            return value.to(dtype)
        if _state.backward or not torch.is_grad_enabled():
            return value.to(dtype)
        known = _state.weights.get(id(value))
        if known is None:
            known = _state.weights[id(value)] = (value, value.to(dtype))
        return known[1]
    if isinstance(value, list | tuple):
        return type(value)(_cast(item, dtype) for item in value)
    return value


def _widest(values: tuple[Any, ...]) -> torch.dtype:
    """The type to promote to: fp32 as soon as one floating-point tensor has it."""
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else (value,))]
    wide = any(isinstance(item, Tensor) and item.dtype is torch.float32 for item in flat)
    return torch.float32 if wide else _state.dtype


def _is_low(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16, torch.float32)


def _kernel(op: Any, policy: Policy, keyset: Any) -> Callable[..., Any]:
    names = [argument.name for argument in op._schema.arguments]
    has_dtype = "dtype" in names

    def run(*args: Any, **kwargs: Any) -> Any:
        if _state.backward and not torch.is_grad_enabled():
            with torch._C._ExcludeDispatchKeyGuard(keyset):
                return op(*args, **kwargs)
        with torch._C._ExcludeDispatchKeyGuard(keyset):
            if policy == "banned":
                msg = "binary_cross_entropy is unsafe to autocast; use binary_cross_entropy_with_logits"
                raise RuntimeError(msg)
            if policy == "fp32_append_dtype":
                args = tuple(_cast(value, torch.float32) for value in args)
                return op(*args, **kwargs)
            if policy == "fp32_set_dtype" and has_dtype:
                # CUDA asks the kernel to compute in fp32 instead of casting the input first.
                if _is_low(args[0]) and kwargs.get("dtype") is None and not _positional_dtype(names, args):
                    kwargs["dtype"] = torch.float32
                return op(*args, **kwargs)
            dtype = {"lower": _state.dtype, "promote": _widest(args)}.get(policy, torch.float32)
            args = tuple(_cast(value, dtype) for value in args)
            return op(*args, **{name: _cast(value, dtype) for name, value in kwargs.items()})

    return run


def _positional_dtype(names: list[str], args: tuple[Any, ...]) -> bool:
    where = names.index("dtype")
    return len(args) > where and args[where] is not None


@cache
def _registered() -> tuple[torch.library.Library, ...]:
    """Register the casts, once a process; what this torch does not autocast on CUDA falls through."""
    library = torch.library.Library("aten", "IMPL")
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, KEY)
    keyset = torch._C.DispatchKeySet(_key())
    theirs = set(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"))
    for name, policy in POLICIES.items():
        if f"aten::{name}" in theirs:
            packet = getattr(torch.ops.aten, name.partition(".")[0])
            overload = getattr(packet, name.partition(".")[2] or "default")
            library.impl(name, _kernel(overload, policy, keyset), KEY)
    return library, others


@contextmanager
def play_autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """Cast as ``torch.autocast("cuda", dtype)`` would, whatever device the tensors are on; None: no casts.

    Casts of parameters are kept until the context is left, as torch keeps them.
    """
    if dtype is None:
        yield
        return
    _registered()
    key = _key()
    before = _state.dtype
    _state.dtype = dtype
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(key)
    torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
    try:
        with torch._C._IncludeDispatchKeyGuard(key):
            yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, excluded)
        _state.weights.clear()
        _state.dtype = before


@contextmanager
def play_recomputation(dtype: torch.dtype | None) -> Iterator[None]:
    """Around ``backward``: autocast for what gradient checkpointing runs again, and for nothing else.

    Backward itself runs without gradients, recomputation with them, which tells the two apart.
    """
    if dtype is None:
        yield
        return
    _state.backward = True
    try:
        with play_autocast(dtype):
            yield
    finally:
        _state.backward = False
