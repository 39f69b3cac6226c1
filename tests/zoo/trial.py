"""One model of a zoo, tried: is the law's count the executed one, in every layer and phase, and
does a second count agree?"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

from flopratio.errors import UsageError
from flopratio.models import load
from flopratio.step.run import Step
from flopratio.verbs.traced import trace_step
from tests.zoo.second_count import SecondCount


@dataclass
class Trial:
    """What came of a model: ``status`` is ``exact``, ``differs``, ``uncounted`` or ``failed``."""

    model: str
    status: str
    forward: int = 0
    backward: int = 0
    recompute: int = 0
    ratio: float | None = None
    layers: int = 0
    seconds: float = 0.0
    reason: str = ""


def attempt(spec: str, **settings: Any) -> Trial:
    """Count a model's step, and compare."""
    start = time.perf_counter()
    warnings.simplefilter("ignore")
    try:
        trial = _count(spec, settings)
    except UsageError as error:
        trial = Trial(spec, "failed", reason=str(error))
    except Exception as error:
        trial = Trial(spec, "failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])
    # Where a package is installed is nobody's concern.
    trial.reason = re.sub(r"'[^' ]*/site-packages/", "'", trial.reason)
    trial.seconds = round(time.perf_counter() - start, 2)
    return trial


def _count(spec: str, settings: dict[str, Any]) -> Trial:
    example = load(spec, settings)
    second = SecondCount()
    # Both count the same run: the profiler hands each operator on to the second count.
    with example.context(), second:
        profiler = trace_step(Step(replace(example, enter_mode=False)))
    ledger = profiler.ledger
    total = ledger.totals
    trial = Trial(
        spec,
        "exact",
        total.forward,
        total.backward,
        total.recompute,
        ledger.ratio.backward_to_forward,
        sum(1 for layer in ledger.layers() if layer.forward),
    )
    executed = total.forward + total.backward + total.recompute - second.attention
    if ledger.mismatches:
        trial.status, trial.reason = "differs", str(ledger.mismatches[0])
    elif ledger.uncounted_ops:
        trial.status, trial.reason = "uncounted", " ".join(ledger.uncounted_ops)
    elif second.total != executed:
        trial.status = "differs"
        trial.reason = f"second count {second.total:,}, not {executed:,}"
    return trial
