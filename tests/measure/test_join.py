"""The events of a profile joined onto the recording of the same step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.profiler import profile, record_function
from torch.nn import functional

import flopratio as fr
from flopratio.measure.events import (
    BACKWARD_RANGE,
    EVALUATE,
    FORWARD_RANGE,
    UPDATE_RANGE,
    HostEvent,
    Kernel,
    ProfiledEvents,
    event_tree,
    read_events,
)
from flopratio.measure.fused_halves import FusedHalves
from flopratio.measure.join import ACCUMULATE, Timed, join, newest_node
from flopratio.measure.layers import LayerTime, layer_times
from flopratio.trace.attribution import attribute
from flopratio.trace.recording import Recording

# -- made-up events -------------------------------------------------------------------------------


class Profile:
    """Writes down made-up events; every event lies within the one that is open, and lasts."""

    def __init__(self, thread=1) -> None:
        self.events = ProfiledEvents()
        self.thread = thread
        self.now = 0
        self.device_now = 0

    def event(self, name, us=0, *, number=-1, kernel=0, within=()):
        """``us`` and ``kernel``: its own time on the host and the device, without its children's.
        ``within``: functions that write its children."""
        start, own = self.now, len(self.events.host) + 1
        self.events.host.append(None)
        if kernel:
            self.launch("kernel", kernel, operator=own)
        for child in within:
            child()
        self.now += us * 1000
        self.events.host[own - 1] = HostEvent(
            name,
            start,
            self.now,
            self.thread,
            own,
            number,
            1 if number >= 0 else 0,
            name.startswith(("flopratio.", "Optimizer.step#")),
        )

    def launch(self, name, us, *, operator=0, stream=7, after=0):
        """A kernel, so long after the one before."""
        start = self.device_now + after * 1000
        self.device_now = start + us * 1000
        self.events.kernels.append(Kernel(name, start, self.device_now, stream, operator))

    def __call__(self, name, us=0, **options):
        return lambda: self.event(name, us, **options)

    def tree(self, on_device=False):
        return event_tree(self.events, on_device=on_device)


def recording_of(model, *batch, optimizer=None) -> Recording:
    optimizer = optimizer(model.parameters()) if callable(optimizer) else optimizer
    with fr.Profiler(model) as profiler:
        output = model(*batch)
        with profiler.layer("loss"):
            loss = output.sum()
        loss.backward()
        if optimizer is not None:
            optimizer.step()
    return profiler.recording


def joined(recording: Recording, profile: Profile, *, on_device=False, **options) -> Timed:
    tree = profile.tree(on_device)
    timed = join(recording, attribute(recording), tree, **options)
    assert timed.total == pytest.approx(tree.total_ns / 1e3)
    return timed


@pytest.fixture
def two() -> Recording:
    """a: the first layer of two; b: one whose input asks for a gradient."""
    model = nn.Sequential()
    model.a, model.b = nn.Linear(3, 4), nn.Linear(4, 5)
    return recording_of(model, torch.randn(2, 3), optimizer=torch.optim.SGD)


def node_of(recording: Recording, layer: str) -> int:
    """The number of the node of a layer's product, counted from the newest."""
    index = next(
        record.sequence
        for record in recording.records
        if record.op.name == "aten.addmm" and recording.layer_of(record) == layer
    )
    return index - newest_node(recording)


def forward_of_two() -> Profile:
    p = Profile()
    p.event(
        FORWARD_RANGE,
        7,
        within=[
            p("aten::linear", 5, within=[
                p("aten::t", 1), p("aten::addmm", 10, number=4, kernel=100)]),
            p("aten::linear", 2, within=[p("aten::addmm", 20, number=5, kernel=200)]),
            p("aten::sum", 6, number=6, kernel=60, within=[p("aten::sum", 3)]),
        ],
    )  # fmt: skip
    return p


