"""The events of a profile joined onto the recording of the same step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.profiler import profile, record_function
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.measure.events import (
    BACKWARD_RANGE,
    EVALUATE,
    FORWARD_RANGE,
    UPDATE_RANGE,
    Event,
    HostEvent,
    Kernel,
    ProfiledEvents,
    event_tree,
    read_events,
)
from flopratio.measure.join import ACCUMULATE, Timed, join
from flopratio.measure.layers import LayerTime, layer_times
from flopratio.measure.nodes import by_node
from flopratio.models import load
from flopratio.trace.attribution import attribute
from flopratio.trace.recording import ACCUMULATE_GRAD, Recording

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


def newest_node(recording: Recording) -> int:
    """The number of the node that backward began with."""
    numbers = {node for graph in recording.graphs for node in graph.nodes}
    return max(numbers - {ACCUMULATE_GRAD})


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


def test_a_node_without_a_record_works_for_the_operator_behind_it(two):
    """The second run of a node: that of the first layer has no gradient but its weight's."""
    p = forward_of_two()
    b, a = 60 + node_of(two, "b"), 60 + node_of(two, "a")
    p.event(EVALUATE + "SumBackward0", 0, number=60)
    p.event(EVALUATE + "AddmmBackward0", number=b, within=[p("aten::mm", 30), p("aten::mm", 10)])
    p.event(EVALUATE + "AddmmBackward0", number=a, within=[p("aten::mm", 50)])
    p.event(EVALUATE + "AddmmBackward0", 3, number=b)
    p.event(EVALUATE + "AddmmBackward0", 7, number=a)
    rest = joined(two, p).rest
    assert (rest["b", "grad_input"], rest["a", "grad_weight"]) == (3, 7)


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


def test_what_attention_computes_again_within_is_in_the_time_of_its_gradients():
    def attend(x):
        return functional.scaled_dot_product_attention(x, x.sin(), x.cos())

    class Attention(nn.Module):
        def forward(self, x):
            return attend(x)

    recording = recording_of(Attention(), torch.randn(2, 3, 8, 16, requires_grad=True))
    name = "aten::_scaled_dot_product_flash_attention_for_cpu_backward"
    node = next(node for node, called in recording.nodes.items() if "Attention" in called)
    p = Profile()
    p.event(EVALUATE + "SumBackward0", number=60 + newest_node(recording))
    number = 60 + node
    p.event(EVALUATE + recording.nodes[node], number=number, within=[p(name, 80)])
    timed = joined(recording, p)
    times = {row.phase: row.time_us for row in timed.rows if row.op.endswith("cpu_backward")}
    assert times == {"grad_input": 80, "recompute": None}
    assert timed.undivided == {}


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


# -- a step on a device ---------------------------------------------------------------------------


def test_backward_in_the_thread_of_a_device_meets_its_records(two):
    """As torch writes it down: what evaluates a node, and the node, have its number and the thread
    that made it; the operators below have none; kernels have the number of their operator."""
    p, device = forward_of_two(), Profile(thread=2)
    b, a = 60 + node_of(two, "b"), 60 + node_of(two, "a")
    p.event(BACKWARD_RANGE, 1000, within=[p("aten::ones_like", 4, kernel=4)])
    device.events, device.now, device.device_now = p.events, 50_000, p.device_now
    device.event(
        EVALUATE + "SumBackward0", number=60, within=[device("SumBackward0", 1, number=60)]
    )
    device.event(
        EVALUATE + "AddmmBackward0",
        number=b,
        kernel=3,  # of the node itself
        within=[
            device(
                "AddmmBackward0",
                number=b,
                within=[device("aten::mm", 1, kernel=30), device("aten::mm", 1, kernel=40)],
            ),
        ],
    )
    device.event(EVALUATE + ACCUMULATE, 1)
    device.event(EVALUATE + ACCUMULATE, 1)
    device.event(EVALUATE + "AddmmBackward0", number=a, within=[device("aten::mm", 1, kernel=50)])
    device.event(EVALUATE + ACCUMULATE, 1)
    device.event(EVALUATE + ACCUMULATE, 1)
    device.launch("triton_poi_fused", 9)
    timed = joined(two, p, on_device=True)
    times = {(row.layer, row.phase, row.op): row.time_us for row in timed.rows if row.time_us}
    assert times["b", "grad_input", "aten.mm"] == 30
    assert times["b", "grad_weight", "aten.mm"] == 40
    assert times["a", "grad_weight", "aten.mm"] == 50
    assert timed.rest == {
        ("b", "grad_input"): pytest.approx(3 * 30 / 70),
        ("b", "grad_weight"): pytest.approx(3 * 40 / 70),
    }
    assert timed.unattributed == {"triton_poi_fused": 9}


