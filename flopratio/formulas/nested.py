"""Nested tensors: sequences of unlike lengths, end to end in one piece of memory. What computes is
counted sequence by sequence, by the formulas of the ordinary operators; here is what only they
have."""

from __future__ import annotations

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    Part,
    Tensor,
    asked_for,
    operator,
    prod,
)
from flopratio.formulas.linear import product_flops
from flopratio.formulas.movement import moves, names, views

for _name in sorted(
    names(
        """
        _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
        _nested_tensor_from_tensor_list
        _nested_from_padded _nested_from_padded_tensor _nested_from_padded_and_nested_example
        nested_to_padded_tensor
        _jagged_to_padded_dense_forward _padded_dense_to_jagged_forward
        _nested_compute_contiguous_strides_offsets
        """
    )
):
    operator(_name)(moves)

for _name in sorted(
    names(
        """
        _nested_view_from_buffer _nested_view_from_jagged _nested_get_values _nested_get_offsets
        _nested_get_lengths _nested_get_ragged_idx _nested_get_min_seqlen _nested_get_max_seqlen
        _nested_get_jagged_dummy
        """
    )
):
    operator(_name)(views)


@operator("aten.to_padded_tensor")
def to_padded_tensor(
    self: Tensor, padding: float, output_size: object = None, *, out: Tensor
) -> Cost:
    """The sequences, padded to one length; autograd keeps them for their lengths."""
    return Cost(gradients=(Gradient("self", "aten._nested_from_padded", saves=(self,)),))


@operator("aten.linear")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor) -> Cost:
    """out[*, O] = input[*, I] @ weight[O, I].T + bias[O], whole: elsewhere autograd sees its parts.

    The bias is one addition an entry; its gradient the sum of grad_out over the rows, as many.
    """
    product = product_flops(prod(input.shape[:-1]), weight.shape[0], weight.shape[1])
    backward = "aten.linear_backward"
    return Cost(
        flops=product,
        elementwise=0 if bias is None else out.numel,
        gradients=(
            Gradient("input", backward, flops=product, saves=(input, weight)),
            Gradient("weight", backward, flops=product, saves=(input, weight)),
            Gradient("bias", backward, elementwise=out.numel, saves=(input, weight)),
        ),
    )


@operator("aten.linear_backward")
def linear_backward(
    self: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    output_mask: tuple[bool, bool, bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """grad_input[*, I] = grad_output[*, O] @ weight[O, I], grad_weight[O, I] = grad_output.T @
    input, and the bias's gradient."""
    product = product_flops(prod(self.shape[:-1]), weight.shape[0], weight.shape[1])
    parts = (
        Part("input", flops=product),
        Part("weight", flops=product),
        Part("bias", elementwise=grad_output.numel),
    )
    return Cost.fused(*asked_for(parts, ("input", "weight", "bias"), output_mask))


EXAMPLES += [
    Example(
        "aten.linear",
        {
            "input": Tensor((1, 3, 4)),
            "weight": Tensor((5, 4)),
            "bias": Tensor((5,)),
            "out": Tensor((1, 3, 5)),
        },
        {"flops": 120, "elementwise": 15},
        "[3, 4] @ [4, 5]: 2 * 3 * 5 * 4 = 120; a bias on each of the 15 entries",
    ),
    Example(
        "aten.linear_backward",
        {
            "self": Tensor((1, 3, 4)),
            "grad_output": Tensor((1, 3, 5)),
            "weight": Tensor((5, 4)),
            "output_mask": (False, True, True),
            "out": (None, Tensor((5, 4)), Tensor((5,))),
        },
        {"flops": 120, "elementwise": 15},
        "the weight's gradient alone [5, 3] @ [3, 4]: 2 * 5 * 4 * 3 = 120; 15 entries summed",
    ),
]
