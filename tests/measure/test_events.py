"""What torch's profiler saw, as plain data: recorded events, written by hand after torch's sources
(kineto's activities of a step on CUDA), and what is made of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from flopratio import torch_private
from flopratio.measure.events import (
    BACKWARD_RANGE,
    EVALUATE,
    FORWARD_RANGE,
    UPDATE_RANGE,
    HostEvent,
    Kernel,
    ProfiledEvents,
    event_tree,
    idle_ns,
    read_events,
    step_phases,
)


class Device(NamedTuple):
    name: str


class Kineto(NamedTuple):
    """An event as torch has it: its attributes are methods."""

    label: str
    start: int
    end: int
    number: int
    linked: int = 0
    device: str = "CPU"
    kind: str = "cpu_op"
    thread: int = 1
    is_async_: bool = False

    def name(self) -> str:
        return self.label

    def start_ns(self) -> int:
        return self.start

    def end_ns(self) -> int:
        return self.end

    def correlation_id(self) -> int:
        return self.number

    def linked_correlation_id(self) -> int:
        return self.linked

    def device_type(self) -> Device:
        return Device(self.device)

    def activity_type(self) -> str:
        return self.kind

    def is_user_annotation(self) -> bool:
        return self.kind.endswith("user_annotation")

    def is_async(self) -> bool:
        return self.is_async_

    def is_hidden_event(self) -> bool:
        return False

    def start_thread_id(self) -> int:
        return self.thread

    def fwd_thread_id(self) -> int:
        return 0

    def sequence_nr(self) -> int:
        return -1

    def device_resource_id(self) -> int:
        return 7


class Results(NamedTuple):
    kineto_results: Any


class Listed(NamedTuple):
    listed: list[Kineto]

    def events(self) -> list[Kineto]:
        return self.listed


ON_CUDA = [
    Kineto(FORWARD_RANGE, 0, 100, 1, kind="user_annotation"),
    Kineto("aten::mm", 10, 30, 2),
    # The runtime's call has CUPTI's number, and that of its operator beside it; its thread is the
    # system's.
    Kineto("cudaLaunchKernel", 15, 20, 900, linked=2, kind="cuda_runtime", thread=18530),
    Kineto("sgemm", 40, 70, 900, linked=2, device="CUDA", kind="kernel"),
    Kineto("aten::copy_", 31, 39, 3),
    Kineto("Memcpy HtoD (Pageable -> Device)", 70, 75, 901, 3, "CUDA", "gpu_memcpy"),
    Kineto("Memset (Device)", 76, 80, 902, 3, "CUDA", "gpu_memset"),
    # The range once more, on the device: around the kernels that were launched in it.
    Kineto(FORWARD_RANGE, 40, 80, 1, device="CUDA", kind="gpu_user_annotation"),
    # Outside of all operators, with a number that an operator has.
    Kineto("cudaDeviceSynchronize", 110, 120, 2, kind="cuda_runtime", thread=18530),
    Kineto("Context Sync", 110, 120, 2, device="CUDA", kind="cuda_sync"),
    Kineto("triton_poi_fused", 121, 131, 903, device="CUDA", kind="kernel"),
    Kineto("aten::is_leaf", 32, 33, 4),
    Kineto("[memory]", 32, 32, 0),
    Kineto("aten::rpc", 0, 9, 5, is_async_=True),
]


@pytest.mark.parametrize("kinds_are_told", [True, False], ids=["torch 2.13", "torch 2.8"])
def test_operators_and_kernels_are_told_from_all_else(monkeypatch, kinds_are_told):
    told = Kineto.activity_type if kinds_are_told else None
    monkeypatch.setattr(torch_private, "_kind_of_event", told)
    monkeypatch.setattr(torch_private, "_is_hidden_event", Kineto.is_hidden_event)
    # Without kinds a wait is not told from a kernel: no profile of ours asks for them.
    seen = [e for e in ON_CUDA if kinds_are_told or e.kind != "cuda_sync"]
    events = read_events(Results(Listed(seen)))
    assert [event.name for event in events.host] == [FORWARD_RANGE, "aten::mm", "aten::copy_"]
    assert [kernel.name for kernel in events.kernels] == [
        "sgemm",
        "Memcpy HtoD (Pageable -> Device)",
        "Memset (Device)",
        "triton_poi_fused",
    ]
    tree = event_tree(events, on_device=True)
    (forward,) = tree.roots
    assert [child.time_ns for child in forward.children] == [30, 5 + 4]
    assert [kernel.name for kernel in tree.orphans] == ["triton_poi_fused"]
    assert tree.total_ns == forward.time_ns + 10 == 49


def host(name, start, end, number, *, thread=1, is_range=False):
    return HostEvent(name, start, end, thread, number, is_annotation=is_range)


STEP = [
    host(FORWARD_RANGE, 0, 100, 1, is_range=True),
    host("aten::linear", 10, 50, 2),
    host("aten::addmm", 20, 45, 3),
    host(BACKWARD_RANGE, 100, 200, 4, is_range=True),
    host("aten::ones_like", 105, 110, 5),
    host(EVALUATE + "AddmmBackward0", 120, 160, 6, thread=2),
    host("aten::mm", 130, 150, 7, thread=2),
    host(UPDATE_RANGE, 200, 260, 8, is_range=True),
    host("Optimizer.step#SGD.step", 205, 250, 9, is_range=True),
    host("aten::add_", 210, 230, 10),
]


def test_what_lies_in_a_range_between_operators_is_idle_on_the_cpu():
    same_thread = [event._replace(thread=1) for event in STEP]
    tree = event_tree(ProfiledEvents(same_thread), on_device=False)
    assert [(root.name, root.time_ns) for root in tree.roots] == [
        (FORWARD_RANGE, 40),
        (BACKWARD_RANGE, 5 + 40),
        (UPDATE_RANGE, 20),
    ]
    assert tree.total_ns == 105
    idle = idle_ns(tree, on_device=False)
    assert idle == {"forward": 60, "backward": 55, "update": 40}


def test_a_device_is_idle_between_kernels_and_streams_are_merged():
    kernels = [
        Kernel("a", 30, 60, 7, 3),
        Kernel("b", 50, 90, 8, 3),  # on another stream, beside a
        Kernel("c", 55, 58, 9, 3),
        Kernel("d", 95, 99, 7, 5),  # 5 after b: launched by ones_like, in backward
        Kernel("e", 140, 170, 7, 7),  # 41 after d
        Kernel("f", 175, 180, 7, 0),  # 5 after e: nobody's, and so as the one before
        Kernel("g", 240, 250, 7, 10),  # 60 after f
    ]
    tree = event_tree(ProfiledEvents(STEP, kernels), on_device=True)
    idle = idle_ns(tree, on_device=True)
    assert idle == {"forward": 0, "backward": 5 + 41 + 5, "update": 60}
    busy = (90 - 30) + 4 + 30 + 5 + 10
    assert sum(idle.values()) + busy == 250 - 30
    assert tree.total_ns == sum(kernel.duration_ns for kernel in kernels)


def test_the_thread_of_a_device_is_backward():
    tree = event_tree(ProfiledEvents(STEP), on_device=True)
    phases = {event.name: phase for event, phase in step_phases(tree).items()}
    assert phases["aten::mm"] == "backward"
    assert phases["aten::addmm"] == "forward"
    assert phases["aten::add_"] == "update"


def test_no_events():
    tree = event_tree(ProfiledEvents(), on_device=True)
    assert (tree.total_ns, tree.roots) == (0, [])
    assert idle_ns(tree, on_device=True) == {"forward": 0, "backward": 0, "update": 0}


def test_one_after_another_is_not_one_inside_another():
    events = [host("a", 0, 10, 1), host("b", 10, 10, 2), host("c", 10, 20, 3)]
    tree = event_tree(ProfiledEvents(events), on_device=False)
    assert tree.total_ns == 20