def on_cuda(events: ProfiledEvents) -> ProfiledEvents:
    """A profile of the CPU, as the same step writes it down on a device: its backward runs in a
    thread of its own, in which the nodes that a checkpoint makes anew are numbered from 0; and each
    operator that calls no other has a kernel, a thousand times as long as its number."""
    tree = event_tree(events, on_device=False)
    device: dict[Event, bool] = {}
    leaves = []
    for event, parent in zip(tree.events, tree.parents, strict=True):
        device[event] = event.is_node or (parent is not None and device[parent])
        if not event.children and not event.host.is_annotation:
            leaves.append(event.host)
    newest = max(
        event.host.sequence
        for event, parent in zip(tree.events, tree.parents, strict=True)
        if event.is_node and not (parent is not None and device[parent])
    )

    def moved(event: Event) -> HostEvent:
        host = event.host
        if host.sequence > newest and device[event] and host.made_in:
            host = host._replace(sequence=host.sequence - newest - 1, made_in=2)
        return host._replace(thread=2) if device[event] else host

    kernels = [
        Kernel(f"kernel {i}", 10**9 * i, 10**9 * i + 1000 * host.number, 7, host.number)
        for i, host in enumerate(leaves)
    ]
    return ProfiledEvents([moved(event) for event in tree.events], kernels)


