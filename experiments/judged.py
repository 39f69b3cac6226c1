"""What every experiment does at its end: print a verdict, write its CSV, and fail if it fails."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent.parent / "results"

Finding = tuple[str, object, object]
"""A claim, what was expected of it and what was observed: it holds if the two are equal."""


def conclude(
    name: str, frame: pd.DataFrame, pictures: Sequence[Path], findings: list[Finding]
) -> None:
    """Write ``results/NAME.csv`` and ``.png``, print the verdict, exit 1 if a finding fails.

    Args:
        pictures: PNG and SVG as drawn; they are renamed to NAME.
    """
    frame.to_csv(RESULTS / f"{name}.csv", index=False, lineterminator="\n")
    for picture in pictures:
        picture.replace(RESULTS / f"{name}{picture.suffix}")
    table = Table("claim", "expected", "observed", "", title=name)
    failed = 0
    for claim, expected, observed in findings:
        holds = expected == observed
        failed += not holds
        table.add_row(claim, str(expected), str(observed), "holds" if holds else "FAILS")
    Console(width=110).print(table)
    if failed:
        sys.exit(1)
