"""The verdict of a check on a terminal: the headline, what changed, and how to accept it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from flopratio.report import difference
from flopratio.report.check.sentences import findings, headline
from flopratio.report.units import plural
from flopratio.verbs.check import CaseVerdict, Verdict

STYLES = {"CHANGED": "bold red", "FAILED": "bold red", "NEW": "bold yellow", "GONE": "bold yellow"}

TOP = 20
"""So many layers of a case are listed, or groups of layers that changed alike."""


def page(verdict: Verdict, accept: str, *, every: bool = False) -> Group:
    """All that is printed.

    Args:
        accept: how to accept what changed; empty if there is nothing to accept.
        every: also name the cases that hold.
    """
    parts: list[RenderableType] = [
        Text(headline(verdict), "bold green" if verdict.holds else "bold red")
    ]
    for case in verdict.cases:
        if not case.holds:
            parts += ["", *_case(case)]
    held = [case for case in verdict.cases if case.holds]
    if every:
        parts += ["", *(Text(f"ok  {_named(case)}") for case in held)]
    elif held and len(held) < len(verdict.cases):
        parts += ["", Text(f"{plural(len(held), 'case')} as in the lock")]
    if accept:
        parts += ["", Text(accept)]
    return Group(*parts)


def _named(case: CaseVerdict) -> str:
    return case.name if case.case is None else f"{case.name}: {case.case.step}"


def _case(case: CaseVerdict) -> list[RenderableType]:
    states = Text(" ").join(Text(state, STYLES[state]) for state in case.states)
    parts: list[RenderableType] = [Text.assemble(states, "  ", (_named(case), "bold"))]
    parts += [Padding(Text(sentence), (0, 0, 0, 2)) for sentence in findings(case)]
    if case.difference is not None and not case.difference.equal:
        parts += ["", Padding(difference.page(case.difference, TOP), (0, 0, 0, 2))]
    return parts
