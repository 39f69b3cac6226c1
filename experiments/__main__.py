"""Run experiments and print the table of their claims.

python -m experiments [NAME ...] [-o results] [-j 2] [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.claims import RESULTS, changed_claims, read_claims
from experiments.listed import EXPERIMENTS, Experiment
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
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a claim is not as it was"
    )
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(EXPERIMENTS)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    chosen = [each for name, each in EXPERIMENTS.items() if name in given.names or not given.names]
    if not given.check:
        return run_chosen(chosen, given.output, given.jobs)
    chosen = [each for each in chosen if not each.alone]
    with TemporaryDirectory() as folder:
        failed = run_chosen(chosen, Path(folder), given.jobs)
        changed = changed_claims(given.output, Path(folder), {each.name for each in chosen})
    for sentence in changed:
        print(sentence, file=sys.stderr)
    return 1 if failed or changed else 0


def run_chosen(chosen: Sequence[Experiment], directory: Path, jobs: int) -> int:
    """Run experiments with a line each, and print their claims; 1 if one failed."""
    failed = []
    for done, (name, seconds, error) in enumerate(run_all(chosen, directory, jobs), 1):
        rows = [row for row in read_claims(directory) if row["experiment"] == name]
        outcome = "FAILED" if error else f"{seconds:.1f} s, {summary(rows)}"
        print(f"[{done}/{len(chosen)}] {name}: {outcome}", file=sys.stderr, flush=True)
        if error:
            failed.append(name)
            print(error, file=sys.stderr)
    rows = read_claims(directory)
    rows = [row for row in rows if row["experiment"] in {each.name for each in chosen}]
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(claims_table(rows))
    console.print(summary(rows))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
