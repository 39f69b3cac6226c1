"""The computational graph of any model's training step, from the one trace that its ledger is made
of."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from flopratio.step.options import StepOptions
from flopratio.step.random_state import own_random_state
from flopratio.step.run import Step
from flopratio.torch_private import tree_leaves
from flopratio.trace.attribution import attribute
from flopratio.trace.profiler import Profiler
from flopratio.verbs.count import checked, with_step
from flopratio.verbs.graph.folding import folded, readable
from flopratio.verbs.graph.graph import Graph
from flopratio.verbs.graph.operators import operator_graph
from flopratio.verbs.traced import trace_step


def graph_step(
    model: torch.nn.Module | str,
    batch: Any,
    settings: Mapping[str, Any],
    options: StepOptions,
    *,
    fold: int | None = None,
    operators: bool = False,
) -> Graph:
    """The computational graph of one training step.

    Args:
        model, batch, settings: as :func:`flopratio.count` takes them.
        options: how the step is run.
        fold: fold layers below so many dots of their path; what can be read unless given.
        operators: every operator by itself, however many there are.

    Raises:
        UsageError: the model can't be run this way; one sentence says why.
    """
    settings = checked(model, batch, settings, "graph")
    with own_random_state():
        graph = with_step(model, batch, settings, options, _graph_of)
    if operators:
        return folded(graph, None)
    return readable(graph) if fold is None else folded(graph, fold)


def _graph_of(step: Step, name: str) -> Graph:
    profiler = trace_step(step)
    recording = profiler.recording
    graph = operator_graph(recording, attribute(recording), _names(step, profiler))
    return replace(graph, model=name, settings=dict(step.example.settings))


def _names(step: Step, profiler: Profiler) -> dict[int, str]:
    """Storage -> the name of the parameter, buffer or input that it holds."""
    module = step.module
    named: list[tuple[str, Any]] = [*module.named_parameters(), *module.named_buffers()]
    args, kwargs = step.inputs
    parameters = list(inspect.signature(module.forward).parameters)
    names = [*parameters, *(f"input{place}" for place in range(len(parameters), len(args)))]
    named += zip(names, args, strict=False)
    named += kwargs.items()
    if step.target is not None:
        named.append(("target", step.target))
    return {
        number: name
        for name, value in reversed(named)
        for tensor in tree_leaves(value)
        if isinstance(tensor, torch.Tensor)
        for number in profiler.storages_of(tensor)
        if number >= 0
    }