class Checkpointed(nn.Module):
    """Two blocks of which each is computed again."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)) for _ in range(2)
        )
        self.first = nn.Linear(4, 4)
        self.reentrant = reentrant

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_meet_their_records_on_the_cpu_and_in_the_thread_of_a_device(reentrant):
    model, x = Checkpointed(reentrant), torch.randn(3, 4)
    recording = recording_of(model, x)
    model.zero_grad()
    events = profile_of(model, x)
    moved = on_cuda(events)
    assert reentrant == any(event.made_in == 2 for event in moved.host)
    rows = []
    for on_device, profiled in ((False, events), (True, moved)):
        tree = event_tree(profiled, on_device=on_device)
        timed = join(recording, attribute(recording), tree)
        assert (timed.unmatched, timed.untraced, timed.unattributed) == ({}, {}, {})
        assert timed.total == pytest.approx(tree.total_ns / 1e3)
        assert layer_times(timed)["blocks.0.0"].recompute > 0
        rows.append([row.time_us is None for row in timed.rows])
        if on_device:
            # Each row has the kernels of its operator, and of what that calls for itself.
            owners = {e.row: e.time_ns / 1e3 for e in tree.events if e.row is not None}
            assert all(timed.rows[row].time_us == time for row, time in owners.items())
    assert rows[0] == rows[1]


# -- real events ----------------------------------------------------------------------------------


def profile_of(model, x, optimizer=None, micro_batches=1) -> ProfiledEvents:
    with profile(use_kineto=True) as profiler:
        for _ in range(micro_batches):
            with record_function(FORWARD_RANGE):
                loss = model(x).sum()
            with record_function(BACKWARD_RANGE):
                loss.backward()
        with record_function(UPDATE_RANGE):
            if optimizer is not None:
                optimizer.step()
    return read_events(profiler)


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


def resnet18() -> nn.Module:
    return load("torchvision:resnet18", {"num_classes": 10}, real=True).module


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3)), (4, 8)),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (2, 3, 8, 8)),
        (Mixed, (2, 6, 16)),
        (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), None),
        (resnet18, (2, 3, 32, 32)),
    ],
    ids=["mlp", "cnn", "transformer", "embedding", "resnet18"],
)  # fmt: skip
@pytest.mark.parametrize("foreach", [False, True])
def test_every_operator_of_a_real_step_has_its_event(build, shape, foreach):
    model = build()
    x = torch.randint(9, (2, 5)) if shape is None else torch.randn(shape)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=foreach)
    recording_of(model, x, optimizer=optimizer)  # which makes the optimizer's state
    optimizer.zero_grad()
    recording = recording_of(model, x, optimizer=optimizer)
    optimizer.zero_grad()
    tree = event_tree(profile_of(model, x, optimizer), on_device=False)
    timed = join(recording, attribute(recording), tree)
    assert (timed.unmatched, timed.untraced, timed.unattributed) == ({}, {}, {})
    assert timed.total == pytest.approx(tree.total_ns / 1e3)
    layers = layer_times(timed)
    assert all(time.update > 0 for path, time in layers.items() if recording.parameters.get(path))


def test_micro_batches_meet_their_records():
    model, x = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)),
        torch.ones(2, 3, 8, 8),
    )
    with fr.Profiler(model) as profiler:
        for _ in range(3):
            model(x).sum().backward()
    model.zero_grad()
    tree = event_tree(profile_of(model, x, micro_batches=3), on_device=False)
    recording = profiler.recording
    timed = join(recording, attribute(recording), tree, shares=by_node(recording, {1: 0.25}))
    assert (timed.unmatched, timed.untraced, timed.unattributed) == ({}, {}, {})
    assert timed.total == pytest.approx(tree.total_ns / 1e3)
    products = [row for row in timed.rows if row.op == "aten.convolution_backward"]
    shared = [row.time_us for row in products if row.layer == "2"]
    assert len(shared) == 6
    for one, other in zip(shared[::2], shared[1::2], strict=True):
        assert sorted([one / (one + other), other / (one + other)]) == pytest.approx([0.25, 0.75])
    assert timed.undivided == {}  # the first layer has one gradient only


def test_gradients_of_gradients_meet_their_records():
    """A penalty on the gradient: a backward within forward, which the other one goes through."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    class Penalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x):
            (slope,) = torch.autograd.grad(self.model(x).sum(), x, create_graph=True)
            return slope.square()

    model, x = Penalized(), torch.randn(2, 3, requires_grad=True)
    recording = recording_of(model, x)
    model.zero_grad()
    x.grad = None
    tree = event_tree(profile_of(model, x), on_device=False)
    timed = join(recording, attribute(recording), tree)
    assert (timed.unmatched, timed.untraced) == ({}, {})
    # Where the first backward is asked for its gradient, the input's is not accumulated.
    assert set(timed.unattributed) == {EVALUATE + ACCUMULATE}
    assert timed.total == pytest.approx(tree.total_ns / 1e3)


def test_twenty_layers_alike_are_told_apart_as_autograd_runs_them():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)))
    x = torch.randn(2, 4)
    recording = recording_of(model, x)
    model.zero_grad()
    tree = event_tree(profile_of(model, x), on_device=False)
    join(recording, attribute(recording), tree)
    runs = sorted((e for e in tree.events if e.row is not None), key=lambda e: e.host.start_ns)
    forward = [e.place[0] for e in runs if e.name == "aten::addmm"]
    assert forward == [str(layer) for layer in range(20)]
    # Autograd runs them from the last; of each the gradient of the input, then of the weight.
    products = [e.place for e in runs if e.name == "aten::mm"]
    expected = [
        (str(n), phase) for n in range(19, -1, -1) for phase in ("grad_input", "grad_weight")
    ]
    expected.remove(("0", "grad_input"))
    assert products == expected
    assert [e.place[0] for e in tree.events if e.name == EVALUATE + "AddmmBackward0"] == [
        str(layer) for layer in range(19, -1, -1)
    ]


