"""The operators that CUDA runs where the CPU runs its own, on fake tensors of the CPU.

A step is traced on fake CPU tensors, and torch chooses some operators by the device: for dropout,
attention and RMS norm, CUDA has kernels that keep less; all layers of a recurrent module are one
operator of cuDNN's; and under autocast CUDA has lists of its own. Within :func:`cuda_kernels` torch
chooses as it does on CUDA. What is left as the CPU has it: batch norm (cuDNN's keeps a reserve of
unknown size), and the cells of recurrent layers that are called one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from flopratio.torch_private import (
    FakeTensor,
    apart_from_cpu_autocast,
    decomposition_table,
    has_kernel,
    schema_of,
    scoped_library,
    taken_apart,
    tree_map_only,
)

HALF = (torch.float16, torch.bfloat16)

FUSED_NORMS = ("_fused_rms_norm", "_fused_rms_norm_backward")

AUTOCAST = "AutocastCPU"

AUTOCAST_TO_FLOAT32 = """
    asin acos cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm
    group_norm
    frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss
    cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss
    huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss
    triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm
    logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d
    _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d
    _upsample_bicubic2d_aa norm.Scalar norm.ScalarOpt_dim
"""
"""What CUDA's autocast runs in float32 and the CPU's does not (AT_FORALL_FP32 in
aten/src/ATen/autocast_mode.h)."""

AUTOCAST_WITH_FLOAT32_RESULT = """
    prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm
    linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList
"""
"""What it asks for a float32 result, unless told otherwise (AT_FORALL_FP32_SET_OPT_DTYPE)."""


@contextmanager
def cuda_kernels(*, attention: str = "flash", autocast: bool = False) -> Iterator[None]:
    """Dropout, attention, recurrent layers and RMS norm choose their operators as on CUDA.

    Args:
        attention: the kernel that attention tries first in 16 bits without a mask: ``flash``,
            ``cudnn`` or ``efficient`` (where there is no other).
        autocast: so does autocast; said apart, because it is torch's dispatch that is told, which
            takes a moment.
    """
    aten = torch.ops.aten
    plain_dropout, plain_attention = aten.dropout.default, aten.scaled_dot_product_attention.default

    def dropout(input: Tensor, p: float, train: bool) -> Tensor:
        if not (train and 0 < p < 1 and _is_fake(input) and input.numel() > 0):
            return taken_apart(plain_dropout, input, p, train)
        kept: Tensor = torch.native_dropout(input, p, True)[0]
        return kept

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        plain: AbstractContextManager[Any] = nullcontext()
        if _is_fake(query) and _is_fake(key) and _is_fake(value):
            run = _fused(query, key, value, attn_mask, is_causal, enable_gqa, attention)
            if run is not None:
                return run(query, key, value, attn_mask, dropout_p, is_causal, scale)
            plain = sdpa_kernel(SDPBackend.MATH)
        with plain:
            return taken_apart(
                plain_attention,
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )

    # Kernels of the dispatcher, not functions in the place of torch's: whoever holds a reference
    # to one of those is told too.
    with scoped_library("aten", "IMPL") as library:
        for key in ("AutogradCPU", "CPU"):
            library.impl("dropout", dropout, key)
            library.impl("scaled_dot_product_attention", attend, key)
            for name, kernel in recurrent_kernels().items():
                library.impl(name, kernel, key)
        with _fused_norms(), _cuda_autocast() if autocast else nullcontext():
            yield


def _is_fake(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.device.type == "cpu"


# -- attention ------------------------------------------------------------------------------------

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None, float, bool, float | None], Tensor]


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
    first: str,
) -> Attention | None:
    """The fused kernel that CUDA takes for these operands; None if it takes plain products (see
    use_flash_attention and use_mem_efficient_attention in
    aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""
    operands = (query, key, value)
    dense = all(operand.dim() == 4 and operand.numel() for operand in operands)
    same = len({operand.dtype for operand in operands}) == 1
    batches = len({operand.size(0) for operand in operands}) == 1
    lengths = dense and key.size(2) == value.size(2)
    if not (dense and same and batches and lengths):
        return None
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, query.dtype):
        return None  # which is refused
    strided = (*operands, *(() if mask is None else (mask,)))
    if any(x.stride(-1) != 1 for x in strided):
        return None
    widths = {operand.size(-1) for operand in operands}
    heads = len({operand.size(1) for operand in operands}) == 1
    grouped = enable_gqa and key.size(1) == value.size(1) and query.size(1) % key.size(1) == 0
    if (
        first == "cudnn"
        and torch.backends.cuda.cudnn_sdp_enabled()
        and torch.backends.cuda.flash_sdp_enabled()  # unless asked for others
        and query.dtype in HALF
        and mask is None
        and all(width % 8 == 0 and width <= 128 for width in widths)
        and (heads or grouped)
        and not (is_causal and query.size(2) != key.size(2))
    ):
        return _cudnn
    if (
        first != "efficient"
        and torch.backends.cuda.flash_sdp_enabled()
        and query.dtype in HALF
        and mask is None
        and len(widths) == 1
        and query.size(-1) <= 256
        and (heads or grouped)
        and not (is_causal and query.size(2) != key.size(2))
    ):
        return _flash
    alignment = 16 // query.itemsize
    if (
        torch.backends.cuda.mem_efficient_sdp_enabled()
        and query.dtype in (*HALF, torch.float32)
        and query.size(-1) == key.size(-1)
        and all(width % alignment == 0 for width in widths)
        and heads
    ):
        return _efficient
    return None


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    """Heads are padded to a multiple of 8, and scaled as they were."""
    width = query.size(-1)
    missing = -width % 8
    if missing:
        query, key, value = (functional.pad(x, (0, missing)) for x in (query, key, value))
    scale = width**-0.5 if scale is None else scale
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout, is_causal, False, scale=scale
    )[0]
    return out[..., :width] if missing else out


