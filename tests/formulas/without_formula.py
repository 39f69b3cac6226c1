"""The operators of torch that have no formula, and why each of them has none.

``python -m tests.formulas.without_formula`` lists those of the torch at hand; its test compares the
list with the table.
"""

from __future__ import annotations

from collections.abc import Iterable

from flopratio.formulas import OPERATORS, SPARSE_OPERATORS
from flopratio.torch_private import has_kernel, operator_names

NAMESPACES = ("aten", "prims", "c10d", "_c10d_functional", "_c10d_functional_autograd", "fsdp")
"""Those whose operators a training step may call. (``quantized`` has kernels for inference, on
weights in packed objects that tell no sizes: its operators are named where they run.)"""

WITHOUT_FORMULA: dict[str, str] = {
    "torch's own tests call it": """
        _foobar _test_autograd_multiple_dispatch _test_autograd_multiple_dispatch_view
        _test_autograd_multiple_dispatch_view_copy _test_functorch_fallback
        _test_optional_filled_intlist _test_optional_floatlist _test_optional_intlist
        _test_parallel_materialize _test_warn_in_autograd
    """,
    "other operators do its work: only its out= overload is no composite": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d
    """,
    "only Apple's devices run it": """
        _lstm_mps lstm_mps_backward mps_convolution_backward mps_convolution_transpose_backward
        max_pool2d_backward
    """,
    "only AMD's devices run it": "miopen_ctc_loss miopen_rnn miopen_rnn_backward",
    "in the layout of oneDNN, where somebody asks for it; docs/extending.md writes its formula": """
        mkldnn_linear mkldnn_linear_backward mkldnn_linear_backward_input
        mkldnn_linear_backward_weights
    """,
    "a kernel of inference in the layout of oneDNN, which says nothing of its memory": """
        mkldnn_adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d_backward mkldnn_max_pool2d
        mkldnn_max_pool2d_backward mkldnn_max_pool3d mkldnn_max_pool3d_backward
    """,
    "it computes with quantised numbers, for inference": """
        quantized_batch_norm quantized_gru quantized_lstm quantized_max_pool1d
        quantized_max_pool2d quantized_max_pool3d
    """,
    "how long the parts of a nested tensor are is in values": """
        _nested_sum_backward _nested_tensor_softmax_with_shape matmul_backward
    """,
    "its operands say nothing of how long the labels are": "_cudnn_ctc_loss",
    "what it computes depends on where the non-zeros are": "_spsolve",
    "it tries kernels out; the choice is no part of a step": "_cslt_sparse_mm_search",
    "it runs until it converges": "linalg_matrix_sqrth linalg_polar",
    "a kernel of inference that cuDNN has": "_cudnn_attention_forward_no_dropout_inplace",
    "an experiment of torch that nothing calls": """
        _triton_multi_head_attention _triton_scaled_dot_attention
    """,
    "what Inductor's own graphs are made of, after a step was captured; no step calls it": """
        prims._low_memory_max_pool_offsets_to_indices prims._low_memory_max_pool_with_offsets
        prims._unsafe_index_put_ prims.fma prims.inductor_cvt_e8m0_rceil
        prims.inductor_force_stride_order prims.inductor_lookup_seed
        prims.inductor_rand_eager_offset prims.inductor_rand_eager_offsets prims.inductor_randint
        prims.inductor_random prims.inductor_seed prims.inductor_seeds prims.prepare_softmax_online
    """,
    "an out= overload of a gradient that runs under another name": "adaptive_avg_pool3d_backward",
}
"""Why -> names, of ``aten`` unless they say otherwise."""


def explained() -> dict[str, str]:
    """Operator -> why it has no formula."""
    return {
        name if "." in name else f"aten.{name}": why
        for why, names in WITHOUT_FORMULA.items()
        for name in names.split()
    }


def without_formula(namespaces: Iterable[str] = NAMESPACES) -> list[str]:
    """The operators of some namespaces that a trace can meet, and that have no formula; none that
    torch always takes apart before."""
    overloads: dict[str, list[str]] = {}
    for full in operator_names():
        namespace, _, rest = full.partition("::")
        if namespace in namespaces:
            overloads.setdefault(f"{namespace}.{rest.partition('.')[0]}", []).append(full)
    return sorted(
        name
        for name, names in overloads.items()
        if name not in OPERATORS
        and name not in SPARSE_OPERATORS
        and not all(has_kernel(full, "CompositeImplicitAutograd") for full in names)
    )


def main() -> None:
    reasons = explained()
    for name in without_formula():
        print(f"{name}: {reasons.get(name, 'NO REASON')}")


if __name__ == "__main__":
    main()
