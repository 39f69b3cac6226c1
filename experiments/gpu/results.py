"""What ``make gpu`` brought back, drawn and judged: ``make gpu-results FROM=DIR TO=results/h200``.

TO gets the rows, the plots, ``claims.json`` (and ``claims.md``, for people), and for each dtype of
the sweep a folder as ``flopratio sweep`` writes it. A folder of ``results/`` takes rows only of the
GPU that it is named after.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.gpu import environment, roofs
from experiments.gpu.claims import (
    counter_claims,
    markdown,
    memory_claims,
    smoke_claims,
    zoo_claims,
)
from experiments.gpu.figures import draw_memory, draw_zoo
from experiments.gpu.rows import Rows, read_rows
from experiments.gpu.sweep_results import draw_sweeps
from flopratio.errors import UsageError
from flopratio.verbs.sweep.judgement import Claim

RESULTS = Path(__file__).parents[2] / "results"
TABLES = ("smoke", "memory", "sweep", "zoo", "counters")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu.results")
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="TO")
    arguments = parser.parse_args(argv)
    try:
        claims = collect(arguments.source, arguments.target)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    from rich.console import Console

    from flopratio.report.verdict import verdict_headline, verdict_table

    console = Console()
    console.print(f"{verdict_headline(claims)}, in {arguments.target}", highlight=False)
    console.print(verdict_table(claims))
    return 0


def collect(source: Path, target: Path) -> list[Claim]:
    """Fill TO with what is in FROM.

    Raises:
        UsageError: FROM has no rows, or TO is for those of another device.
    """
    path = source / environment.NAME
    if not path.exists():
        raise UsageError(f"{source} has no {environment.NAME}: it should be a folder of make gpu")
    found = json.loads(path.read_text(encoding="utf-8"))
    tables = {name: read_rows(source / f"{name}.csv") for name in TABLES}
    check_target(target, found, tables)
    target.mkdir(parents=True, exist_ok=True)
    for name in (environment.NAME, roofs.NAME, *(f"{name}.csv" for name in TABLES)):
        if (source / name).exists() and source.resolve() != target.resolve():
            shutil.copyfile(source / name, target / name)
    claims = [
        *smoke_claims(tables["smoke"]),
        *memory_claims(tables["memory"]),
        *zoo_claims(tables["zoo"]),
        *counter_claims(tables["counters"]),
        *draw_sweeps(tables["sweep"], found, target),
    ]
    draw_memory(tables["memory"], target)
    draw_zoo(tables["zoo"], target)
    (target / "claims.json").write_text(json.dumps(claims, indent=2) + "\n", encoding="utf-8")
    (target / "claims.md").write_text(markdown(claims, found), encoding="utf-8")
    return claims


def check_target(target: Path, found: dict[str, Any], tables: dict[str, Rows]) -> None:
    """A folder of the published results is of the GPU that it is named after.

    Raises:
        UsageError: these rows are of another device.
    """
    folder = target.resolve()
    named = folder.name.casefold()
    if not folder.is_relative_to(RESULTS.resolve()) and not is_gpu(named):
        return
    devices = {row["device"] for rows in tables.values() for row in rows}
    devices.add(found.get("gpu") or "cpu")
    wrong = sorted(
        device for device in devices if device == "cpu" or named not in device.casefold().split()
    )
    if wrong:
        raise UsageError(
            f"{target} takes rows of a GPU of that name, and these are of {', '.join(wrong)}: "
            "choose another folder with TO=DIR"
        )


def is_gpu(name: str) -> bool:
    """Whether a folder's name is that of a GPU: ``h200``."""
    from flopratio.allocator import device_profiles

    names = (part for known in device_profiles().values() for part in known.reported_names)
    return name in {word.casefold() for part in names for word in part.split()} - {"nvidia"}


if __name__ == "__main__":
    sys.exit(main())
