"""A graph with fewer operators: neighbours of one module drawn as one.

Only operators that ran one after the other are folded, so that a graph stays without a circle; a
module that runs at two places is there twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import ceil

from flopratio.errors import UsageError
from flopratio.networks.description import DECAY_LAYER
from flopratio.verbs.graph.graph import Graph, Operator, Variable, added

MOST = 30
"""So many operators, and no more, are drawn unless somebody asks for them."""

MOST_ALONE = {"parameter": 3, "input": 3, "buffer": 1, "constant": 1}
"""Kind of a variable -> how many are drawn one by one that the same operators read."""

Parts = Sequence[int]
"""Operators that follow each other, by their indices."""


def folded(graph: Graph, depth: int | None) -> Graph:
    """The graph with the operators below the ``depth``-th dot of their layers' paths folded; each
    by itself if that is None.

    Raises:
        UsageError: a negative depth.
    """
    if depth is not None and depth < 0:
        raise UsageError(f"depth={depth} folds nothing: 0 is the whole model, 1 its modules")
    return _merged(graph, _runs(graph, depth), depth)


def readable(graph: Graph) -> Graph:
    """The graph with as many operators as can be read, folded if there are more; a penalty on the
    weights, which is one term of the loss, is one operator.

    Its note says how it was folded.
    """
    runs = _runs(graph, None, apart=(DECAY_LAYER,))
    if len(runs) <= MOST:
        return _merged(graph, runs, None)
    deepest = max(each.layer.count(".") + 1 for each in graph.operators)
    for depth in range(deepest, 0, -1):
        runs = _runs(graph, depth)
        if len(runs) <= MOST or depth == 1:
            break
    size = ceil(len(runs) / MOST)
    together = [
        [part for run in runs[start : start + size] for part in run]
        for start in range(0, len(runs), size)
    ]
    some = _merged(graph, together, depth)
    how = f"by module, as --depth {depth} does" if size == 1 else "into neighbours"
    return replace(
        some,
        note=f"{len(graph.operators):,} operators are folded into {len(together)}, {how}",
    )


def path(layer: str, depth: int | None) -> str:
    """What a layer is folded into."""
    return layer if depth is None else ".".join(layer.split(".")[:depth])


def _runs(graph: Graph, depth: int | None, *, apart: Collection[str] = ()) -> list[list[int]]:
    """The operators that become one, in order.

    Args:
        apart: layers that are folded even where no depth is given.
    """
    runs: list[list[int]] = []
    last: str | None = None
    for index, operator in enumerate(graph.operators):
        name = path(operator.layer, depth)
        alone = depth is None and name not in apart
        if alone or name != last:
            runs.append([])
        runs[-1].append(index)
        last = name
    return runs


def _merged(graph: Graph, runs: Sequence[Parts], depth: int | None) -> Graph:
    """The graph in which each run is one operator."""
    run_of = {part: place for place, run in enumerate(runs) for part in run}
    makers = {variable: run_of[index] for variable, index in graph.maker.items()}
    readers = {
        variable: tuple(dict.fromkeys(run_of[index] for index in indices))
        for variable, indices in graph.readers.items()
    }
    is_inference = not any(operator.runs_backward for operator in graph.operators)
    last = len(runs) - 1
    new: dict[int, int] = {}
    """Variable -> its index among those that are drawn."""
    variables: list[Variable] = []
    inside: defaultdict[int, int] = defaultdict(int)
    outside = graph.outside.saved_bytes
    for index, variable in enumerate(graph.variables):
        maker, read_by = makers.get(index), readers.get(index, ())
        seen = any(run != maker for run in read_by) or variable.kind == "loss"
        if seen or (is_inference and maker == last and not read_by):
            new[index] = len(variables)
            variables.append(variable)
        elif maker is not None:
            inside[maker] += variable.saved_bytes
        else:
            outside += variable.saved_bytes
    operators = [_one(graph, run, new, depth, inside[place]) for place, run in enumerate(runs)]
    merged = replace(
        graph,
        operators=tuple(operators),
        variables=tuple(variables),
        outside=replace(graph.outside, saved_bytes=outside),
        depth=depth,
    )
    return _stacked(merged)


def _one(graph: Graph, run: Parts, new: dict[int, int], depth: int | None, inside: int) -> Operator:
    """The operator that a run becomes."""
    parts = [graph.operators[index] for index in run]
    made = {variable for part in parts for variable in part.writes}

    def drawn(name: str, *, own: bool) -> tuple[int, ...]:
        every = (variable for part in parts for variable in getattr(part, name))
        kept = (variable for variable in every if variable in new and (own or variable not in made))
        return tuple(dict.fromkeys(new[variable] for variable in kept))

    first = parts[0]
    layers = list(dict.fromkeys(path(part.layer, depth) for part in parts))
    if len(parts) == 1:
        layer = first.layer
    else:
        layer = layers[0] if len(layers) == 1 else f"{layers[0]} … {layers[-1]}"
    kind = graph.types.get(layer, "")
    figures = added(layer, kind, (part.figures for part in parts))
    return Operator(
        first.op if len(parts) == 1 else "",
        layer,
        kind,
        sum(part.operators for part in parts),
        replace(figures, saved_bytes=figures.saved_bytes + inside),
        drawn("reads", own=False),
        drawn("writes", own=True),
        drawn("gradients", own=False),
        drawn("keeps", own=True),
        any(part.runs_backward for part in parts),
    )


def _stacked(graph: Graph) -> Graph:
    """The graph in which many parameters, or inputs, that the same operators read are one."""
    alike: defaultdict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for index, variable in enumerate(graph.variables):
        if index not in graph.maker:
            alike[variable.kind, graph.readers.get(index, ())].append(index)
    stack_of = {
        index: indices
        for (kind, _), indices in alike.items()
        if len(indices) > MOST_ALONE.get(kind, 1)
        for index in indices
    }
    new: dict[int, int] = {}
    variables: list[Variable] = []
    for index in range(len(graph.variables)):
        stack = stack_of.get(index, [index])
        if index != stack[0]:
            new[index] = new[stack[0]]
            continue
        new[index] = len(variables)
        variables.append(_together([graph.variables[each] for each in stack]))

    def renamed(indices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(new[index] for index in indices))

    operators = tuple(
        replace(
            operator,
            reads=renamed(operator.reads),
            writes=renamed(operator.writes),
            gradients=renamed(operator.gradients),
            keeps=renamed(operator.keeps),
        )
        for operator in graph.operators
    )
    return replace(graph, operators=operators, variables=tuple(variables))


def _together(variables: Sequence[Variable]) -> Variable:
    first = variables[0]
    if len(variables) == 1:
        return first
    dtypes = {variable.dtype for variable in variables}
    return Variable(
        first.kind,
        dtype=first.dtype if len(dtypes) == 1 else "",
        numbers=sum(variable.numbers for variable in variables),
        saved_bytes=sum(variable.saved_bytes for variable in variables),
        has_gradient=any(variable.has_gradient for variable in variables),
        tensors=sum(variable.tensors for variable in variables),
    )
