"""A graph in Mermaid, which GitHub and many notebooks draw: boxes are variables, circles
operators."""

from __future__ import annotations

import json
from collections.abc import Iterable

from flopratio.report.graph.colours import (
    BACKWARD,
    BACKWARD_FILL,
    FORWARD,
    FORWARD_FILL,
    GIVEN_FILL,
    SAVED,
    SAVED_FILL,
)
from flopratio.report.graph.labels import (
    headline,
    letter_and_index,
    operator_labels,
    summary,
    variable_labels,
)
from flopratio.verbs.graph.graph import Graph

CLASSES = {
    "variable": "fill:#FFFFFF,stroke:#222222,color:#222222",
    "given": f"fill:{GIVEN_FILL},stroke:#222222,color:#222222",
    "saved": f"fill:{SAVED_FILL},stroke:{SAVED},color:#222222",
    "operator": f"fill:{FORWARD_FILL},stroke:{FORWARD},color:#222222",
    "gradient": f"fill:#FFFFFF,stroke:{BACKWARD},color:{BACKWARD}",
    "backward": f"fill:{BACKWARD_FILL},stroke:{BACKWARD},color:{BACKWARD}",
}
"""Class of a node -> how it looks."""


def mermaid(graph: Graph, *, exact: bool = False) -> str:
    """The graph as a flowchart.

    Args:
        exact: every digit of every figure.
    """
    lines = [
        "---",
        f"title: {json.dumps(headline(graph))}",
        "---",
        "flowchart LR",
        *(f"  %% {line}" for line in summary(graph, exact=exact)),
        *_variables(graph, exact),
        *_operators(graph, exact),
        *_arrows(graph),
        *(f"  classDef {name} {style}" for name, style in CLASSES.items()),
    ]
    return "\n".join(lines) + "\n"


def _variables(graph: Graph, exact: bool) -> Iterable[str]:
    for index, label in enumerate(variable_labels(graph, exact=exact)):
        variable = graph.variables[index]
        saved = [f"saved {label.saved}"] if label.saved else []
        kind = "variable" if variable.kind in ("value", "loss") else "given"
        name = letter_and_index(label.name)
        words = _quoted(name, *label.size, *saved)
        yield f"  v{index}[{words}]:::{'saved' if saved else kind}"
        if variable.has_gradient:
            yield f"  dv{index}[{_quoted(f'∂{name}', *label.size)}]:::gradient"


def _operators(graph: Graph, exact: bool) -> Iterable[str]:
    for index, label in enumerate(operator_labels(graph, exact=exact)):
        operator = graph.operators[index]
        left, right = ("(((", ")))") if operator.operators > 1 else ("((", "))")
        inside = [f"saved inside {label.inside}"] if label.inside else []
        words = _quoted(label.sign, label.name, *label.forward, *inside)
        yield f"  o{index}{left}{words}{right}:::operator"
        if operator.runs_backward:
            words = _quoted(label.sign, label.name, *label.backward)
            yield f"  do{index}{left}{words}{right}:::backward"


def _arrows(graph: Graph) -> Iterable[str]:
    for index, operator in enumerate(graph.operators):
        yield from (f"  v{variable} --> o{index}" for variable in operator.reads)
        yield from (f"  o{index} --> v{variable}" for variable in operator.writes)
        if not operator.runs_backward:
            continue
        for variable in operator.writes:
            if graph.variables[variable].has_gradient:
                yield f"  dv{variable} --> do{index}"
        yield from (f"  do{index} --> dv{variable}" for variable in operator.gradients)
        yield from (f"  v{variable} -.-> do{index}" for variable in operator.keeps)


def _quoted(*lines: str) -> str:
    """Lines as one string of Mermaid, in which every sign but letters, digits and a few others is
    written as its number: names can hold anything."""
    return '"' + "<br/>".join("".join(map(_escaped, line)) for line in lines) + '"'


def _escaped(sign: str) -> str:
    plain = sign.isalnum() or sign in " .,:()=/_+−×∂∗Σ…"
    return sign if plain else f"#{ord(sign)};"