def test_forward_operators_meet_their_events_in_order(two):
    layers = layer_times(joined(two, forward_of_two()))
    # Around an operator lies what belongs to it: linear's own 5 us and the view's 1.
    assert {path: time.forward for path, time in layers.items() if time.forward} == {
        "a": 10 + 5 + 1,
        "b": 20 + 2,
        "loss": 6 + 3,
    }


def test_on_a_device_the_kernels_time_counts(two):
    layers = layer_times(joined(two, forward_of_two(), on_device=True))
    assert [layers[path].forward for path in ("a", "b", "loss")] == [100, 200, 60]


def test_backward_meets_by_sequence_number_and_operand(two):
    p = forward_of_two()
    newest = 60  # the profiled step counts from elsewhere
    b, a = newest + node_of(two, "b"), newest + node_of(two, "a")
    p.event(EVALUATE + "SumBackward0", 5, number=newest)
    p.event(
        EVALUATE + "AddmmBackward0",
        number=b,
        within=[
            p(
                "AddmmBackward0",
                number=b,
                within=[p("aten::t"), p("aten::mm", 30), p("aten::t"), p("aten::mm", 40)],
            ),
            p("aten::sum", 8),
        ],
    )
    p.event(EVALUATE + ACCUMULATE, 2)
    p.event(EVALUATE + ACCUMULATE)
    p.event(
        EVALUATE + "AddmmBackward0",
        10,
        number=a,
        within=[p("AddmmBackward0", number=a, within=[p("aten::mm", 50)])],
    )
    p.event(EVALUATE + ACCUMULATE)
    p.event(EVALUATE + ACCUMULATE)
    timed = joined(two, p)
    layers = layer_times(timed)
    assert layers["loss"].grad_input == 5
    assert layers["b"].grad_input == pytest.approx(30)
    assert layers["b"].grad_weight == pytest.approx(40 + 8 + 2)
    assert (layers["a"].grad_input, layers["a"].grad_weight) == (0, pytest.approx(50 + 10))
    times = {(row.layer, row.phase, row.op): row.time_us for row in timed.rows if row.time_us}
    assert times["b", "grad_input", "aten.mm"] == 30
    assert times["b", "grad_weight", "aten.mm"] == 40


def test_what_lies_around_a_nodes_operators_is_shared_out_by_their_times(two):
    p = forward_of_two()
    number = 60 + node_of(two, "b")
    p.event(EVALUATE + "SumBackward0", 5, number=60)
    p.event(
        EVALUATE + "AddmmBackward0",
        20,
        number=number,
        within=[p("AddmmBackward0", within=[p("aten::mm", 30), p("aten::mm", 10)])],
    )
    layer = layer_times(joined(two, p))["b"]
    assert layer.grad_input == pytest.approx(30 + 15)
    assert layer.grad_weight == pytest.approx(10 + 5)


def test_a_node_inside_of_another_is_its_own(two):
    """A reentrant checkpoint runs a backward in its node."""
    p = forward_of_two()
    b, a = 60 + node_of(two, "b"), 60 + node_of(two, "a")
    p.event(EVALUATE + "SumBackward0", 0, number=60)
    inner = p(EVALUATE + "AddmmBackward0", 0, number=a, within=[p("aten::mm", 50)])
    p.event(EVALUATE + "AddmmBackward0", 4, number=b, within=[p("aten::mm", 30), inner])
    layers = layer_times(joined(two, p))
    assert layers["b"].grad_input == pytest.approx(34)
    assert layers["a"].grad_weight == pytest.approx(50)


def test_an_operator_without_an_event_is_named_and_does_not_shift_the_others(two):
    p = Profile()
    p.event(FORWARD_RANGE, within=[p("aten::sum", 6)])
    timed = joined(two, p)
    assert timed.unmatched["aten::addmm"] == 2
    assert layer_times(timed)["loss"].forward == 6
    forward = [row for row in timed.rows if row.phase == "forward" and row.op == "aten.addmm"]
    assert [row.time_us for row in forward] == [None, None]


