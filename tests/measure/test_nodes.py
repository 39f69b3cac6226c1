"""Nodes of backward in two runs of the same step."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.measure.nodes import by_node, same_nodes
from flopratio.trace.recording import ACCUMULATE_GRAD


def test_as_many_nodes_meet_in_their_order():
    """They count from different numbers."""
    names = {7: "Sum", 6: "View", 5: "Addmm"}
    assert same_nodes(names, [3, 2, 1], {3: "Sum", 1: "Addmm"}) == {7: 3, 6: 2, 5: 1}


def test_some_may_be_called_otherwise():
    """As a view's, that is made otherwise while it is watched: half of them, at most."""
    profiled = {7: "Sum", 6: "View", 5: "Addmm"}
    half = {3: "Sum", 2: "UnsafeView"}
    assert same_nodes(profiled, [3, 2, 1], half) == {7: 3, 6: 2, 5: 1}
    most = {3: "Sum", 2: "UnsafeView", 1: "Mm"}
    assert same_nodes(profiled, [3, 2, 1], most) == {7: 3, 6: None, 5: None}


def test_more_or_fewer_nodes_meet_by_name():
    profiled = {9: "Sum", 8: "Silu", 7: "Addmm", 6: "Silu", 5: "Addmm"}
    recorded = {9: "Sum", 8: "Mul", 7: "Sigmoid", 6: "Addmm", 5: "Silu", 4: "Addmm"}
    assert same_nodes(profiled, recorded, recorded) == {9: 9, 8: None, 7: 6, 6: 5, 5: 4}


def test_what_is_known_of_a_node_is_known_of_it_in_each_backward():
    model = nn.Linear(2, 2)
    with fr.Profiler(model) as profiler:
        for _ in range(2):
            model(torch.randn(1, 2)).sum().backward()
    recording = profiler.recording
    linear = [node for node, name in recording.nodes.items() if name == "AddmmBackward0"]
    assert len(linear) == 2
    assert by_node(recording, {1: 0.25, 7: 0.5}) == dict.fromkeys(linear, 0.25)


def test_a_backward_within_another_is_not_counted_from_its_own_newest():
    """A reentrant checkpoint's."""
    layers = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    x = torch.randn(1, 2, requires_grad=True)
    with fr.Profiler(layers) as profiler:
        checkpoint(layers, x, use_reentrant=True).sum().backward()
    outer, inner = profiler.recording.graphs
    assert inner.within is not None
    newest = max(node for node in outer.nodes if node != ACCUMULATE_GRAD)
    assert by_node(profiler.recording, {0: 0.25, 1: 0.5}) == {newest: 0.25, newest - 1: 0.5}
