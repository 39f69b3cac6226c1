"""The product of three operands, of which the Bilinear layer is made.

In the shapes below N are rows, I and J the two inputs' features, O the output's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    Size,
    Tensor,
    operator,
    prod,
)

Sizes = Mapping[int, Size]
"""The dimensions of an operand among those of all three -> its size in them."""


def placed(operand: Tensor, expanded: Sequence[int], dimensions: int) -> Sizes:
    """An operand's own dimensions, those left over by the ones in which it is repeated."""
    own = [d for d in range(dimensions) if d not in expanded]
    return dict(zip(own, operand.shape, strict=True))


def pair_product(one: Sizes, other: Sizes, summed: Sequence[int]) -> tuple[Size, Size, Sizes]:
    """(contraction FLOP, elementwise FLOP, sizes of the result) of the product of two operands,
    summed over some of the dimensions: a dimension that both have is contracted, one that a single
    operand has is summed beforehand. Without a sum the product is elementwise."""
    if not summed:
        result = {**one, **other}
        return 0, prod(result.values()), result
    additions: Size = 0
    for d in summed:
        alone = [operand for operand in (one, other) if d in operand]
        if len(alone) == 1:
            additions = additions + prod(alone[0].values())
            one, other = ({k: n for k, n in x.items() if k != d} for x in (one, other))
    every = {**one, **other}
    result = {d: size for d, size in every.items() if d not in summed}
    return 2 * prod(every.values()), additions, result


def trilinear_flops(
    operands: Sequence[Tensor],
    expanded: Sequence[Sequence[int]],
    summed: Sequence[int],
    unrolled: int,
) -> tuple[Size, Size]:
    """(contraction FLOP, elementwise FLOP) of torch's algorithm: slice by slice of the unrolled
    dimension, the product of the first two operands, summed over what the third does not have; then
    the product with the third, summed over the rest; then its addition into a zeroed output."""
    dimensions = len(operands[0].shape) + len(expanded[0])
    sizes = [
        placed(operand, dims, dimensions) for operand, dims in zip(operands, expanded, strict=True)
    ]
    slices = next((size[unrolled] for size in sizes if unrolled in size), 1)
    first, second, third = ({d: n for d, n in size.items() if d != unrolled} for size in sizes)
    inner = [d for d in summed if d != unrolled]
    early, additions, both = pair_product(first, second, [d for d in inner if d not in third])
    late, more, result = pair_product(both, third, [d for d in inner if d in third])
    return slices * (early + late), slices * (additions + more + prod(result.values()))


@operator("aten._trilinear")
def trilinear(
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
    *,
    out: Tensor,
) -> Cost:
    """out = the product of three operands, each first repeated along the dimensions in its
    ``expand``, summed over the dimensions ``sumdim``. The gradient of an operand is such a product
    of grad_out and the other two, summed over what the operand was repeated along.

    Of the Bilinear layer, out[n, o] = sum over i, j of x1[n, i] weight[o, i, j] x2[n, j]:

    - forward: x1 @ weight[o], 2 N I J, then with x2, 2 N J, for each o; N additions into the
      output for each;
    - grad_x1: grad_out * weight[o], N I J multiplications, then with x2, 2 N I J; N I additions;
    - grad_weight: x1 * grad_out, N I multiplications, then with x2, 2 N I J; I J additions;
    - grad_x2: x1 @ weight[o], 2 N I J, then times grad_out, N J; N J additions.
    """
    operands, expanded = (i1, i2, i3), (expand1, expand2, expand3)
    flops, elementwise = trilinear_flops(operands, expanded, sumdim, unroll_dim)
    gradients = []
    for index, name in enumerate(("i1", "i2", "i3")):
        replaced = [out if i == index else operand for i, operand in enumerate(operands)]
        repeats = [sumdim if i == index else dims for i, dims in enumerate(expanded)]
        work = trilinear_flops(replaced, repeats, expanded[index], 1)
        kept = tuple(operand for i, operand in enumerate(operands) if i != index)
        gradients.append(Gradient(name, "aten._trilinear", *work, saves=kept))
    return Cost(flops=flops, elementwise=elementwise, gradients=tuple(gradients))


EXAMPLES += [
    Example(
        "aten._trilinear",
        {
            "i1": Tensor((7, 3)),
            "i2": Tensor((4, 3, 5)),
            "i3": Tensor((7, 5)),
            "expand1": (1, 3),
            "expand2": (0,),
            "expand3": (1, 2),
            "sumdim": (2, 3),
            "out": Tensor((7, 4)),
        },
        {"flops": 1_120, "elementwise": 28},
        "for each of 4 outputs x1 @ weight, 2 * 7 * 3 * 5 = 210, with x2, 2 * 7 * 5 = 70; 7 sums",
    ),
]
