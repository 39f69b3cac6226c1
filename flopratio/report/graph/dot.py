"""A graph in Graphviz's DOT: boxes are variables, circles operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    tooltip,
    variable_labels,
)
from flopratio.verbs.graph.graph import Graph


def dot(graph: Graph, *, exact: bool = False) -> str:
    """The graph as a document for ``dot``.

    Args:
        exact: every digit of every figure.
    """
    lines = [
        "digraph {",
        "  rankdir=LR; labelloc=t; labeljust=l;",
        f"  label={_quoted(headline(graph), *summary(graph, exact=exact))};",
        '  node [fontname="Helvetica", fontsize=10]; edge [arrowsize=0.7];',
        *_variables(graph, exact),
        *_operators(graph, exact),
        *_arrows(graph),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _variables(graph: Graph, exact: bool) -> Iterable[str]:
    for index, label in enumerate(variable_labels(graph, exact=exact)):
        variable = graph.variables[index]
        colours = ""
        if variable.saved_bytes:
            colours = f', style=filled, fillcolor="{SAVED_FILL}", color="{SAVED}"'
        elif variable.kind not in ("value", "loss"):
            colours = f', style=filled, fillcolor="{GIVEN_FILL}"'
        saved = [f"saved {label.saved}"] if label.saved else []
        name = letter_and_index(label.name)
        words = _quoted(name, *label.size, *saved)
        title = _quoted(*tooltip(variable).split("\n"))
        yield f"  v{index} [shape=box, label={words}, tooltip={title}{colours}];"
        if variable.has_gradient:
            words = _quoted(f"∂{name}", *label.size)
            yield f'  dv{index} [shape=box, label={words}, color="{BACKWARD}"];'


def _operators(graph: Graph, exact: bool) -> Iterable[str]:
    for index, label in enumerate(operator_labels(graph, exact=exact)):
        operator = graph.operators[index]
        shape = "doublecircle" if operator.operators > 1 else "circle"
        inside = [f"saved inside {label.inside}"] if label.inside else []
        words = _quoted(label.sign, label.name, *label.forward, *inside)
        title = _quoted(*tooltip(operator).split("\n"))
        yield (
            f"  o{index} [shape={shape}, label={words}, tooltip={title}, style=filled, "
            f'fillcolor="{FORWARD_FILL}", color="{FORWARD}"];'
        )
        if operator.runs_backward:
            words = _quoted(label.sign, label.name, *label.backward)
            yield (
                f"  do{index} [shape={shape}, label={words}, style=filled, "
                f'fillcolor="{BACKWARD_FILL}", color="{BACKWARD}"];'
            )


def _arrows(graph: Graph) -> Iterable[str]:
    """Backward's arrows don't move what forward's have placed."""
    back = f'color="{BACKWARD}", constraint=false'
    for index, operator in enumerate(graph.operators):
        for variable in operator.reads:
            yield f"  v{variable} -> o{index};"
        for variable in operator.writes:
            yield f"  o{index} -> v{variable};"
            if operator.runs_backward and graph.variables[variable].has_gradient:
                yield f"  dv{variable} -> do{index} [{back}];"
        for variable in operator.gradients if operator.runs_backward else ():
            yield f"  do{index} -> dv{variable} [{back}];"
        for variable in operator.keeps if operator.runs_backward else ():
            yield (f'  v{variable} -> do{index} [color="{SAVED}", style=dotted, constraint=false];')
        if operator.runs_backward:
            yield f"  {{ rank=same; o{index}; do{index}; }}"
    for index, each in enumerate(graph.variables):
        if each.has_gradient:
            yield f"  {{ rank=same; v{index}; dv{index}; }}"


def _quoted(*lines: str) -> str:
    """Lines as one string of DOT, which only knows quotes and backslashes to be special."""
    return '"' + "\\n".join(_escaped(lines)) + '"'


def _escaped(lines: Sequence[str]) -> list[str]:
    return [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
