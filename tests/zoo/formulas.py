"""Closed forms of many models, each held against fresh traces at ten random points, into
``results/formulas.csv``: ``make test-formula``, which is long. Exit 1 where one is not equal.

    python -m tests.zoo.formulas [FILE [MODEL ...]]
"""

from __future__ import annotations

import csv
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flopratio.errors import UsageError
from flopratio.step.options import StepOptions
from flopratio.text.grammar import parse_arguments
from flopratio.verbs.formula import formula_of

MODELS = (
    "hf:gpt2 batch seq n_layer n_embd vocab_size",
    "torchvision:resnet50 batch image=33..96",
    "torchvision:swin_t image=228..700",
    *(
        f"torchvision:{name} batch image"
        for name in (
            "alexnet",
            "vgg11",
            "resnet18",
            "resnext50_32x4d",
            "wide_resnet50_2",
            "squeezenet1_1",
            "densenet121",
            "googlenet",
            "mobilenet_v2",
            "mobilenet_v3_large",
            "shufflenet_v2_x1_0",
            "mnasnet1_0",
            "efficientnet_b0",
            "regnet_y_400mf",
            "convnext_tiny",
        )
    ),
    *(
        f"hf:{name} batch seq"
        for name in (
            "llama",
            "mistral",
            "qwen2",
            "gemma",
            "phi",
            "gpt_neox",
            "opt",
            "bert",
            "roberta",
            "distilbert",
            "electra",
            "t5",
            "bart",
        )
    ),
)
POINTS = 10
COLUMNS = (
    "model",
    "keys",
    "fitted",
    "verified",
    "refused",
    "checked",
    "unequal",
    "forward",
    "peak",
    "seconds",
)


def trial(line: str) -> dict[str, object]:
    """One model: its form, and at how many fresh points it is not equal."""
    model, *words = line.split()
    keys = [word for word in words if "=" not in word]
    _, values = parse_arguments([model, *(word for word in words if "=" in word)])
    start = time.process_time()
    row: dict[str, object] = {"model": model, "keys": " ".join(words)}
    try:
        form = formula_of(model, keys, values, StepOptions(optimizer="adamw"), cached=False)
    except UsageError as error:
        return row | {"refused": str(error)}
    draw = random.Random(1)
    checked, unequal = 0, []
    for _ in range(10 * POINTS):
        point = {key: draw.choice(each) for key, each in form.domains.items()}
        try:
            unequal += form.held_against([point])
            checked += 1
        except UsageError:
            continue  # the model refuses it
        if checked == POINTS:
            break
    return row | {
        "fitted": len(form.fitted_at),
        "verified": len(form.verified_at),
        "refused": " ".join(sorted(form.why_not)),
        "checked": checked,
        "unequal": len(unequal),
        "forward": str(form.totals.get("forward", "")),
        "peak": str(form.peak or ""),
        "seconds": round(time.process_time() - start, 1),
    }


def main(output: Path, chosen: Sequence[str] = ()) -> int:
    """
    Args:
        chosen: of which models; all unless given. The rows of the others stay as they are.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, object]] = {}
    if chosen and output.exists():
        with output.open(encoding="utf-8", newline="") as file:
            rows = {row["model"]: dict(row) for row in csv.DictReader(file)}
    failed = 0
    for line in MODELS:
        model = _name(line)
        if chosen and model not in chosen:
            continue
        rows[model] = row = trial(line)
        failed += bool(row.get("unequal"))
        print(line, {name: row.get(name) for name in COLUMNS[2:7]}, file=sys.stderr)
        with output.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[m] for m in map(_name, MODELS) if m in rows)
    return 1 if failed else 0


def _name(line: str) -> str:
    return line.partition(" ")[0]


if __name__ == "__main__":
    file, *names = sys.argv[1:] or ["results/formulas.csv"]
    sys.exit(main(Path(file), names))
