"""Run experiments and print the table of their claims.

python -m experiments [NAME ...] [-o results] [-j 2]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.claims import RESULTS, read_claims
from experiments.listed import EXPERIMENTS
from experiments.run import run_all

COLOURS = {"reproduced": "green", "not reproduced": "yellow", "not published": "dim"}


def claims_table(rows: Sequence[dict[str, str]]) -> Table:
    """The claims, experiment by experiment; below each that isn't reproduced, the reason."""
    table = Table("experiment", "claim", "published", "ours", "difference", "verdict")
    before = ""
    for row in rows:
        name = row["experiment"]
        if before not in ("", name):
            table.add_section()
        claim = Text(f"{row['claim']} ")
        claim.append(f"({row['source']})", "dim")
        if row["reason"]:
            claim.append(f"\n{row['reason']}", "italic")
        verdict = Text(row["verdict"], COLOURS[row["verdict"]])
        table.add_row(
            Text(name if name != before else ""),
            claim,
            *(Text(row[column]) for column in ("published", "ours", "difference")),
            verdict,
        )
        before = name
    return table


def summary(rows: Sequence[dict[str, str]]) -> str:
    """How many claims there are, by verdict."""
    found = [row["verdict"] for row in rows]
    each = [f"{found.count(verdict)} {verdict}" for verdict in COLOURS if verdict in found]
    return f"{len(found)} claims: {', '.join(each)}" if found else "no claims"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m experiments", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many run side by side")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(EXPERIMENTS)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    chosen = [each for name, each in EXPERIMENTS.items() if name in given.names or not given.names]
    failed = []
    for done, (name, seconds, error) in enumerate(run_all(chosen, given.output, given.jobs), 1):
        rows = [row for row in read_claims(given.output) if row["experiment"] == name]
        outcome = "FAILED" if error else f"{seconds:.1f} s, {summary(rows)}"
        print(f"[{done}/{len(chosen)}] {name}: {outcome}", file=sys.stderr, flush=True)
        if error:
            failed.append(name)
            print(error, file=sys.stderr)
    rows = read_claims(given.output)
    rows = [row for row in rows if row["experiment"] in {each.name for each in chosen}]
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(claims_table(rows))
    console.print(summary(rows))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
