"""Dropout: a chain of operators on the CPU, one fused operator on CUDA."""

from __future__ import annotations

from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    Tensor,
    layer,
    operator,
)


@operator("aten.native_dropout")
def native_dropout(
    input: Tensor, p: float, train: bool | None, *, out: tuple[Tensor, Tensor]
) -> Cost:
    """y = x mask / (1 - p) with a random mask, kept as a byte an element: 2 multiplications an
    element, as many as in the chain of operators (drawing the mask is no arithmetic). Outside of
    training y is a copy."""
    y, mask = out
    gradient = Gradient(
        "input",
        "aten.native_dropout_backward",
        elementwise=native_dropout_backward(y, mask, 0, out=input).elementwise,
        saves=(mask,),
    )
    return Cost(elementwise=2 * y.numel if train else 0, gradients=(gradient,))


@operator("aten._fused_dropout")
def fused_dropout(
    self: Tensor, p: float, generator: object = None, *, out: tuple[Tensor, Tensor]
) -> Cost:
    """The same of the share p that is kept; its gradient is ``_masked_scale``."""
    y, mask = out
    gradient = Gradient("self", "aten._masked_scale", elementwise=2 * y.numel, saves=(mask,))
    return Cost(elementwise=2 * y.numel, gradients=(gradient,))


@operator("aten.native_dropout_backward")
def native_dropout_backward(
    grad_output: Tensor, mask: Tensor, scale: float, *, out: Tensor
) -> Cost:
    """grad_x = grad_y mask scale: 2 multiplications an element."""
    return Cost(elementwise=2 * out.numel)


@layer("Dropout")
def dropout(
    x: Tensor,
    *,
    p: float = 0.5,
    inplace: bool = False,
    training: bool = True,
    fused: bool = False,
) -> LayerCost:
    """y = x mask with mask = bernoulli(1 - p) / (1 - p). Outside of training, and with p = 0, y is
    x itself.

    The CPU draws the mask as numbers of x's type, divides it (1 an element), multiplies (1), and
    keeps it for the gradient, grad_x = grad_y mask (1). CUDA has ``native_dropout`` for it
    (``fused``), whose mask is a byte an element. With p = 1 the mask is a single zero.
    """
    if p == 0 or not training:
        return LayerCost(x)
    out = x.view(*x.shape) if inplace else x.new(*x.shape)
    if fused and p < 1:
        mask = x.new(*x.shape, itemsize=1)
        operands = {"input": x, "p": p, "train": True}
        return LayerCost(out, (Call("aten.native_dropout", operands, (out, mask)),))
    mask = x.new(*x.shape) if p < 1 else x.new()
    multiply = Call("aten.mul_" if inplace else "aten.mul", {"self": x, "other": mask}, out)
    if p == 1:
        return LayerCost(out, (multiply,))
    drawn = Call("aten.bernoulli_", {"self": mask, "p": 1 - p}, mask)
    scaled = Call("aten.div_", {"self": mask, "other": 1 - p}, mask)
    return LayerCost(out, (drawn, scaled, multiply))


EXAMPLES += [
    Example(
        "Dropout",
        {"x": Tensor((4, 6)), "p": 0.1},
        {"flops": 0, "elementwise": 48},
        "the mask divided, the input multiplied: 2 * 24 = 48",
    ),
    Example("Dropout", {"x": Tensor((4, 6)), "p": 0}, {"elementwise": 0}, "y is x"),
    Example(
        "Dropout",
        {"x": Tensor((4, 6)), "p": 0.1, "training": False},
        {"elementwise": 0},
        "y is x outside of training",
    ),
    Example(
        "Dropout",
        {"x": Tensor((4, 6)), "p": 0.1, "fused": True},
        {"elementwise": 48},
        "times the mask, times 1 / (1 - p): 2 * 24 = 48",
    ),
]
