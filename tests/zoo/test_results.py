"""results/zoo.csv: what README says of it, and that nothing in it differs."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from tests.zoo.formulas import MODELS

ROOT = Path(__file__).parents[2]
with (ROOT / "results" / "zoo.csv").open() as file:
    ROWS = list(csv.DictReader(file))


def test_none_differs_and_what_fails_says_why() -> None:
    assert {row["status"] for row in ROWS} == {"exact", "failed"}
    assert all(bool(row["reason"]) == (row["status"] == "failed") for row in ROWS)
    assert [row["model"] for row in ROWS] == sorted({row["model"] for row in ROWS})


def test_so_many_are_exact() -> None:
    exact = Counter(row["model"].partition(":")[0] for row in ROWS if row["status"] == "exact")
    assert exact["torchvision"] == 109
    assert exact["timm"] == 1_371
    assert exact["hf"] >= 719
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{len(ROWS):,} tried, {exact.total():,} exact against the law" in text


def test_closed_forms_are_equal_to_fresh_traces() -> None:
    """``results/formulas.csv``: at ten random points each; every quantity has a form."""
    with (ROOT / "results" / "formulas.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} <= {line.split()[0] for line in MODELS}
    assert len(rows) >= 30
    for row in rows:
        assert (row["checked"], row["unequal"]) == ("10", "0"), row["model"]
        assert row["forward"], row["model"]
        assert not row["refused"], row["model"]
