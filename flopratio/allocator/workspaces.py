"""Memory that libraries and kernels take from the CUDA caching allocator behind the dispatcher, so
that no trace of operators shows it."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from flopratio.allocator.device import DeviceProfile
from flopratio.allocator.pool import round_up
from flopratio.allocator.replay import Workspace

FLOAT32 = 4

UNKNOWN_SIZE = {
    "aten._cudnn_ctc_loss": "cuDNN",
    "aten._cudnn_rnn": "cuDNN; its reserve is estimated, see formulas.recurrent.cudnn_reserve",
    "aten._cudnn_rnn_backward": "cuDNN",
    "aten._efficient_attention_backward": "the kernel's accumulators, by its tile size",
    "aten._fft_c2c": "cuFFT",
    "aten._fft_c2r": "cuFFT",
    "aten._fft_r2c": "cuFFT",
    "aten._scaled_dot_product_cudnn_attention": "cuDNN",
    "aten._scaled_dot_product_cudnn_attention_backward": "cuDNN",
    "aten._scaled_dot_product_efficient_attention_backward": (
        "the kernel's accumulators, by its tile size"
    ),
    "aten.convolution": "cuDNN, by the algorithm that it picks",
    "aten.convolution_backward": "cuDNN, by the algorithm that it picks",
    "aten.cudnn_batch_norm": "cuDNN",
    "aten.cudnn_batch_norm_backward": "cuDNN",
    "aten.cumprod": "CUB's scan",
    "aten.cumsum": "CUB's scan",
    "aten.embedding_dense_backward": "CUB's sort of the indices",
    "aten.index_put": "CUB's sort of the indices",
    "aten.index_put_": "CUB's sort of the indices",
    "aten.linalg_vector_norm": "partial results, when many thread blocks reduce one entry",
    "aten.masked_select": "CUB's selection",
    "aten.mean": "partial results, when many thread blocks reduce one entry",
    "aten.native_group_norm_backward": "sums for each group, by the launch",
    "aten.native_layer_norm_backward": "partial sums of the weight's gradient, by the launch",
    "aten.nonzero": "CUB's selection",
    "aten.sort": "CUB's sort",
    "aten.sum": "partial results, when many thread blocks reduce one entry",
    "aten.topk": "CUB's sort",
}
"""Operators whose CUDA kernels take memory of a size that their shapes don't tell -> for what. It
is named beside a prediction; what is not said to be estimated is not in it."""


def unknown_workspaces(operators: Iterable[str]) -> tuple[str, ...]:
    """Those of the operators that ran of which :data:`UNKNOWN_SIZE` speaks, once each, sorted."""
    return tuple(sorted(UNKNOWN_SIZE.keys() & set(operators)))


def cublas_workspaces(
    profile: DeviceProfile, first_products: Iterable[tuple[str, int]]
) -> tuple[Workspace, ...]:
    """The workspaces of cuBLAS, which stay until the process ends: each thread has a handle of its
    own, and each handle takes one at its first product. Backward runs on a thread of its own.

    Args:
        profile: of the device.
        first_products: for each thread, its name and the index of the event before which its first
            product calls cuBLAS: the one after the allocation of the product's output. For a step:
            ``[("forward", 12), ("backward", 87)]``.

    Returns:
        None at all where the device's profile doesn't know the size, and where each product gives
        its workspace back (``profile.cublas_workspace_persistent`` is False).
    """
    nbytes = profile.cublas_workspace_bytes
    if nbytes is None or not profile.cublas_workspace_persistent:
        return ()
    return tuple(Workspace(f"cuBLAS {name}", nbytes, before) for name, before in first_products)


def flash_attention_backward(
    batch: int,
    heads: int,
    queries: int,
    head_size: int,
    *,
    keys: int | None = None,
    key_heads: int | None = None,
    itemsize: int = 2,
) -> dict[str, int]:
    """What ``aten._scaled_dot_product_flash_attention_backward`` allocates inside (FlashAttention
    2, not deterministic), after its outputs grad_query, grad_key and grad_value, in this order:

    - ``softmax_d``, fp32 [batch, heads, ceil128(queries)]: for each row, the sum of out * grad_out;
    - ``dq_accum``, fp32 [batch, ceil128(queries), heads, ceil32(head_size)]: grad_query before it
      is rounded;
    - with fewer heads of keys than of queries, ``dk_expanded`` and ``dv_expanded``,
      [batch, keys, heads, head_size] in the dtype of query: the gradients before they are summed
      over the heads that share a key.

    Args:
        keys: the length of key and value; None: that of query.
        key_heads: the heads of key and value; None: those of query.
        itemsize: bytes an element of query.

    Returns:
        name -> bytes.
    """
    rows = round_up(queries, 128)
    nbytes = {
        "softmax_d": FLOAT32 * prod((batch, heads, rows)),
        "dq_accum": FLOAT32 * prod((batch, rows, heads, round_up(head_size, 32))),
    }
    if key_heads not in (None, heads):
        expanded = itemsize * prod((batch, keys or queries, heads, head_size))
        nbytes |= {"dk_expanded": expanded, "dv_expanded": expanded}
    return nbytes
