"""What is claimed of rows: that it fails where a row says otherwise, and where one failed."""

from typing import Any

import pytest

from experiments.gpu import claims, memory
from flopratio.verbs.sweep.judgement import Claim

STEP = {"operators": "0", "flops_equal": "True", "saved_equal": "True", "reconciled": "True"}


def row(columns: Any = (), **cells: str) -> dict[str, str]:
    return {**dict.fromkeys(columns, ""), "status": "ok", **cells}


def outcomes(judged: list[Claim]) -> list[bool | None]:
    return [claim["holds"] for claim in judged]


def smoked(step: str, **cells: str) -> dict[str, str]:
    return row(**{"what": "step", "step": step, **STEP, **cells})


@pytest.mark.parametrize(
    ("column", "cell"),
    [("operators", "1"), ("flops_equal", "False"), ("saved_equal", "False"), ("reconciled", "")],
)
def test_a_step_that_runs_otherwise_is_named(column: str, cell: str) -> None:
    judged = claims.smoke_claims([smoked("mlp"), smoked("gpt", **{column: cell})])
    assert outcomes(judged) == [name != column for name in STEP]
    (wrong,) = (claim for claim in judged if not claim["holds"])
    assert wrong["observed"] == "1 of 2; not: gpt"


def test_a_step_that_failed_holds_of_nothing() -> None:
    difference = row(what="operator", step="gpt", operators="", reconciled="")
    failed = smoked("bert", what="", status="failed")
    judged = claims.smoke_claims([smoked("mlp"), difference, failed])
    assert {claim["observed"] for claim in judged} == {"1 of 2; not: bert"}
    assert claims.smoke_claims([]) == []


def test_memory_is_exact_of_some_models_and_reported_of_all() -> None:
    def peak(model: str, name: str = "requested", difference: int = 0) -> dict[str, str]:
        cells = {f"difference_{name}": str(difference), f"measured_{name}": "1024"}
        return row(memory.COLUMNS, model=model, **cells)

    failed = row(memory.COLUMNS, model="llama", status="failed")
    exact, reported, *_ = claims.memory_claims([peak("mlp", difference=-512), peak("gpt"), failed])
    assert (exact["holds"], exact["observed"]) == (False, "1 of 3; not: mlp, llama")
    assert reported["holds"] is None
    assert reported["observed"] == "median 25.000%, most 50.00%, 0 in 1 of 2 steps"
    assert outcomes(claims.memory_claims([peak("mlp"), peak("resnet", difference=8)])) == [
        True,
        None,
    ]
    # What the allocator reserves is not promised.
    assert outcomes(claims.memory_claims([peak("mlp", "reserved", 8)])) == [None]


def timed(predicted: float, ratio: float, attributed: str = "", **cells: str) -> dict[str, str]:
    """Predictions of a step of 1 ms whose ratio is 2."""
    return row(
        **{"predicted_step_ms": str(predicted), "step_ms": "1", "attributed": attributed},
        **{"predicted_time_ratio": str(ratio), "time_ratio": "2", "model": "mlp", **cells},
    )


@pytest.mark.parametrize(
    ("predicted", "ratio", "expected"),
    [
        (1.14, 2.18, [True, True]),
        (0.86, 1.82, [True, True]),
        (1.16, 2.0, [False, True]),
        (0.84, 2.0, [False, True]),
        (1.0, 2.22, [True, False]),
        (1.0, 1.78, [True, False]),
    ],
)
def test_predicted_times(predicted: float, ratio: float, expected: list[bool]) -> None:
    """The median counts, whatever is far off."""
    rows = [timed(1, 2), timed(predicted, ratio), timed(9, 9)]
    judged = claims.zoo_claims(rows)
    assert outcomes(judged) == expected
    assert "800%" in judged[0]["observed"]
    assert "350%" in judged[1]["observed"]
    # Those of a row that failed are none.
    assert claims.zoo_claims([*rows, timed(9, 9, status="failed")])[:2] == judged


@pytest.mark.parametrize(
    ("attributed", "holds"), [("0.991", True), ("1.009", True), ("0.98", False), ("1.02", False)]
)
def test_times_of_layers_sum_to_all(attributed: str, holds: bool) -> None:
    judged = claims.zoo_claims([timed(1, 2, "1"), timed(1, 2, attributed, model="gpt")])
    assert outcomes(judged) == [True, True, holds]
    assert judged[2]["observed"] == ("2 of 2" if holds else "1 of 2; not: gpt")


def counted(kernel: str, flops: int, tensor_cores: int) -> dict[str, str]:
    """Of 1,000 FLOP in the ledger."""
    return row(
        **{"kernel": kernel, "counted": str(flops), "tensor_cores": str(tensor_cores)},
        **{"ledger": "1000", "ratio": str(flops / 1000)},
    )


def test_counters() -> None:
    left_out = row(kernel="c", status="left out", counted="", tensor_cores="", ratio="")
    fine = [counted("a", 1000, 1000), counted("b", 1010, 0), left_out]
    assert outcomes(claims.counter_claims(fine)) == [True, True]
    for wrong, expected in (
        (counted("more", 1001, 1001), [False, True]),
        (counted("more", 1011, 0), [True, False]),
        (counted("less", 999, 0), [True, False]),
        # Tensor cores multiply whole tiles: of odd sizes more than was asked for.
        (counted("odd sizes", 1024, 1024), [True, True]),
    ):
        assert outcomes(claims.counter_claims([*fine, wrong])) == expected
    assert claims.counter_claims([left_out]) == []


def test_claims_as_a_page() -> None:
    judged = [
        claims.claim(word, "all", "1 of 2", holds) for word, holds in (("a", False), ("b", None))
    ]
    page = claims.markdown(judged, {"gpu": "NVIDIA H200", "torch": "2.13.0", "cuda": "13.0"})
    assert page.startswith(
        "Measured on NVIDIA H200, torch 2.13.0, cuda 13.0; float32 without TF32."
    )
    assert "| a | all | 1 of 2 | **fails** |\n| b | all | 1 of 2 | reported |" in page
