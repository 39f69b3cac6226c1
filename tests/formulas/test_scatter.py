"""Copies and sums by index: sums in loops, gradients against autograd's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor
from tests.formulas.counting import counted, reset, tensor, values, zeros
from tests.formulas.executed import agrees_with_autograd, executed

INDEX = torch.tensor([0, 2, 0])
POSITIONS = torch.tensor([[0, 2], [1, 1], [2, 0]])

COPIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "expand": lambda x: x[:, None].expand(3, 5, 4),
    "expand to its own shape": lambda x: x.expand(3, 4) * 1,
    "repeat": lambda x: x.repeat(2, 3),
    "index": lambda x: x[INDEX],
    "index of two": lambda x: x[INDEX, INDEX],
    "index_select": lambda x: x.index_select(0, INDEX),
    "gather": lambda x: x.gather(1, POSITIONS),
    "unfold": lambda x: x.unfold(1, 2, 1),
}


@pytest.mark.parametrize("name", COPIES)
def test_gradients_of_copies_are_those_that_autograd_runs(name: str) -> None:
    step = agrees_with_autograd(COPIES[name], torch.randn(3, 4))
    assert not any(work.elementwise for work in step.forward if work.op != "aten.mul")


IMAGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "im2col": lambda x: F.unfold(x, 3, padding=1, stride=2),
    "reflection_pad2d": lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect"),
    "replication_pad2d": lambda x: F.pad(x, (1, 2, 1, 1), mode="replicate"),
    "constant_pad_nd": lambda x: F.pad(x, (1, 2, 1, 1)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_gradients_of_windows_and_borders_are_those_that_autograd_runs(name: str) -> None:
    step = agrees_with_autograd(IMAGES[name], torch.randn(2, 3, 6, 5))
    assert not any(work.elementwise for work in step.forward)


SUMS: dict[str, tuple[Callable[..., torch.Tensor], int]] = {
    "scatter_add": (lambda x: torch.zeros(3, 4).scatter_add(1, POSITIONS, x), 6),
    "index_add": (lambda x: torch.zeros(5, 2).index_add(0, INDEX, x), 6),
    "index_add scaled": (lambda x: torch.zeros(5, 2).index_add(0, INDEX, x, alpha=0.5), 12),
    "scatter": (lambda x: torch.zeros(3, 4).scatter(1, POSITIONS, x), 0),
    "fold": (lambda x: F.fold(x.reshape(1, 2, 3), (1, 4), (1, 2)), 6),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_add_each_element_once(name: str) -> None:
    run, additions = SUMS[name]
    step = agrees_with_autograd(run, torch.randn(3, 2))
    assert sum(work.elementwise for work in step.forward) == additions


def test_sums_without_a_gradient_of_ours() -> None:
    x, out = torch.randn(3, 2), torch.zeros(3, 4)
    runs: list[tuple[Callable[[], torch.Tensor], int]] = [
        (lambda: out.index_put((INDEX, INDEX), x[:, 0], accumulate=True), 3),
        (lambda: out.index_put((INDEX, INDEX), x[:, 0]), 0),
        (lambda: out.put(INDEX, x[:, 0], accumulate=True), 3),
        (lambda: out.scatter(1, POSITIONS, 2.0, reduce="multiply"), 6),
        (lambda: out.scatter_reduce(1, POSITIONS, x, "sum"), 6),
        (lambda: out.scatter_reduce(1, POSITIONS, x, "amax"), 6),
    ]
    for run, expected in runs:
        step = executed(lambda y, run=run: (run(), y + 0)[1], torch.ones(0, requires_grad=True))
        assert sum(work.elementwise for work in step.forward) == expected


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("run", "shape"),
    [
        *((COPIES[name], (3, 4)) for name in COPIES if name != "expand to its own shape"),
        *((IMAGES[name], (2, 3, 6, 5)) for name in IMAGES if name != "constant_pad_nd"),
        (lambda x: x.take(INDEX), (3, 4)),
    ],
)
def test_gradients_of_copies_in_loops(
    run: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> None:
    """GIVEN copies, THEN each element of the gradient is added to that of the element of which it
    is a copy, or to what falls on padding."""
    number = int(np.prod(shape))
    copied_from = run(torch.arange(1.0, number + 1).reshape(shape)).flatten().int().tolist()
    g = tensor((len(copied_from),))
    reset()
    grad = zeros((1 + number,))
    for each, place in zip(g, copied_from, strict=True):
        grad[place] = grad[place] + each
    count = counted()

    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = run(x)
    y.backward(torch.tensor(values(g)).reshape(y.shape))
    np.testing.assert_allclose(x.grad.flatten().numpy(), values(grad[1:]))
    step = agrees_with_autograd(run, torch.randn(shape))
    assert sum(work.elementwise for work in step.backward) == count


@pytest.mark.oracle
@pytest.mark.parametrize("alpha", [1, 0.5])
def test_sums_by_index_in_loops(alpha: float) -> None:
    x = tensor((3, 2))
    reset()
    scattered = zeros((3, 4))
    for row, column in np.ndindex(3, 2):
        place = row, int(POSITIONS[row, column])
        scattered[place] = scattered[place] + x[row, column]
    additions = counted()
    reset()
    added = zeros((5, 2))
    for row, column in np.ndindex(3, 2):
        place, term = (int(INDEX[row]), column), x[row, column]
        added[place] = added[place] + (term if alpha == 1 else term * alpha)
    scaled_additions = counted()

    real = torch.tensor(values(x), requires_grad=True)
    runs: list[tuple[Callable[[torch.Tensor], torch.Tensor], np.ndarray, int]] = [
        (lambda y: torch.zeros(3, 4).double().scatter_add(1, POSITIONS, y), scattered, additions),
        (
            lambda y: torch.zeros(5, 2).double().index_add(0, INDEX, y, alpha=alpha),
            added,
            scaled_additions,
        ),
    ]
    for run, expected, count in runs:
        np.testing.assert_allclose(run(real).detach().numpy(), values(expected))
        assert sum(work.elementwise for work in executed(run, real).forward) == count


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), index=st.data())
def test_gather_backward_in_loops(rows: int, columns: int, index: st.DataObject) -> None:
    chosen = np.array(
        index.draw(st.lists(st.integers(0, columns - 1), min_size=2 * rows, max_size=2 * rows))
    ).reshape(rows, 2)
    g = tensor((rows, 2))
    reset()
    grad = zeros((rows, columns))
    for row, column in np.ndindex(rows, 2):
        place = row, chosen[row, column]
        grad[place] = grad[place] + g[row, column]
    count = counted()

    x = torch.zeros(rows, columns, dtype=torch.float64, requires_grad=True)
    x.gather(1, torch.tensor(chosen)).backward(torch.tensor(values(g)))
    np.testing.assert_allclose(x.grad.numpy(), values(grad))
    cost = OPERATORS["aten.gather"](
        Tensor((rows, columns)), 1, Tensor((rows, 2), 8), out=Tensor((rows, 2))
    )
    assert cost.gradients[0].elementwise == count
