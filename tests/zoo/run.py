"""Try every model of torchvision, timm and transformers, and write results/zoo.csv.

    python -m tests.zoo.run [-j WORKERS] [torchvision|timm|hf|MODEL ...]

A run that was interrupted goes on where it was; a MODEL that is named is tried again. One process a
model would cost its imports each time; so a few workers take models in turn, and are renewed now
and then for the sake of memory.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import resource
import signal
from collections import Counter
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path

from rich.progress import Progress

from tests.zoo.trial import Trial, attempt

RESULTS = Path(__file__).parents[2] / "results" / "zoo.csv"
COLUMNS = [field.name for field in fields(Trial)]


def torchvision_models() -> list[str]:
    from flopratio.models.torchvision_operators import import_torchvision

    names = import_torchvision().models.list_models()
    return [f"torchvision:{name}" for name in names if not name.startswith("quantized")]


def timm_models() -> list[str]:
    from flopratio.models.torchvision_operators import import_torchvision

    import_torchvision()
    import timm

    return [f"timm:{name}" for name in timm.list_models()]


def transformers_types() -> list[str]:
    from flopratio.models.torchvision_operators import import_torchvision

    import_torchvision()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return [f"hf:{name}" for name in CONFIG_MAPPING_NAMES]


ZOOS = {"torchvision": torchvision_models, "timm": timm_models, "hf": transformers_types}
BATCH = 2  # BatchNorm of a 1 x 1 image refuses a batch of 1
SEQ = 16  # short texts, for some models run Python loops over the tokens
MEMORY, SECONDS = 16 * 2**30, 900  # of address space, and of time: no model takes a machine down


def try_one(spec: str) -> Trial:
    logging.disable(logging.WARNING)
    signal.alarm(SECONDS)
    try:
        if not spec.startswith("hf:"):
            return attempt(spec, batch=BATCH)
        trial = attempt(spec, batch=BATCH, seq=SEQ)
        if trial.status == "failed":  # it reads no text, or none so short
            trial = attempt(spec, batch=BATCH)
        # Or one example only.
        return attempt(spec) if trial.status == "failed" else trial
    finally:
        signal.alarm(0)


def limit() -> None:
    """Bound the memory of this process, and have it interrupted when an alarm goes off."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _interrupt)


def _interrupt(*_: object) -> None:
    raise TimeoutError(f"it takes more than {SECONDS} seconds")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=os.cpu_count())
    parser.add_argument("chosen", nargs="*", default=list(ZOOS))
    arguments = parser.parse_args()
    again = dict.fromkeys(name for name in arguments.chosen if name not in ZOOS)
    done = {}
    if RESULTS.exists():
        with RESULTS.open() as file:
            rows = [row for row in csv.DictReader(file) if row["model"] not in again]
        _write(rows)
        done = {row["model"]: row["status"] for row in rows}
    zoos = [name for name in arguments.chosen if name in ZOOS]
    specs = [*again, *(spec for zoo in zoos for spec in ZOOS[zoo]() if spec not in done)]
    new = not RESULTS.exists()
    with (
        RESULTS.open("a", newline="") as file,
        get_context("spawn").Pool(arguments.j, limit, maxtasksperchild=50) as pool,
        Progress() as progress,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        task = progress.add_task("models", total=len(specs))
        for trial in pool.imap_unordered(try_one, specs):
            done[trial.model] = trial.status
            writer.writerow(asdict(trial))
            file.flush()
            progress.advance(task)
            if trial.status != "exact":
                progress.console.print(f"{trial.model}: {trial.status}: {trial.reason}"[:300])
    _sort()
    for zoo in dict.fromkeys(name.partition(":")[0] for name in arguments.chosen):
        found = Counter(status for model, status in done.items() if model.startswith(f"{zoo}:"))
        print(zoo, dict(found))


def _sort() -> None:
    """Put the rows, which came as they were done, in the order of the models' names."""
    with RESULTS.open() as file:
        _write(sorted(csv.DictReader(file), key=lambda row: row["model"]))


def _write(rows: list[dict[str, str]]) -> None:
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
