"""Every worked example of every family: the figures beside the arithmetic that gives them."""

import pytest

from flopratio.formulas import (
    EXAMPLES,
    LAYERS,
    OPERATORS,
    SPARSE_OPERATORS,
    Example,
    SparseTensor,
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.op}: {example.why}")
def test_worked_example(example: Example) -> None:
    sparse = any(isinstance(value, SparseTensor) for value in example.arguments.values())
    operators = SPARSE_OPERATORS if sparse else OPERATORS
    if example.op in operators:
        cost = operators[example.op](**example.arguments)
        found = {name: getattr(cost, name) for name in example.expected}
    else:
        layer = LAYERS[example.op](**example.arguments)
        costs = [call.cost for call in layer.calls]
        sums = {
            "flops": sum(cost.flops for cost in costs),
            "elementwise": sum(cost.elementwise for cost in costs),
            "parameters": sum(tensor.numel for tensor in layer.parameters.values()),
        }
        found = {name: sums[name] for name in example.expected}
    assert found == example.expected, example.why
