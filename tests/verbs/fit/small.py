"""An answer of fr.fit that is small enough to be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flopratio.step.options import StepOptions
from flopratio.verbs.fit import Combination, Fit, Lever, Tried

GIVEN = Combination(None, "adamw", None, None, 1)


def tried(size: int, peak: int, reserved: int | None = None) -> Tried:
    """A size that ran; the allocator hands out a byte more than what lives."""
    figures = {"peak": peak, "peak_allocated": peak + 1, "peak_reserved": reserved or peak + 1}
    return Tried(size, memory=figures)


def small_fit(**changes: Any) -> Fit:
    """1,000 bytes a batch, of which 4 KiB hold 4 (and 96 bytes more)."""
    sizes = (tried(2, 2_000), tried(3, 3_000), tried(4, 4_000, 4_096), tried(5, 5_000))
    fit = Fit(
        model="toy",
        settings={"batch": 4, "image": [3, 8, 8], "tokens": 7},
        key="batch",
        largest=4,
        peak=4_000,
        next=5,
        peak_at_next=5_000,
        peak_allocated=4_001,
        peak_reserved=4_096,
        peak_phase="backward",
        at_peak={"parameters": 500, "inputs": 0, "saved_activations": 3_500},
        memory=4_096,
        reserve=0,
        figure="peak",
        options=StepOptions(optimizer="adamw").as_dict(),
        versions={"torch": "2.13.0"},
        tried=sizes,
        step=1,
        base=4,
    )
    return replace(fit, **changes)


def small_levers() -> tuple[Lever, ...]:
    return (
        Lever(
            GIVEN._replace(checkpoint="auto", amp="bf16"),
            peak=2_000,
            saved=2_000,
            flops_per_example=1.25,
            largest=8,
            peak_at_largest=4_000,
            next=9,
            peak_at_next=4_500,
        ),
        Lever(GIVEN, 4_000, 0, 1.0, 4, 4_000, 5, 5_000),
        Lever(GIVEN._replace(dtype="bfloat16"), refusal="no such kernel"),
    )


def nothing_fits(**changes: Any) -> Fit:
    """As small_fit, in 512 bytes."""
    smallest = (tried(1, 1_000), tried(2, 2_000))
    return small_fit(
        **{
            "memory": 512,
            "largest": 0,
            "peak": None,
            "next": 1,
            "peak_at_next": 1_000,
            "tried": smallest,
            "base": 1,
            **changes,
        }
    )
