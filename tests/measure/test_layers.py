"""Whose time is it: the layer and the gradient that a profiled event belongs to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from flopratio.measure import measure_step
from flopratio.measure.layers import (
    _GRADIENT_ORDER,
    _PRODUCTS,
    FORWARD,
    LAYER,
    UPDATE,
    Attribution,
    FusedHalves,
    Operands,
    operands,
)

EVALUATE = "autograd::engine::evaluate_function: "
IN, WEIGHT = "grad_input", "grad_weight"


# -- the autograd graph


def phases(loss, *parameters):
    return {node.name: node.phases for node in operands(loss, parameters).values()}


def test_first_linear_layer_has_no_gradient_of_its_input():
    weight, bias = nn.Parameter(torch.ones(5, 3)), nn.Parameter(torch.ones(5))
    loss = functional.linear(torch.ones(2, 3), weight, bias).sum()
    assert phases(loss, weight, bias)["AddmmBackward0"] == (WEIGHT, None, WEIGHT)


def test_inner_linear_layer_has_both():
    weight, other = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    loss = functional.linear(torch.ones(2, 3) @ weight, other).sum()
    assert Operands("MmBackward0", (IN, WEIGHT)) in operands(loss, [weight, other]).values()


def test_frozen_layer_passes_the_input_gradient_only():
    first, frozen = nn.Parameter(torch.ones(3, 3)), torch.ones(3, 3)
    loss = functional.relu(torch.ones(2, 3) @ first).mm(frozen).sum()
    assert Operands("MmBackward0", (IN, None)) in operands(loss, [first]).values()


def test_product_of_parameters_is_a_weight():
    gain, direction = nn.Parameter(torch.ones(3, 1)), nn.Parameter(torch.ones(3, 3))
    loss = torch.ones(2, 3).mm(gain * direction).sum()
    found = phases(loss, gain, direction)
    assert found["MulBackward0"] == (WEIGHT, WEIGHT)
    assert found["MmBackward0"] == (None, WEIGHT)


def test_rows_of_an_embedding_are_data():
    table, weight = nn.Parameter(torch.ones(7, 3)), nn.Parameter(torch.ones(3, 3))
    loss = functional.embedding(torch.tensor([1, 2]), table).mm(weight).sum()
    found = phases(loss, table, weight)
    assert found["EmbeddingBackward0"] == (WEIGHT,)
    assert found["MmBackward0"] == (IN, WEIGHT)


def test_input_that_asks_for_a_gradient_is_data():
    x, weight = torch.ones(2, 3, requires_grad=True), nn.Parameter(torch.ones(3, 3))
    assert phases(x.mm(weight).sum(), weight)["MmBackward0"] == (IN, WEIGHT)


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (torch.addmm, [(5,), (2, 3), (3, 5)]),
        (torch.baddbmm, [(7, 2, 5), (7, 2, 3), (7, 3, 5)]),
        (torch.mm, [(2, 3), (3, 5)]),
        (torch.bmm, [(7, 2, 3), (7, 3, 5)]),
        (torch.mv, [(2, 3), (3,)]),
        (torch.mul, [(2, 3), (3,)]),
    ],
)
def test_autograd_multiplies_for_the_operands_in_the_order_that_is_assumed(call, shapes):
    """Frozen operands leave their product out: the one that goes missing is the one assumed."""
    name = f"{call.__name__.capitalize()}Backward0"

    def products(*wanted: int) -> list:
        tensors = [torch.ones(s, requires_grad=i in wanted) for i, s in enumerate(shapes)]
        with profile(
            activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True
        ) as profiler:
            call(*tensors).sum().backward()
        node = next(e for e in profiler.events() if e.name == name)
        return [(e.name, e.input_shapes) for e in node.cpu_children if e.name in _PRODUCTS]

    first, second = _GRADIENT_ORDER[name]
    assert products(first) != products(second)
    assert products(first, second) == products(first) + products(second)


# -- fused backward operators


def test_halves_of_fused_operators_are_marked_and_give_the_same_gradients():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
    x = torch.randn(2, 3, 8, 8)
    module(x).square().sum().backward()
    expected = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    marks: list[None] = []
    loss = module(x).square().sum()
    with FusedHalves(lambda: marks.append(None)) as halves:
        loss.backward()
    # The last convolution, then the normalization; the first convolution has no half for its input.
    names = [operands(loss, module.parameters())[node].name for node in halves.nodes]
    assert names == ["ConvolutionBackward0", "NativeBatchNormBackward0"]
    assert len(marks) == 3 * 2
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# -- the events of a profile


class Profile:
    """Writes down made-up events; every event lies within the one that is open, and lasts."""

    def __init__(self) -> None:
        self.events: list[FunctionEvent] = []
        self.now = 0

    def event(self, name, us=0, *, number=-1, kernel=0, within=()):
        """``us`` and ``kernel``: its own time on the host and the device, without its children's.
        ``within``: functions that write its children."""
        event = FunctionEvent(
            id=len(self.events),
            name=name,
            thread=1,
            start_us=self.now,
            end_us=self.now,
            sequence_nr=number,
            use_device="cuda",
        )
        self.events.append(event)
        if kernel:
            event.append_kernel("kernel", 0, kernel)
        for child in within:
            event.append_cpu_child(child())
        self.now += us
        event.time_range.end = self.now
        return event

    def __call__(self, name, us=0, **options):
        return lambda: self.event(name, us, **options)

    def book(self, graph=None, *, shares=None, updated=(), on_device=False):
        return Attribution(
            self.events, graph or {}, shares or {}, list(updated), on_device=on_device
        ).layers


def forward_of_two_layers() -> Profile:
    p = Profile()
    p.event(
        FORWARD,
        7,
        within=[
            p(
                LAYER + "",
                5,
                within=[
                    p(LAYER + "a", 3, within=[p("aten::addmm", 10, number=4, kernel=100)]),
                    p("aten::view", 1, number=5),
                    p(LAYER + "b", 3, within=[p("aten::linear", 2, number=5, kernel=0, within=[
                        p("aten::addmm", 20, number=5, kernel=200)])]),
                ],
            ),
            p("aten::nll_loss", 6, number=6, kernel=60),
        ],
    )  # fmt: skip
    return p


def test_forward_time_is_the_operators_of_the_innermost_module():
    layers = forward_of_two_layers().book()
    assert {path: time.forward for path, time in layers.items()} == {
        "a": 10,
        "": 1,
        "b": 22,
        "loss": 6,
    }


def test_on_a_device_the_kernels_time_counts():
    layers = forward_of_two_layers().book(on_device=True)
    assert [layers[path].forward for path in ("a", "", "b", "loss")] == [100, 0, 200, 60]


def test_backward_goes_by_sequence_number_and_operand():
    p = forward_of_two_layers()
    both = Operands("AddmmBackward0", (WEIGHT, IN, WEIGHT))
    first = Operands("AddmmBackward0", (WEIGHT, None, WEIGHT))
    p.event(EVALUATE + "NllLossBackward0", 5, number=6)
    p.event(
        EVALUATE + "AddmmBackward0",
        number=5,
        within=[
            p(
                "AddmmBackward0",
                number=5,
                within=[p("aten::t"), p("aten::mm", 30), p("aten::t"), p("aten::mm", 40)],
            ),
            p("aten::sum", 8),
        ],
    )
    p.event(EVALUATE + "torch::autograd::AccumulateGrad", 2)
    p.event(
        EVALUATE + "AddmmBackward0",
        1,
        number=4,
        within=[p("AddmmBackward0", number=4, within=[p("aten::mm", 50)])],
    )
    graph = {6: Operands("NllLossBackward0", (IN,)), 5: both, 4: first}
    layers = p.book(graph)
    assert layers["loss"].grad_input == 5
    assert layers["b"].grad_input == pytest.approx(30)
    assert layers["b"].grad_weight == pytest.approx(40 + 8 + 2)
    assert (layers["a"].grad_input, layers["a"].grad_weight) == (0, 51)


def test_overhead_of_a_node_is_shared_out_by_its_products():
    p = forward_of_two_layers()
    p.event(
        EVALUATE + "MmBackward0",
        20,
        number=5,
        within=[p("MmBackward0", within=[p("aten::mm", 30), p("aten::mm", 10)])],
    )
    # mm(self, mat2): the gradient of mat2, here the weight, comes first
    layer = p.book({5: Operands("MmBackward0", (IN, WEIGHT))})["b"]
    assert layer.grad_weight == pytest.approx(30 + 15)
    assert layer.grad_input == pytest.approx(10 + 5)


def test_fused_node_is_divided_as_its_halves_and_else_not_at_all():
    p = forward_of_two_layers()
    p.event(
        EVALUATE + "ConvolutionBackward0",
        number=5,
        within=[p("ConvolutionBackward0", within=[p("aten::convolution_backward", 80)])],
    )
    graph = {5: Operands("ConvolutionBackward0", (IN, WEIGHT, None))}
    divided = p.book(graph, shares={5: 0.25})["b"]
    assert (divided.grad_input, divided.grad_weight) == pytest.approx((20, 60))
    undivided = p.book(graph)["b"]
    assert (undivided.grad_input, undivided.grad_weight, undivided.backward) == (0, 0, 80)


def update_of(*operators) -> Profile:
    p = Profile()
    step = p("Optimizer.step#SGD.step", 9, within=[p(*operator) for operator in operators])
    p.event(UPDATE, 9, within=[step])
    return p


def test_update_goes_to_the_parameters_in_their_order():
    p = update_of(("aten::mul_", 1), ("aten::add_", 2), ("aten::mul_", 3), ("aten::add_", 4))
    layers = p.book(updated=[("a", 10), ("b", 10)])
    assert (layers["a"].update, layers["b"].update) == (3, 7)


def test_update_of_all_parameters_at_once_goes_by_size():
    p = update_of(("aten::_foreach_mul_", 1), ("aten::_foreach_add_", 3))
    layers = p.book(updated=[("a", 30), ("b", 10)])
    assert (layers["a"].update, layers["b"].update) == pytest.approx((3, 1))


# -- the real thing


def layers_of(module, *batch):
    timing = measure_step(module, batch, torch.sum, "sgd", "cpu", repeats=3)
    return {layer.name: layer for layer in timing.layers}


def test_layers_of_a_convolutional_network():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(512, 4)
    )
    layers = layers_of(module, torch.randn(2, 3, 12, 12))
    assert [layer.type for layer in layers.values()][:5] == [
        "Conv2d",
        "ReLU",
        "Conv2d",
        "Flatten",
        "Linear",
    ]
    assert layers["0"].grad_input_ms == 0  # its input is data
    assert layers["1"].grad_weight_ms == 0  # it has no weight
    for name in ("2", "4"):
        assert layers[name].grad_input_ms > 0
        assert layers[name].grad_weight_ms > 0
    assert [name for name, layer in layers.items() if layer.update_ms] == ["0", "2", "4"]
    assert "loss" in layers


def test_module_that_is_applied_twice_is_one_layer():
    shared = nn.Linear(4, 4)
    layers = layers_of(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 4))
    assert [name for name, layer in layers.items() if layer.type == "Linear"] == ["0"]
    assert layers["0"].grad_input_ms > 0


def test_backward_that_can_not_be_divided_says_so():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4)

        def forward(self, x):
            return self.rnn(x)[0]

    layers = layers_of(nn.Sequential(nn.Linear(3, 3), Last()), torch.randn(5, 2, 3))
    assert layers["1.rnn"].grad_input_ms is None
    assert layers["1.rnn"].backward_ms > 0
