"""Operators on lists: as many as torch has of those of one tensor, and the sum of their costs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flopratio.formulas import OPERATORS
from flopratio.formulas.foreach import ON_EACH
from tests.formulas.counting import Counted, counted, reset, tensor, values
from tests.formulas.executed import Recorder

TENSORS = (torch.rand(3, 4), torch.rand(5))


class Costs(TorchDispatchMode):
    """The elementwise FLOP of what is dispatched; arguments passed as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: list[tuple[str, int]] = []
        self.recorder = Recorder()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        op = ".".join(str(func).split(".")[:2])
        cost = OPERATORS[op](
            *map(self.recorder.tensor, args),
            **{
                name: self.recorder.tensor(value)
                for name, value in (kwargs or {}).items()
                if name != "out"
            },
            out=self.recorder.tensor(out),
        )
        self.flops.append((op, cost.elementwise))
        return out


def flops(run: Callable[[], Any]) -> list[tuple[str, int]]:
    costs = Costs()
    with costs:
        run()
    return costs.flops


def test_names_are_operators_that_exist() -> None:
    for name in ON_EACH.split():
        for suffix in ("", "_"):
            assert hasattr(torch.ops.aten, f"_foreach_{name}{suffix}")
            assert f"aten.{name}" in OPERATORS


CALLS: dict[str, tuple[Callable[[Sequence[torch.Tensor]], Any], int]] = {
    "add number": (lambda xs: torch._foreach_add(xs, 1), 17),
    "add list": (lambda xs: torch._foreach_add(xs, xs), 17),
    "add scaled list": (lambda xs: torch._foreach_add_(xs, xs, alpha=-0.1), 34),
    "add tensor": (lambda xs: torch._foreach_add_(xs, torch.ones(()), alpha=1.0), 17),
    "mul numbers": (lambda xs: torch._foreach_mul_(xs, [1.0, 2.0]), 17),
    "lerp": (lambda xs: torch._foreach_lerp_(xs, xs, 0.1), 51),
    "addcmul": (lambda xs: torch._foreach_addcmul_(xs, xs, xs, 0.1), 51),
    "addcmul unscaled": (lambda xs: torch._foreach_addcmul_(xs, xs, xs), 34),
    "addcdiv numbers": (lambda xs: torch._foreach_addcdiv_(xs, xs, xs, [0.1, 0.2]), 51),
    "pow": (lambda xs: torch._foreach_pow(xs, 3), 17),
    "pow of number": (lambda xs: torch._foreach_pow(3, xs), 17),
    "sqrt": (lambda xs: torch._foreach_sqrt(xs), 17),
    "clamp": (lambda xs: torch._foreach_clamp_min_(xs, 0.5), 17),
    "max": (lambda xs: torch._foreach_max(xs), 17),
    "norm": (lambda xs: torch._foreach_norm(xs), 36),
    "norm 1": (lambda xs: torch._foreach_norm(xs, 1), 34),
    "sigmoid": (lambda xs: torch._foreach_sigmoid(xs), 4 * 17),
    "unscale": (
        lambda xs: torch._amp_foreach_non_finite_check_and_unscale_(
            xs, torch.zeros(1), torch.ones(1)
        ),
        34,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_costs_are_the_sum_over_the_list(name: str) -> None:
    run, expected = CALLS[name]
    found = flops(lambda: run([tensor.clone() for tensor in TENSORS]))
    assert sum(count for _, count in found) == expected


Each = Callable[..., Counted]

LOOPS: dict[str, tuple[Callable[..., Any], Each]] = {
    "add": (lambda xs, ys: torch._foreach_add(xs, ys), lambda x, y: x + y),
    "add scaled": (
        lambda xs, ys: torch._foreach_add(xs, ys, alpha=-0.1),
        lambda x, y: x + y * -0.1,
    ),
    "mul": (lambda xs, ys: torch._foreach_mul(xs, ys), lambda x, y: x * y),
    "div number": (lambda xs, ys: torch._foreach_div(xs, 3.0), lambda x, y: x / 3.0),
    "sqrt": (lambda xs, ys: torch._foreach_sqrt(xs), lambda x, y: x.sqrt()),
    "lerp": (lambda xs, ys: torch._foreach_lerp(xs, ys, 0.1), lambda x, y: x + (y - x) * 0.1),
    "addcmul": (
        lambda xs, ys: torch._foreach_addcmul(xs, ys, ys, 0.1),
        lambda x, y: x + y * y * 0.1,
    ),
    "addcdiv numbers": (
        lambda xs, ys: torch._foreach_addcdiv(xs, xs, ys, [0.1, 0.1]),
        lambda x, y: x + x / y * 0.1,
    ),
}
"""An operator on lists; the same on one element, in counted arithmetic."""


@pytest.mark.oracle
@pytest.mark.parametrize("name", LOOPS)
def test_one_element_of_one_tensor_after_another(name: str) -> None:
    run, each = LOOPS[name]
    xs, ys = ([abs(tensor((3, 4), seed)), abs(tensor((5,), seed + 1))] for seed in (0, 2))
    reset()
    expected = [
        np.array([each(a, b) for a, b in zip(x.flat, y.flat, strict=True)], dtype=object)
        for x, y in zip(xs, ys, strict=True)
    ]
    count = counted()
    real = [[torch.tensor(values(x)) for x in several] for several in (xs, ys)]
    for result, numbers in zip(run(*real), expected, strict=True):
        np.testing.assert_allclose(result.flatten().numpy(), values(numbers))
    assert sum(flop for _, flop in flops(lambda: run(*real))) == count


def test_gradient_clipping_costs_the_same_either_way() -> None:
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in TENSORS]

    def clip(foreach: bool) -> int:
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        run = lambda: torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=foreach)  # noqa: E731
        return sum(count for _, count in flops(run))

    assert clip(True) == clip(False)
