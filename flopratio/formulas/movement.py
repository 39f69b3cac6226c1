"""Operators that only create, copy, reorder or look at memory: no FLOP.

Their gradients, most of which only move memory too, are left to a trace. An operator whose gradient
sums over copies, or for which autograd keeps something, is not in these tables: it has a formula in
``scatter`` or ``selection``.

Searches are here as well: they compare, but how often depends on the values, so that no count from
shapes is exact, and their time goes into moving bytes.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import Cost, operator


def names(table: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in table.split())


VIEWS = names(
    """
    _conj _neg_view _reshape_alias _unsafe_view alias as_strided as_strided_ detach detach_
    diagonal lift lift_fresh permute select slice slice_inverse split split_with_sizes
    shallow_copy_data_ squeeze squeeze_ t t_ transpose transpose_ unbind unsafe_split
    unsafe_split_with_sizes unsqueeze unsqueeze_ view view_as_complex view_as_real

    _fw_primal _has_same_storage_numel _make_dual
    _nested_tensor_size _nested_tensor_storage_offsets _nested_tensor_strides

    adjoint chunk contiguous expand_as flatten imag mH mT matrix_H movedim moveaxis narrow numpy_T
    ravel real reshape reshape_as resolve_conj resolve_neg swapaxes swapdims
    tensor_split unflatten unsafe_chunk view_as
    """
)
"""Operators that return a view and move no bytes. The second half reaches a tracer only under
``torch.inference_mode``; some of those copy when the memory does not allow a view."""

CREATION = names(
    """
    empty empty_like empty_permuted empty_strided new_empty new_empty_strided
    zeros zeros_like new_zeros zero zero_ ones ones_like new_ones full full_like new_full fill fill_
    scalar_tensor arange range linspace logspace eye tril_indices triu_indices
    bartlett_window blackman_window hamming_window hann_window kaiser_window
    _efficientzerotensor resize resize_ resize_as resize_as_ set set_

    rand rand_like randn randn_like randint randint_like randperm random random_
    bernoulli bernoulli_ binomial cauchy cauchy_ exponential exponential_ geometric geometric_
    log_normal log_normal_ multinomial normal normal_ normal_functional poisson uniform uniform_
    _fill_mem_eff_dropout_mask_ _philox_key_fold_in _philox_key_split _philox_normal _philox_normal_
    _philox_randint _philox_randint_ _philox_uniform _philox_uniform_ _cudnn_init_dropout_state

    _empty_affine_quantized _empty_per_channel_affine_quantized empty_quantized from_file
    _new_zeros_with_same_feature_meta fft_fftfreq fft_rfftfreq
    """
)
"""Fresh memory: as it comes, of one value, counted up, or random."""

COPIES = names(
    """
    clone copy copy_ _to_copy _copy_from _copy_from_and_resize _lazy_clone lift_fresh_copy
    _pin_memory _local_scalar_dense item conj_physical conj_physical_ _conj_physical
    alias_copy as_strided_copy detach_copy diagonal_copy expand_copy narrow_copy permute_copy
    select_copy slice_copy split_copy split_with_sizes_copy squeeze_copy t_copy transpose_copy
    unbind_copy unfold_copy unsqueeze_copy view_copy view_as_complex_copy view_as_real_copy
    _conj_copy _neg_view_copy _reshape_alias_copy _reshape_copy

    cat stack _stack _chunk_cat block_diag constant_pad_nd diag_embed flip roll rot90
    repeat_interleave channel_shuffle pixel_shuffle pixel_unshuffle tril tril_ triu triu_

    select_backward slice_backward diagonal_backward
    select_scatter slice_scatter diagonal_scatter as_strided_scatter

    to
    _resize_output _resize_output_ masked_scatter_backward
    _fw_primal_copy _make_dual_copy _nested_get_values_copy _nested_view_from_buffer_copy
    _nested_view_from_jagged_copy
    _nested_select_backward
    int_repr _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor
    to_mkldnn _mkldnn_reshape _mkldnn_transpose _mkldnn_transpose_
    mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight _cudnn_rnn_flatten_weight
    _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _dyn_quant_pack_4bit_weight
    _to_sparse_semi_structured _cslt_compress _sparse_semi_structured_apply
    _sparse_semi_structured_apply_dense _sparse_semi_structured_tile
    _pack_padded_sequence one_hot
    _foreach_clone _foreach_copy _foreach_copy_ _foreach_zero _foreach_zero_
    """
)
"""The same values in another place, order or element type, or chosen by an index or a mask."""

SEARCHES = names(
    """
    argsort msort nonzero nonzero_static
    unique_consecutive unique_dim unique_dim_consecutive _unique _unique2
    bucketize searchsorted isin bincount histc histogram
    _histogramdd_bin_edges _histogramdd_from_bin_cts _histogramdd_from_bin_tensors
    """
)
"""Comparisons of which the values, not the shapes, tell the number."""

BOOKKEEPING = names(
    """
    _assert_async _assert_scalar _assert_tensor_metadata _functional_assert_async
    _functional_assert_scalar _has_compatible_shallow_copy_type is_pinned is_same_size is_set_to
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size sym_constrain_range
    sym_constrain_range_for_size _make_dep_token _print _use_cudnn_ctc_loss _use_miopen_ctc_loss
    q_per_channel_axis q_per_channel_scales
    q_per_channel_zero_points q_scale q_zero_point qscheme
    promote_types record_stream sym_numel sym_size sym_storage_offset sym_stride
    """
)
"""Questions about a tensor and marks on it."""


def moves(*arguments: Any, out: Any, **options: Any) -> Cost:
    """Bytes, no FLOP."""
    return Cost()


def views(*arguments: Any, out: Any, **options: Any) -> Cost:
    """No bytes either."""
    return Cost(view=True)


MOVEMENT = CREATION | COPIES | SEARCHES | BOOKKEEPING

for _name in sorted(MOVEMENT):
    operator(_name)(moves)
for _name in sorted(VIEWS):
    operator(_name)(views)
