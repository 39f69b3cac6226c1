"""What is claimed of the rows that came back, and whether it holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from experiments.gpu import memory
from experiments.gpu.rows import Rows, numbers
from flopratio.verbs.sweep.judgement import Claim

EXACT_MEMORY = ("mlp", "gpt", "llama")
"""Whose memory is to be predicted to the byte."""
STEP_TOLERANCE, RATIO_TOLERANCE, SUM_TOLERANCE = 0.15, 0.10, 0.01
"""How far off the predicted time of a step may be in the median, its ratio, and the sum of the
layers' times."""

EPILOGUE = 0.01
"""What scaling each result of a product adds to it, at most."""


def claim(
    text: str, expected: str, observed: str, holds: bool | None, tolerance: float = 0.0
) -> Claim:
    return Claim(claim=text, expected=expected, observed=observed, tolerance=tolerance, holds=holds)


def all_of(
    text: str, expected: str, rows: Rows, holds: Callable[[dict[str, str]], bool], name: str
) -> list[Claim]:
    """That something holds of every row; of those that failed it does not."""
    if not rows:
        return []
    wrong = [row[name] for row in rows if row["status"] != "ok" or not holds(row)]
    observed = f"{len(rows) - len(wrong)} of {len(rows)}"
    if wrong:
        observed += f"; not: {', '.join(dict.fromkeys(wrong))}"
    return [claim(text, expected, observed, not wrong)]


def smoke_claims(rows: Rows) -> list[Claim]:
    steps = [row for row in rows if row["what"] in ("step", "")]
    return [
        *all_of(
            "executed operators are those of the fake trace, in its order",
            "all",
            steps,
            lambda row: row["operators"] == "0",
            "step",
        ),
        *all_of(
            "FLOP of every phase are those of the fake trace",
            "equal",
            steps,
            lambda row: row["flops_equal"] == "True",
            "step",
        ),
        *all_of(
            "saved bytes are those of the fake trace",
            "equal",
            steps,
            lambda row: row["saved_equal"] == "True",
            "step",
        ),
        *all_of(
            "executed steps are reconciled with the law",
            "all",
            steps,
            lambda row: row["reconciled"] == "True",
            "step",
        ),
    ]


def memory_claims(rows: Rows) -> list[Claim]:
    claims = []
    for name in memory.FIGURES:
        column = f"difference_{name}"
        exact = [
            row
            for row in rows
            if row["model"] in EXACT_MEMORY
            and name != "reserved"
            and (row[column] or row["status"] == "failed")
        ]
        claims += all_of(
            f"peak bytes {name} of {', '.join(EXACT_MEMORY)}: predicted = measured",
            "0 bytes off",
            exact,
            lambda row, column=column: int(row[column]) == 0,
            "model",
        )
        shares = [
            abs(off) / total for off, total in numbers(rows, column, f"measured_{name}") if total
        ]
        if shares:
            claims.append(
                claim(
                    f"peak bytes {name}: how far predicted is off, reported only",
                    "",
                    f"median {statistics.median(shares):.3%}, most {max(shares):.2%}, "
                    f"0 in {sum(share == 0 for share in shares)} of {len(shares)} steps",
                    None,
                )
            )
    return claims


def zoo_claims(rows: Rows) -> list[Claim]:
    claims: list[Claim] = []
    for text, column, tolerance in (
        ("predicted time of a step against measured", "step_ms", STEP_TOLERANCE),
        ("predicted ratio of times against measured", "time_ratio", RATIO_TOLERANCE),
    ):
        pairs = numbers(rows, f"predicted_{column}", column)
        if pairs:
            off = [abs(mine / theirs - 1) for mine, theirs in pairs]
            middle = statistics.median(off)
            claims.append(
                claim(
                    text,
                    f"within {tolerance:.0%} in the median",
                    f"median {middle:.1%} off, most {max(off):.0%}, of {len(off)} steps",
                    middle <= tolerance,
                    tolerance,
                )
            )
    with_sum = [row for row in rows if row["attributed"] or row["status"] != "ok"]
    return claims + all_of(
        "times of the layers sum to the profiler's time in kernels",
        f"within {SUM_TOLERANCE:.0%}",
        with_sum,
        lambda row: abs(float(row["attributed"]) - 1) <= SUM_TOLERANCE,
        "model",
    )


def counter_claims(rows: Rows) -> list[Claim]:
    compared = [row for row in rows if row["counted"]]
    whole = [row for row in compared if "odd" not in row["kernel"]]
    return [
        *all_of(
            "FLOP that the tensor cores counted are the ledger's",
            "equal",
            [row for row in whole if row["tensor_cores"] != "0"],
            lambda row: row["counted"] == row["ledger"],
            "kernel",
        ),
        *all_of(
            "FLOP that the ordinary cores counted are the ledger's and those of results",
            f"0 to {EPILOGUE:.0%} more",
            [row for row in whole if row["tensor_cores"] == "0"],
            lambda row: 1 <= float(row["ratio"]) <= 1 + EPILOGUE,
            "kernel",
        ),
    ]


def markdown(claims: Sequence[Claim], found: dict[str, Any]) -> str:
    """The claims as a table, with what they were measured on."""
    marks = {True: "holds", False: "**fails**", None: "reported"}
    on = [f"{found.get('gpu') or found.get('processor')}", f"torch {found['torch']}"]
    on += [f"{name} {found[name]}" for name in ("cuda", "cudnn", "driver") if found.get(name)]
    lines = [f"Measured on {', '.join(on)}; float32 without TF32.", ""]
    lines += ["| claim | expected | observed | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one['claim']} | {one['expected']} | {one['observed']} | {marks[one['holds']]} |"
        for one in claims
    ]
    return "\n".join(lines) + "\n"