def _cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    keeps = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    out: Tensor = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, keeps, dropout, is_causal, False, scale=scale
    )[0]
    return out


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    """A mask of truth values becomes one of 0 and minus infinity, its rows aligned to 8."""
    if mask is not None:
        if mask.dtype is torch.bool:
            mask = torch.where(mask, 0.0, -torch.inf).to(query.dtype)
        if any(stride % 8 for stride in mask.stride()[:-1]):
            length = mask.size(-1)
            mask = functional.pad(mask, (0, 8 - length % 8))[..., :length]
        mask = mask.expand(query.size(0), query.size(1), query.size(2), key.size(2))
    keeps = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    out: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, keeps, dropout, is_causal, scale=scale
    )[0]
    return out


# -- recurrent layers -----------------------------------------------------------------------------

RECURRENT = ("rnn_relu", "rnn_tanh", "lstm", "gru")
"""By cuDNN's number of the mode."""


def recurrent_kernels() -> dict[str, Callable[..., Any]]:
    """Operator and overload -> what takes its place: the one operator of cuDNN's for all layers and
    directions."""
    kernels: dict[str, Callable[..., Any]] = {}
    for mode, name in enumerate(RECURRENT):
        packet = getattr(torch.ops.aten, name)
        kernels[f"{name}.input"] = partial(_recurrent, packet.input, mode)
        kernels[f"{name}.data"] = partial(_recurrent_packed, packet.data, mode)
    return kernels


def _recurrent(
    plain: Any,
    mode: int,
    input: Tensor,
    states: Any,
    weights: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """Sequences of one length, input[T, B, I] or [B, T, I]."""
    options = (has_biases, num_layers, dropout, train, bidirectional)
    if not (_is_fake(input) and input.numel() > 0):
        return taken_apart(plain, input, states, weights, *options, batch_first)
    return _by_cudnn(mode, input, states, weights, *options, batch_first, [])


def _recurrent_packed(
    plain: Any,
    mode: int,
    input: Tensor,
    batch_sizes: Tensor,
    states: Any,
    weights: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> Any:
    """Sequences of unlike lengths, all rows of the first time step first."""
    options = (has_biases, num_layers, dropout, train, bidirectional)
    if not (_is_fake(input) and input.numel() > 0) or isinstance(batch_sizes, FakeTensor):
        return taken_apart(plain, input, batch_sizes, states, weights, *options)
    return _by_cudnn(mode, input, states, weights, *options, False, batch_sizes.tolist())


def _by_cudnn(
    mode: int,
    input: Tensor,
    states: Any,
    weights: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    batch_sizes: list[int],
) -> tuple[Tensor, ...]:
    """Under autocast, all of it in its type."""
    is_lstm = RECURRENT[mode] == "lstm"
    hx, cx = states if is_lstm else (states, None)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        input, hx, *weights = (x.to(dtype) for x in (input, hx, *weights))
        cx = None if cx is None else cx.to(dtype)
    hidden = hx.size(2) if cx is None else cx.size(2)
    projected = hx.size(2) if hx.size(2) != hidden else 0
    stride = (4 if has_biases else 2) + (1 if projected else 0)
    output, hy, cy, *_ = torch.ops.aten._cudnn_rnn(
        input,
        weights,
        stride,
        None,
        hx,
        cx,
        mode,
        hidden,
        projected,
        num_layers,
        batch_first,
        dropout,
        train,
        bidirectional,
        batch_sizes,
        None,
    )
    return (output, hy, cy) if is_lstm else (output, hy)


# -- norms ----------------------------------------------------------------------------------------


@contextmanager
def _fused_norms() -> Iterator[None]:
    """RMS norm is one operator, which keeps its input and a number a row. Where a backend has no
    kernel of its own, as the CPU, torch takes it apart, and autograd keeps all that is between."""
    aten = torch.ops.aten
    operators = {name: getattr(aten, name).default for name in FUSED_NORMS if hasattr(aten, name)}
    with scoped_library("aten", "IMPL") as library:
        for name, operator in operators.items():
            if operator in decomposition_table:  # else torch 2.8, whose CUDA takes it apart too
                library.impl(name, decomposition_table[operator], "CPU")
        yield


# -- autocast -------------------------------------------------------------------------------------


@contextmanager
def _cuda_autocast() -> Iterator[None]:
    """Autocast of the CPU follows CUDA's lists of what runs in float32."""

    def in_float32(operator: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with apart_from_cpu_autocast():
                return operator(
                    *tree_map_only(Tensor, _to_float32, args),
                    **tree_map_only(Tensor, _to_float32, kwargs),
                )

        return run

    def with_float32_result(operator: Any) -> Callable[..., Any]:
        def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            if x.dtype in HALF and len(args) < len(schema_of(operator).arguments) - 1:
                kwargs["dtype"] = kwargs.get("dtype") or torch.float32
            with apart_from_cpu_autocast():
                return operator(x, *args, **kwargs)

        return run

    with scoped_library("aten", "IMPL") as library:
        for names, rule in (
            (AUTOCAST_TO_FLOAT32, in_float32),
            (AUTOCAST_WITH_FLOAT32_RESULT, with_float32_result),
        ):
            for name in names.split():
                packet, _, overload = name.partition(".")
                operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
                if not has_kernel(operator.name(), AUTOCAST):
                    library.impl(name, rule(operator), AUTOCAST)
        yield


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in HALF else tensor
