"""Embeddings, against rows copied and added one at a time, and against torch."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, Call, Cost, LayerCost, Tensor
from tests.formulas import counting
from tests.formulas.counting import Counted, counted, values, zeros
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_torch,
    analytic,
    executed,
    subsets,
)

SUM, MEAN, MAX = 0, 1, 2
sizes = st.integers(1, 4)


def index(*shape: int) -> Tensor:
    return Tensor(shape, itemsize=8)


def count(run: Any, *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


@pytest.mark.oracle
@settings(max_examples=30, deadline=None)
@given(
    rows=sizes,
    width=sizes,
    shape=st.lists(sizes, min_size=1, max_size=2).map(tuple),
    by_frequency=st.booleans(),
    data=st.data(),
)
def test_an_embedding_and_its_gradient_are_counted(
    rows: int, width: int, shape: tuple[int, ...], by_frequency: bool, data: st.DataObject
) -> None:
    number = int(np.prod(shape))
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=number, max_size=number))
    weight, grad = counting.tensor((rows, width), 1), counting.tensor((number, width), 2)

    def gradient() -> np.ndarray:
        table = zeros((rows, width))
        for i, row in enumerate(chosen):
            for column in range(width):
                share = grad[i, column]
                if by_frequency:
                    share = share / chosen.count(row)
                table[row, column] = table[row, column] + share
        return table

    y, flops = count(lambda: weight[chosen])
    table, gradient_flops = count(gradient)

    arguments = {
        "num_embeddings": rows,
        "embedding_dim": width,
        "scale_grad_by_freq": by_frequency,
    }
    layer = LAYERS["Embedding"](index(*shape), **arguments)
    (call,) = layer.calls
    (of_weight,) = call.cost.gradients
    assert layer.out.shape == (*shape, width)
    assert (call.cost.flops, call.cost.elementwise) == (0, flops) == (0, 0)
    assert (of_weight.flops, of_weight.elementwise) == (0, gradient_flops)

    torch_weight = torch.tensor(values(weight), requires_grad=True)
    torch_y = torch.nn.functional.embedding(
        torch.tensor(chosen), torch_weight, scale_grad_by_freq=by_frequency
    )
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach())
    np.testing.assert_allclose(values(table), torch_weight.grad)


def bag_call(
    rows: int, width: int, read: int, bags: int, mode: int, weighted: bool, **options: Any
) -> Call:
    positions = (
        index(read if mode != SUM else 0),
        index(bags),
        index(bags, width) if mode == MAX else index(bags),
    )
    operands = {
        "weight": Tensor((rows, width)),
        "indices": index(read),
        "offsets": index(bags),
        "mode": mode,
        "per_sample_weights": Tensor((read,)) if weighted else None,
        **options,
    }
    return Call("aten._embedding_bag", operands, (Tensor((bags, width)), *positions))


def gradient_of(cost: Cost, operand: str) -> int:
    (elementwise,) = (g.elementwise for g in cost.gradients if g.operand == operand)
    return int(elementwise)


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(
    rows=sizes,
    width=sizes,
    bags=st.lists(sizes, min_size=1, max_size=3),
    kind=st.sampled_from(
        [
            (SUM, False, False),
            (SUM, False, True),
            (SUM, True, False),
            (MEAN, False, False),
            (MEAN, False, True),
            (MAX, False, False),
        ]
    ),
    data=st.data(),
)
def test_bags_and_their_gradients_are_counted(
    rows: int, width: int, bags: list[int], kind: tuple[int, bool, bool], data: st.DataObject
) -> None:
    mode, weighted, by_frequency = kind
    read = sum(bags)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=read, max_size=read))
    bag_of = [bag for bag, size in enumerate(bags) for _ in range(size)]
    weight, grad = counting.tensor((rows, width), 1), counting.tensor((len(bags), width), 2)
    samples = counting.tensor((read,), 3)
    largest: dict[tuple[int, int], int] = {}

    def forward() -> np.ndarray:
        out = zeros((len(bags), width))
        for column in range(width):
            if mode == MAX:
                for bag in range(len(bags)):
                    out[bag, column] = Counted(-np.inf)
            for i, row in enumerate(chosen):
                at, entry = (bag_of[i], column), weight[row, column]
                if mode == MAX:
                    if entry > out[at]:
                        out[at], largest[at] = entry, row
                else:
                    out[at] = out[at] + (entry * samples[i] if weighted else entry)
        if mode == MEAN:
            for bag, column in np.ndindex(*out.shape):
                out[bag, column] = out[bag, column] / bags[bag]
        return out

    def of_weight() -> np.ndarray:
        table = zeros((rows, width))
        if mode == MAX:
            for (bag, column), row in largest.items():
                table[row, column] = table[row, column] + grad[bag, column]
            return table
        shares = grad.copy()
        if mode == MEAN:
            for bag, column in np.ndindex(*grad.shape):
                shares[bag, column] = grad[bag, column] / bags[bag]
        for i, row in enumerate(chosen):
            for column in range(width):
                share = shares[bag_of[i], column]
                if weighted:
                    share = share * samples[i]
                if by_frequency:
                    share = share / chosen.count(row)
                table[row, column] = table[row, column] + share
        return table

    def of_samples() -> np.ndarray:
        out = zeros((read,))
        for i, row in enumerate(chosen):
            for column in range(width):
                out[i] = out[i] + grad[bag_of[i], column] * weight[row, column]
        return out

    options = {"scale_grad_by_freq": by_frequency}
    cost = bag_call(rows, width, read, len(bags), mode, weighted, **options).cost
    y, flops = count(forward)
    table, gradient_flops = count(of_weight)
    assert (cost.flops, cost.elementwise) == (0, flops)
    assert gradient_of(cost, "weight") == gradient_flops

    torch_weight = torch.tensor(values(weight), requires_grad=True)
    torch_samples = torch.tensor(values(samples), requires_grad=True) if weighted else None
    torch_y = torch.nn.functional.embedding_bag(
        torch.tensor(chosen),
        torch_weight,
        torch.tensor([sum(bags[:bag]) for bag in range(len(bags))]),
        mode=("sum", "mean", "max")[mode],
        scale_grad_by_freq=by_frequency,
        per_sample_weights=torch_samples,
    )
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach())
    if not by_frequency:  # torch 2.13 divides by the frequency of another index
        np.testing.assert_allclose(values(table), torch_weight.grad)
    if torch_samples is not None:
        grad_samples, gradient_flops = count(of_samples)
        assert gradient_of(cost, "per_sample_weights") == gradient_flops
        np.testing.assert_allclose(values(grad_samples), torch_samples.grad)


@pytest.mark.parametrize(
    "arguments", [{}, {"padding_idx": 3}, {"scale_grad_by_freq": True}, {"sparse": True}], ids=str
)
def test_torch_runs_what_the_formula_says(arguments: dict[str, Any]) -> None:
    arguments = {"num_embeddings": 10, "embedding_dim": 4, **arguments}
    agrees_with_torch(
        LAYERS["Embedding"],
        torch.nn.Embedding(**arguments),
        torch.randint(0, 10, (2, 5)),
        **arguments,
    )


@pytest.mark.parametrize(
    ("mode", "weighted", "options"),
    [
        (SUM, False, {}),
        (SUM, False, {"scale_grad_by_freq": True}),
        (SUM, False, {"sparse": True}),
        (SUM, True, {}),
        (SUM, True, {"sparse": True}),
        (MEAN, False, {}),
        (MEAN, False, {"scale_grad_by_freq": True}),
        (MEAN, False, {"sparse": True}),
        (MAX, False, {}),
    ],
    ids=str,
)
def test_torch_runs_bags_as_the_formula_says(
    mode: int, weighted: bool, options: dict[str, Any]
) -> None:
    options = {"mode": mode, **options}
    indices, offsets = torch.randint(0, 10, (8,)), torch.tensor([0, 3])
    for needed in subsets(["weight", "per_sample_weights"] if weighted else ["weight"]):
        weight = torch.randn(10, 4, requires_grad="weight" in needed)
        samples = torch.randn(8, requires_grad="per_sample_weights" in needed)

        def run(weight: torch.Tensor, samples: torch.Tensor) -> Any:
            return torch._embedding_bag(
                weight,
                indices,
                offsets,
                **options,
                per_sample_weights=samples if weighted else None,
            )

        found = executed(run, weight, samples)
        call = bag_call(10, 4, 8, 2, weighted=weighted, **options)
        layer = LayerCost(call.out, (call,))  # type: ignore[arg-type]
        expected = analytic(layer, *(call.operands[name] for name in needed))
        assert (found.forward, found.backward) == (expected.forward, expected.backward)
        # torch allocates one position more than it shows of the bag that each index is in.
        unseen = 8 if mode != SUM else 0
        assert found.saved_bytes == expected.saved_bytes + unseen


def test_arrays_and_symbols_say_the_same() -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = index(size["batch"], size["seq"])
        layer = LAYERS["Embedding"](
            x, num_embeddings=size["vocabulary"], embedding_dim=size["width"]
        )
        step = analytic(layer, *layer.parameters.values()).figures
        return {**step, "parameters": layer.parameters["weight"].numel}

    agrees_on_arrays_and_symbols(
        figures,
        {"batch": 2, "seq": 3, "vocabulary": 10, "width": 4},
        {"batch": 10**9, "seq": 10**6, "vocabulary": 1, "width": 10**6},
    )


def test_the_table_has_an_element_size_of_its_own() -> None:
    layer = LAYERS["Embedding"](index(2, 5), num_embeddings=10, embedding_dim=4, itemsize=2)
    assert layer.out.nbytes == 2 * 5 * 4 * 2
