"""Quantisation: numbers in steps of a scale, for training with the error of it (fake quantisation)
and for storing.

A number x becomes the whole number q = clamp(round(x / scale) + zero_point, least, most): a
multiplication by 1 / scale, a rounding, an addition, two comparisons, 5 FLOP. Back, (q -
zero_point) * scale: 2. Fake quantisation does both, 7; where x was within the bounds is two
comparisons and their conjunction, 3, kept as a mask of a byte an element. The gradient is g there
and 0 elsewhere.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Part,
    Size,
    Tensor,
    operator,
)

QUANTIZED, BACK, MASK = 5, 2, 3
"""FLOP an element."""


def masked(out: tuple[Tensor, Tensor], work: Size) -> Cost:
    """Fake quantisation with a mask, which autograd keeps; g times the mask is the gradient."""
    result, mask = out
    gradient = Gradient("self", "aten.mul", elementwise=result.numel, saves=(mask,))
    return Cost(elementwise=work, gradients=(gradient,))


@operator(
    "aten.fake_quantize_per_tensor_affine_cachemask",
    "aten.fake_quantize_per_channel_affine_cachemask",
    "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
)
def fake_quantize(self: Tensor, *settings: Any, out: tuple[Tensor, Tensor], **named: Any) -> Cost:
    """There and back, and the mask."""
    return masked(out, (QUANTIZED + BACK + MASK) * self.numel)


@operator("aten._fused_moving_avg_obs_fq_helper", "aten._fused_moving_avg_obs_fq_helper_functional")
def observe_and_fake_quantize(
    self: Tensor,
    observer_on: Tensor,
    fake_quant_on: Tensor,
    running_min: Tensor,
    running_max: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    symmetric_quant: bool = False,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """The least and the largest element, two comparisons an element; for each channel (one of a
    whole tensor) their running averages, running + c (new - running), 3 each; its scale (most -
    least) / steps, 2, and zero point, 3; then fake quantisation. Whether observing and quantising
    are switched on is in values: both are taken to be."""
    channels = self.shape[ch_axis] if per_row_fake_quant else 1
    work = (2 + QUANTIZED + BACK + MASK) * self.numel + (2 * 3 + 2 + 3) * channels
    return masked((out[0], out[1]), work)


def learnt_parts(self: Tensor) -> tuple[Part, ...]:
    """Backward of fake quantisation whose scale and zero point are learnt. Which elements were
    within the bounds takes the quantisation again, 5, and two comparisons.

    - grad_self: g there, a selection.
    - grad_scale: g (fake - x) / scale there: back, 2; a subtraction and a multiplication; times g
      and a factor, 2; summed, 1.
    - grad_zero_point: -g scale where x was cut off, 2; times the factor, 1; summed, 1.
    """
    n = self.numel
    return (
        Part("self", elementwise=(QUANTIZED + 2 + 1) * n),
        Part("scale", elementwise=(BACK + 2 + 2 + 1) * n),
        Part("zero_point", elementwise=4 * n),
    )


def learnt(backward: str) -> OperatorFormula:
    def formula(
        self: Tensor, scale: Tensor, zero_point: Tensor, *settings: Any, out: Tensor
    ) -> Cost:
        """Fake quantisation, there and back. One operator computes all three gradients, whichever
        are asked for."""
        kept = (self, scale, zero_point)
        gradients = (
            Gradient(part.operand, backward, elementwise=part.elementwise, saves=kept)
            for part in learnt_parts(self)
        )
        return Cost(elementwise=(QUANTIZED + BACK) * self.numel, gradients=tuple(gradients))

    return formula


def learnt_backward(grad: Tensor, self: Tensor, *settings: Any, out: tuple[Tensor, ...]) -> Cost:
    return Cost.fused(*learnt_parts(self))


for _kind in ("tensor", "channel"):
    _name = f"aten._fake_quantize_learnable_per_{_kind}_affine"
    operator(_name)(learnt(f"{_name}_backward"))
    operator(f"{_name}_backward")(learnt_backward)


@operator("aten.quantize_per_tensor", "aten.quantize_per_channel")
def quantize(self: Any, *settings: Any, out: Any) -> Cost:
    """To whole numbers; of a list of tensors, all of them."""
    tensors = self if isinstance(self, tuple) else (self,)
    return Cost(elementwise=sum(QUANTIZED * tensor.numel for tensor in tensors))


@operator("aten.quantize_per_tensor_dynamic")
def quantize_dynamic(self: Tensor, dtype: object, reduce_range: bool, *, out: Tensor) -> Cost:
    """The scale is worked out first: two comparisons an element for the least and the largest;
    (most - least) / steps, 2, and the zero point, 3."""
    return Cost(elementwise=(2 + QUANTIZED) * self.numel + 5)


@operator("aten.dequantize")
def dequantize(self: Any, *, out: Any) -> Cost:
    """And back."""
    tensors = self if isinstance(self, tuple) else (self,)
    return Cost(elementwise=sum(BACK * tensor.numel for tensor in tensors))


EXAMPLES += [
    Example(
        "aten.fake_quantize_per_tensor_affine_cachemask",
        {
            "self": Tensor((4, 6)),
            "scale": 0.1,
            "zero_point": 0,
            "quant_min": -128,
            "quant_max": 127,
            "out": (Tensor((4, 6)), Tensor((4, 6), itemsize=1)),
        },
        {"flops": 0, "elementwise": 240},
        "24 elements: 5 there, 2 back, 3 for the mask, 10 each",
    ),
]