def test_fused_operator_is_divided_as_its_halves_and_else_not_at_all():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    recording = recording_of(model, torch.randn(2, 3, 8, 8))
    p = Profile()
    p.event(EVALUATE + "SumBackward0", 0, number=60)
    p.event(
        EVALUATE + "ConvolutionBackward0",
        number=59,
        within=[p("ConvolutionBackward0", within=[p("aten::convolution_backward", 80)])],
    )
    shares = {newest_node(recording) - 1: 0.25}
    divided = layer_times(joined(recording, p, shares=shares))["1"]
    assert (divided.grad_input, divided.grad_weight) == pytest.approx((20, 60))
    undivided = layer_times(joined(recording, p))["1"]
    assert (undivided.grad_input, undivided.grad_weight, undivided.backward) == (0, 0, 80)


def test_update_goes_to_the_parameters_in_their_order(two):
    p = Profile()
    added = [p("aten::add_", us) for us in (1, 2, 3, 4)]  # weight and bias of a, then of b
    p.event(UPDATE_RANGE, 9, within=[p("Optimizer.step#SGD.step", 5, within=added)])
    layers = layer_times(joined(two, p))
    assert (layers["a"].update, layers["b"].update) == (1 + 2, 3 + 4)


def test_update_of_all_parameters_at_once_goes_by_what_it_moves():
    model = nn.Sequential(nn.Linear(3, 9, bias=False), nn.Linear(9, 1, bias=False))
    recording = recording_of(
        model,
        torch.randn(2, 3),
        optimizer=lambda parameters: torch.optim.SGD(parameters, foreach=True),
    )
    p = Profile()
    p.event(
        UPDATE_RANGE, within=[p("Optimizer.step#SGD.step", within=[p("aten::_foreach_add_", 4)])]
    )
    layers = layer_times(joined(recording, p))
    assert (layers["0"].update, layers["1"].update) == pytest.approx((3, 1))


# -- real events ----------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Products, norms, attention with a mask of its own, and a weight that is made of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.gain = nn.Parameter(torch.ones(16, 1))
        self.direction = nn.Parameter(torch.randn(16, 16))

    def forward(self, x):
        x = self.encoder(functional.relu(self.first(x)))
        return functional.linear(x, self.gain * self.direction)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Mixed(), (2, 6, 16)),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (2, 3, 8, 8)),
        (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), None),
    ],
    ids=["transformer", "convolution", "embedding"],
)  # fmt: skip
def test_every_operator_of_a_real_step_has_its_event(model, shape):
    x = torch.randint(9, (2, 5)) if shape is None else torch.randn(shape)
    optimizer = torch.optim.AdamW(model.parameters())
    recording_of(model, x, optimizer=optimizer)  # which makes the optimizer's state
    recording = recording_of(model, x, optimizer=optimizer)
    with profile(use_kineto=True) as profiler:
        with record_function(FORWARD_RANGE):
            loss = model(x).sum()
        with record_function(BACKWARD_RANGE):
            loss.backward()
        with record_function(UPDATE_RANGE):
            optimizer.step()
    tree = event_tree(read_events(profiler), on_device=False)
    timed = join(recording, attribute(recording), tree)
    assert (timed.unmatched, timed.untraced, timed.unattributed) == ({}, {}, {})
    assert timed.total == pytest.approx(tree.total_ns / 1e3)
    layers = layer_times(timed)
    assert all(time.update > 0 for path, time in layers.items() if recording.parameters.get(path))


def test_a_product_of_parameters_is_a_weight():
    model = Mixed()
    rows = attribute(recording_of(model, torch.randn(2, 6, 16))).rows
    phases = {row.phase for row in rows if row.autograd == "MulBackward0" and row.layer == ""}
    assert phases == {"grad_weight"}


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
    newest = loss.grad_fn._sequence_nr()
    assert [newest - node for node in halves.nodes] == [2, 3]
    assert len(marks) == 3 * 2
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_layer_without_time_is_listed():
    timed = Timed(
        attribute(recording_of(nn.Flatten(), torch.randn(2, 3, 4, requires_grad=True))).rows
    )
    assert layer_times(timed)[""] == LayerTime()
