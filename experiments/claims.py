"""What every experiment does at its end: write its CSV, its picture and its claims."""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from experiments.listed import ORDER
from experiments.printed import Ours, Published, verdict_of, written
from flopratio.report.figures.style import PANEL_HEIGHT, PANEL_WIDTH, write

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
REFERENCE = ROOT / "tests" / "reference"
"""What sources print, as tables; each row has its source."""

CLAIMS = "claims.csv"
COLUMNS = ["experiment", "claim", "source", "published", "ours", "difference", "verdict", "reason"]
COLUMNS += ["measured"]

Draw = Callable[[Path], Sequence[Path]]
"""Draws into a folder and tells the PNG and SVG, as :mod:`flopratio.report.figures` do."""

_output: ContextVar[Path] = ContextVar("output", default=RESULTS)


@dataclass(frozen=True)
class Claim:
    """One sentence that somebody published, and what ran.

    Args:
        claim: can be true or false.
        source: who says so, and where.
        published: the figure as printed; None where the source prints none.
        ours: what was computed, in the unit printed; a fraction where that is per cent. True or
            False where the claim has no figure.
        reason: why it differs; needed when it does.
        measured: there are times in it, so that it differs from run to run.
    """

    claim: str
    source: str
    published: Published
    ours: Ours
    reason: str = ""
    measured: bool = False

    def __post_init__(self) -> None:
        if hasattr(self.ours, "item"):  # NumPy's numbers
            object.__setattr__(self, "ours", self.ours.item())
        if self.verdict == "not reproduced" and not self.reason:
            raise ValueError(
                f"{self.claim!r}: published is {self.published!r}, ours {self.ours!r}; say why"
            )

    @property
    def verdict(self) -> str:
        return verdict_of(self.published, self.ours)[0]

    def row(self, experiment: str) -> dict[str, str]:
        """The claim's row of ``claims.csv``."""
        verdict, difference = verdict_of(self.published, self.ours)
        return {
            "experiment": experiment,
            "claim": self.claim,
            "source": self.source,
            "published": "" if self.published is None else written_published(self.published),
            "ours": written(self.ours, self.published),
            "difference": difference,
            "verdict": verdict,
            "reason": self.reason if verdict != "reproduced" else "",
            "measured": "yes" if self.measured else "",
        }


def written_published(published: Published) -> str:
    return written(published) if isinstance(published, bool) else str(published)


def output() -> Path:
    """The folder into which experiments write."""
    return _output.get()


@contextmanager
def results_in(directory: Path) -> Iterator[None]:
    """Have experiments write into another folder."""
    token = _output.set(directory)
    try:
        yield
    finally:
        _output.reset(token)


def conclude(name: str, frame: pd.DataFrame, draw: Draw | None, claims: Sequence[Claim]) -> None:
    """Write ``NAME.csv``, ``NAME.png`` and ``NAME.svg``, and the experiment's rows of
    ``claims.csv`` in place of those that it had.

    Args:
        draw: draws into a folder that it is given; the files are renamed to NAME. :func:`panels`
            makes one. None: there is no picture.
    """
    directory = output()
    directory.mkdir(parents=True, exist_ok=True)
    frame.to_csv(directory / f"{name}.csv", index=False, lineterminator="\n")
    if draw is not None:
        with TemporaryDirectory(dir=directory) as folder:
            for picture in draw(Path(folder)):
                picture.replace(directory / f"{name}{picture.suffix}")
    with _locked(directory):
        others = [row for row in read_claims(directory) if row["experiment"] != name]
        rows = others + [claim.row(name) for claim in claims]
        places = {each.name: place for place, each in enumerate(ORDER)}
        rows.sort(key=lambda row: places.get(row["experiment"], len(places)))
        with (directory / CLAIMS).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def panels(
    title: str,
    *draws: Callable[[Any], None],
    width: float = PANEL_WIDTH,
    height: float = PANEL_HEIGHT,
) -> Draw:
    """A picture with panels side by side, each drawn by a function of its Axes, in the style of
    every figure.

    Args:
        width, height: of one panel, in inches.
    """

    def draw(directory: Path) -> Sequence[Path]:
        return write(
            directory,
            "picture",
            title,
            draws,
            lambda axes, panel: panel(axes),
            width=width,
            height=height,
        )

    return draw


def reference(name: str) -> pd.DataFrame:
    """A table of what a source prints."""
    return pd.read_csv(REFERENCE / f"{name}.csv", dtype=str, keep_default_na=False)


def read_claims(directory: Path) -> list[dict[str, str]]:
    """The rows of a folder's ``claims.csv``; none if there is no such file."""
    path = directory / CLAIMS
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def changed_claims(before: Path, after: Path, names: Collection[str]) -> list[str]:
    """Where the claims of some experiments differ between two folders, times aside: a sentence for
    each claim."""

    def rows(directory: Path) -> dict[tuple[str, str], dict[str, str]]:
        return {
            (row["experiment"], row["claim"]): row
            for row in read_claims(directory)
            if row["experiment"] in names and not row["measured"]
        }

    old, new = rows(before), rows(after)
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        name = ": ".join(key)
        if key not in old or key not in new:
            found.append(f"{name}: only in {after if key in new else before}")
        elif old[key] != new[key]:
            found += [
                f"{name}: {column} was {old[key][column]!r} and is {new[key][column]!r}"
                for column in COLUMNS
                if old[key][column] != new[key][column]
            ]
    return found


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Experiments that run side by side write the claims one after the other."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
