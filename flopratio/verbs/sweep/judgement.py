"""How claims are judged: of each row of a sweep, or along lines of rows that differ in one KEY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from flopratio.text.grammar import format_value
from flopratio.verbs.sweep.file import SweepRow


class Claim(TypedDict):
    """One claim and what became of it."""

    claim: str
    expected: str
    observed: str
    tolerance: float
    """How far ``observed`` may be from ``expected``; 0: exactly equal."""
    holds: bool | None
    """None: it could not be tested, and ``observed`` says why."""


class Judgement:
    """Collects claims about rows, and about lines: rows that differ in one KEY alone."""

    def __init__(self, rows: Sequence[SweepRow], keys: Sequence[str]) -> None:
        self.rows = rows
        self.keys = keys
        self.claims: list[Claim] = []
        self.trained = [row for row in rows if row["freeze"] is None]
        """The points where every parameter asks for its gradient."""

    def leave_out(self, claim: str, why: str, expected: str = "") -> None:
        """Name a claim that is not judged."""
        if self.rows:
            observed = f"left out: {why}"
            self.claims.append(
                Claim(claim=claim, expected=expected, observed=observed, tolerance=0.0, holds=None)
            )

    def points(
        self,
        claim: str,
        expected: str,
        rows: Sequence[SweepRow],
        holds: Callable[[SweepRow], bool],
        figure: Callable[[SweepRow], Any],
        form: str,
        tolerance: float = 0.0,
    ) -> None:
        """Claim that something ``holds`` at each of ``rows``, and show the figures as ``form``."""
        self._add(
            claim,
            expected,
            [[row] for row in rows],
            lambda line: holds(line[0]),
            lambda line: [figure(line[0])],
            form,
            tolerance,
        )

    def lines(
        self,
        claim: str,
        expected: str,
        rows: Sequence[SweepRow],
        key: str,
        least: int,
        holds: Callable[[list[SweepRow]], bool],
        figures: Callable[[list[SweepRow]], Sequence[Any]],
        form: str,
    ) -> None:
        """Claim that something ``holds`` along each line of at least ``least`` values of ``key``,
        in ascending order, and show the ``figures`` of each."""
        fixed = ["model", *(other for other in self.keys if other != key)]
        grouped: dict[tuple[object, ...], list[SweepRow]] = {}
        for row in rows:
            if row.get(key) is not None:
                grouped.setdefault(tuple(row[column] for column in fixed), []).append(row)
        lines = [sorted(line, key=lambda row: int(row[key])) for line in grouped.values()]
        long_enough = [line for line in lines if len(line) >= least]
        self._add(claim, expected, long_enough, holds, figures, form, 0.0)

    def affine(self, what: str, column: str, rows: Sequence[SweepRow], key: str, unit: str) -> None:
        """Claim that a column is a + b ``key`` along each line."""

        def rise(start: SweepRow, end: SweepRow) -> tuple[int, int]:
            return end[column] - start[column], end[key] - start[key]

        def is_affine(line: list[SweepRow]) -> bool:
            whole, whole_run = rise(line[0], line[-1])
            parts = [rise(line[0], row) for row in line]
            return all(part * whole_run == whole * run for part, run in parts)

        def slope(line: list[SweepRow]) -> float:
            whole, whole_run = rise(line[0], line[-1])
            return whole / whole_run

        self.lines(
            f"{what} are affine in {key}",
            f"a + b {key}, b in {unit}",
            rows,
            key,
            3,
            is_affine,
            lambda line: [slope(line)],
            "{:,.0f}",
        )

    def _add(
        self,
        claim: str,
        expected: str,
        lines: Sequence[list[SweepRow]],
        holds: Callable[[list[SweepRow]], bool],
        figures: Callable[[list[SweepRow]], Sequence[Any]],
        form: str,
        tolerance: float,
    ) -> None:
        if not lines:
            return
        failing = [line for line in lines if not holds(line)]
        shown = [figure for line in failing[:1] or lines for figure in figures(line)]
        bounds = span(shown, form)
        if failing:
            ends = (self._name(row) for row in (failing[0][0], failing[0][-1]))
            where = " to ".join(dict.fromkeys(ends))
            observed = f"{bounds} at {where}; fails for {len(failing)} of {len(lines)}"
        else:
            observed = f"{bounds} at {sum(map(len, lines))} points"
        self.claims.append(
            Claim(
                claim=claim,
                expected=expected,
                observed=observed,
                tolerance=tolerance,
                holds=not failing,
            )
        )

    def _name(self, row: SweepRow) -> str:
        """A point by the KEYs in which points differ."""
        alike = [other for other in self.rows if other["model"] == row["model"]]
        varying = [key for key in self.keys if len({other[key] for other in alike}) > 1]
        return " ".join([row["model"], *(f"{key}={format_value(row[key])}" for key in varying)])


def span(figures: Sequence[Any], form: str) -> str:
    """The lowest and the highest of some figures, or the one that all are."""
    low, high = form.format(min(figures)), form.format(max(figures))
    return low if low == high else f"{low} to {high}"
