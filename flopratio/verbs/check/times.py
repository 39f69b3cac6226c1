"""Measured ratios of backward to forward, held against those that a lock holds for this machine.
Never milliseconds: a ratio is what a machine that is busy with other things leaves nearly alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from flopratio.errors import UsageError, message_of
from flopratio.verbs.check.cases import Case

Times = tuple[float, float, float]
"""A ratio of times: the low end of its 95% interval, the median, the high end."""

REPEATS = 40
BUDGET_S = 3.0


@dataclass(frozen=True)
class TimeChange:
    """A measured ratio beside the saved one.

    Args:
        machine: what both were measured on.
        before: None where the lock has none of this machine.
        after: why it could not be measured, in a sentence, where it could not.
        tolerance: by how much the intervals may part, as a share.
    """

    machine: str
    before: Times | None
    after: Times | str
    tolerance: float

    @property
    def not_measured(self) -> str:
        """Why not; empty if it was."""
        return self.after if isinstance(self.after, str) else ""

    @property
    def is_new(self) -> bool:
        return self.before is None and not self.not_measured

    @property
    def parted(self) -> bool:
        """Whether one interval begins beyond the other's end, by more than the tolerance."""
        if self.before is None or isinstance(self.after, str):
            return False
        (low, _, high), (new_low, _, new_high) = self.before, self.after
        room = 1 + self.tolerance
        return new_low > high * room or low > new_high * room


def machine_name() -> str:
    """What a ratio of times depends on, in a line."""
    import torch

    from flopratio.hardware.processor import processor

    threads = torch.get_num_threads()
    return f"cpu: {processor()}, {threads} thread{'s' if threads > 1 else ''}"


def measure_cases(
    cases: Sequence[Case], directory: Path, *, progress: Callable[[str], None]
) -> dict[str, Times | str]:
    """The ratio of times of each case's step, one after the other; or why there is none.

    Args:
        directory: where relative paths start.
    """
    measured: dict[str, Times | str] = {}
    with chdir(directory):
        for number, case in enumerate(cases, start=1):
            progress(f"timing {number} of {len(cases)}, {case.name}")
            measured[case.name] = _measured(case)
    return measured


def _measured(case: Case) -> Times | str:
    import torch

    from flopratio.measure.timing import measure_step
    from flopratio.step.options import StepOptions
    from flopratio.step.random_state import own_random_state
    from flopratio.step.real import spec_step

    options = StepOptions(**{**case.step.options, "target": "cpu"})
    if options.inference:
        return "an inference has no ratio of times"
    try:
        with own_random_state():
            step = spec_step(case.step.model, case.step.settings, options, torch.device("cpu"))
            timing = measure_step(step, repeats=REPEATS, budget_s=BUDGET_S, layers=False)
    except UsageError as error:
        return " ".join(str(error).split())
    except Exception as error:  # of the user's code
        return f"{type(error).__name__}: {' '.join(message_of(error).split())}"
    ratio = timing.time_ratio
    return round(ratio.low, 4), round(ratio.median, 4), round(ratio.high, 4)