def test_what_ran_otherwise_than_in_the_trace_is_named():
    class Chooses(nn.Module):
        fused = False

        def forward(self, x):
            return functional.silu(x) if self.fused else x * torch.sigmoid(x)

    model, x = Chooses(), torch.randn(2, 4, requires_grad=True)
    recording = recording_of(model, x)
    model.fused, x.grad = True, None
    tree = event_tree(profile_of(model, x), on_device=False)
    timed = join(recording, attribute(recording), tree)
    assert timed.unmatched["aten::mul"] == 1 + 2
    assert timed.unmatched["aten::sigmoid"] == 1
    assert timed.unmatched["aten::sigmoid_backward"] == 1
    assert timed.untraced == {"aten::silu": 1, "aten::silu_backward": 1}
    assert timed.total == pytest.approx(tree.total_ns / 1e3)


def test_what_ran_otherwise_in_one_layer_leaves_the_others_where_they_are():
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.fused = False

        def forward(self, x):
            x = self.linear(x)
            return functional.silu(x) if self.fused else x * torch.sigmoid(x)

    model, x = nn.Sequential(*(Chooses() for _ in range(20))), torch.randn(2, 4)
    recording = recording_of(model, x)
    model.zero_grad()
    model[12].fused = True
    tree = event_tree(profile_of(model, x), on_device=False)
    timed = join(recording, attribute(recording), tree)
    assert timed.total == pytest.approx(tree.total_ns / 1e3)
    assert timed.untraced == {"aten::silu": 1, "aten::silu_backward": 1}
    # Of two nodes one was not there, and so one sum of their gradients.
    backward = {"aten::sigmoid_backward": 1, "aten::add": 1}
    assert timed.unmatched == {"aten::sigmoid": 1, "aten::mul": 1 + 2, **backward}
    runs = sorted((e for e in tree.events if e.row is not None), key=lambda e: e.host.start_ns)
    forward = [e.place[0] for e in runs if e.name == "aten::addmm"]
    assert forward == [f"{layer}.linear" for layer in range(20)]
    products = [e.place[0] for e in runs if e.name == "aten::mm"]
    assert products == [f"{layer}.linear" for layer in range(19, -1, -1) for _ in (0, 1)][:-1]


def test_a_profile_of_something_else_is_all_named():
    recording = recording_of(nn.Linear(2, 3), torch.randn(1, 2))
    p = Profile()
    p.event(FORWARD_RANGE, within=[p("aten::conv2d", 7, within=[p("aten::convolution", 3)])])
    p.event(EVALUATE + "ConvolutionBackward0", 5, number=12)
    p.event("aten::item", 2)
    timed = joined(recording, p)
    assert timed.unattributed["aten::conv2d"] == 10
    assert timed.untraced == {"aten::convolution": 1}
    assert timed.unmatched["aten::addmm"] == 1
    assert timed.unmatched["aten::mm"] == 1
    assert all(row.time_us is None for row in timed.rows)
    assert not timed.rest


def test_a_product_of_parameters_is_a_weight():
    model = Mixed()
    rows = attribute(recording_of(model, torch.randn(2, 6, 16))).rows
    phases = {row.phase for row in rows if row.autograd == "MulBackward0" and row.layer == ""}
    assert phases == {"grad_weight"}


def test_a_layer_without_time_is_listed():
    timed = Timed(
        attribute(recording_of(nn.Flatten(), torch.randn(2, 3, 4, requires_grad=True))).rows
    )
    assert layer_times(timed)[""] == LayerTime()
