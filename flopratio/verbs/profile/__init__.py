"""``fr.profile``: a training step on a device, its times beside its counts, and why the ratio of
the one is not that of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Unpack, overload

import torch

from flopratio.errors import UsageError
from flopratio.hardware import DeviceProfile, doubts
from flopratio.ledger import Ledger
from flopratio.measure import MeasuredMemory, Timing, machine, measure_step, measured_memory
from flopratio.measure.roofs import measured_roofs, roofs_of
from flopratio.models import ReadsValuesError
from flopratio.step.options import (
    MEASURED_DEFAULTS,
    StepKeywords,
    StepOptions,
    takes_step_options,
)
from flopratio.step.out_of_memory import OutOfMemoryError, is_out_of_memory
from flopratio.step.random_state import own_random_state
from flopratio.step.real import module_step, parse_device, spec_step
from flopratio.step.run import Step
from flopratio.verbs.count import checked, count_step, describe_ledger
from flopratio.verbs.profile.groups import Group, Work
from flopratio.verbs.profile.operators import OperatorDifference, operator_differences
from flopratio.verbs.profile.result import Profile

__all__ = ["Group", "OperatorDifference", "Profile", "Work", "profile"]

REPEATS = 20
BUDGET_S = 10.0

FRESH = "fresh"
"""The ``roofs`` that are measured anew, whatever is cached."""

MOST_UNCERTAIN = 0.5
"""How wide an interval may be, as a share of its median, before the steps are called too few or
too short to be timed well."""

MOST_DISTURBED = 0.2
"""How much steps under the profiler, or their ratio of times, may differ from those without it,
before what they explain is doubted."""


@overload
def profile(
    model: torch.nn.Module,
    batch: Any,
    *,
    device: str | torch.device = "cpu",
    repeats: int = REPEATS,
    budget_s: float = BUDGET_S,
    roofs: DeviceProfile | str | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Unpack[StepKeywords],
) -> Profile: ...


@overload
def profile(
    model: str,
    batch: int | None = None,
    *,
    device: str | torch.device = "cpu",
    repeats: int = REPEATS,
    budget_s: float = BUDGET_S,
    roofs: DeviceProfile | str | None = None,
    progress: Callable[[str], None] | None = None,
    **words: Any,
) -> Profile: ...


@takes_step_options(MEASURED_DEFAULTS)
def profile(
    model: torch.nn.Module | str,
    batch: Any = None,
    *,
    device: str | torch.device = "cpu",
    repeats: int = REPEATS,
    budget_s: float = BUDGET_S,
    roofs: DeviceProfile | str | None = None,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Profile:
    """Run a training step, time it, and say where the time departs from the FLOP and why.

    Args:
        model: a module, which is run as it is, where it is, and is left as it was found; or a spec
            as :func:`flopratio.count` takes it, which is built and initialised on the device.
        batch: for a module: its real inputs; for a spec: the batch size. Inputs of a spec are
            drawn.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        repeats: steps to time at most.
        budget_s: seconds after which no further step is timed, at least three; those under torch's
            profiler have as many once more.
        roofs: what the device can do at best: measured once and cached unless given; ``fresh``
            measures them anew; a saved profile, or the name or file of one, is taken as it is.
        progress: called with what is being done, before it is.
        settings: a spec's sizes (``seq=1024``, ``depth=4``).

    The other keywords say how the step is run, see
    :class:`flopratio.step.options.StepOptions`. What is drawn comes from one fixed seed; the
    caller's random state is left as it was.

    Ended by the user (``KeyboardInterrupt``) after some steps, it returns what has been measured.

    Raises:
        UsageError: there is no such device; the model can't be built or run there, has no values or
            is elsewhere; the step does not fit, is too short to be timed, or leaves no time in the
            profiler; one sentence says which.
    """
    where = parse_device(device)
    _check_amounts(repeats, budget_s)
    for name, reason in _REFUSED.items():
        if name in settings:
            raise UsageError(f"{name}: {reason}")
    options, settings = StepOptions.among({**settings, "target": where.type})
    with own_random_state():
        return _profile(
            model,
            batch,
            checked(model, batch, settings, "profile"),
            options,
            where,
            repeats=repeats,
            budget_s=budget_s,
            roofs=roofs,
            progress=progress or (lambda stage: None),
        )


_REFUSED = {
    "target": "a step that is measured runs the kernels of its device; say device=cpu or cuda",
    "inference": "a step is measured with its backward; flopratio count counts a forward alone",
}


def _check_amounts(repeats: int, budget_s: float) -> None:
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise UsageError(f"repeats={repeats} should be a whole number, 1 or more")
    if not isinstance(budget_s, int | float) or not budget_s > 0:
        raise UsageError(f"budget_s={budget_s} should be a number of seconds")


def _profile(
    model: torch.nn.Module | str,
    batch: Any,
    settings: Mapping[str, Any],
    options: StepOptions,
    device: torch.device,
    *,
    repeats: int,
    budget_s: float,
    roofs: DeviceProfile | str | None,
    progress: Callable[[str], None],
) -> Profile:
    progress("counting")
    traced, not_traced = _traced(model, batch, settings, options)
    hardware = _roofs(roofs, device, progress)
    progress("building")
    try:
        if isinstance(model, torch.nn.Module):
            step = module_step(model, batch, options, device)
        else:
            step = spec_step(model, settings, options, device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        peak = None if traced is None else traced.memory["peak"]
        raise OutOfMemoryError("building the model", None, peak) from error
    predicted = None if traced is None else traced.memory
    timing = step.explained(
        partial(
            measure_step,
            step,
            repeats=repeats,
            budget_s=budget_s,
            predicted=predicted,
            progress=progress,
        )
    )
    ledger = _ledger_of(timing, traced)
    describe_ledger(
        ledger, step, model if isinstance(model, str) else type(model).__name__, str(device)
    )
    if traced is not None:
        ledger.memory = traced.memory
    profiled = Profile(
        ledger,
        timing,
        hardware,
        measured_memory=_memory_of(step, timing, progress),
        differences=[] if traced is None else operator_differences(traced, ledger),
        not_traced=not_traced,
        machine=machine(device),
        notes=[*timing.notes, *uncertain(timing)],
        interrupted=timing.interrupted,
        examples=examples_of(step),
    )
    profiled.notes.extend([*untrusted(profiled), *doubts(profiled.roofs, profiled.hfu)])
    return profiled


def _ledger_of(timing: Timing, traced: Ledger | None) -> Ledger:
    """The ledger of the step that was measured.

    Raises:
        UsageError: torch's profiler has seen nothing.
        KeyboardInterrupt: the user ended it before there was one.
    """
    if timing.profiled is not None:
        return timing.profiled.ledger
    if not timing.interrupted:
        raise UsageError("; ".join(timing.notes) or "torch's profiler saw nothing")
    if traced is None:
        raise KeyboardInterrupt
    return traced


def examples_of(step: Step) -> int | None:
    """How many examples a step has, all its micro-batches together: ``batch``, or the leading
    dimension (of a list, the length) that all its inputs have; None where they differ."""
    batch = step.example.settings.get("batch")
    if not isinstance(batch, int):
        inputs = (*step.inputs.args, *step.inputs.kwargs.values())
        sizes = {len(each) for each in inputs if isinstance(each, list)}
        sizes |= {len(each) for each in inputs if isinstance(each, torch.Tensor) and each.ndim}
        if len(sizes) != 1:
            return None
        (batch,) = sizes
    return batch * step.options.accumulate


def _traced(
    model: torch.nn.Module | str, batch: Any, settings: Mapping[str, Any], options: StepOptions
) -> tuple[Ledger | None, str]:
    """The step's ledger by a trace on shapes alone; or None, and why there is none."""
    try:
        return count_step(model, batch, settings, options), ""
    except ReadsValuesError as error:  # which the real step has
        return None, error.reason
    except UsageError as error:
        if isinstance(model, str):  # what can't be counted as asked can't be run so either
            raise
        return None, str(error)


def _roofs(
    roofs: DeviceProfile | str | None, device: torch.device, progress: Callable[[str], None]
) -> DeviceProfile:
    if roofs is None or roofs == FRESH:
        return measured_roofs(
            device,
            fresh=roofs == FRESH,
            progress=lambda what: progress(f"measuring what the device can do: {what}"),
        )
    found = roofs if isinstance(roofs, DeviceProfile) else roofs_of(roofs)
    if found.device != device.type:
        raise UsageError(
            f"the roofs of {found.name} are of a {found.device} device, and the step runs on "
            f"{device}: leave roofs out, and this machine's are measured"
        )
    return found


def _memory_of(
    step: Step, timing: Timing, progress: Callable[[str], None]
) -> MeasuredMemory | None:
    if timing.interrupted:
        return None
    progress("measuring memory")
    try:
        return measured_memory(step)
    except KeyboardInterrupt:
        return None


def uncertain(timing: Timing) -> list[str]:
    """A note, if the steps were too few or too unlike each other to tell the ratio."""
    ratio = timing.time_ratio
    width = (ratio.high - ratio.low) / ratio.median
    if width <= MOST_UNCERTAIN:
        return []
    return [
        f"the ratio of times is uncertain, {ratio.low:.2f} to {ratio.high:.2f} over "
        f"{timing.repeats} steps of {timing.step_ms.median:.3g} ms: raise the repeats and the "
        "budget, or give the step more to do"
    ]


def untrusted(profile: Profile) -> list[str]:
    """A note, if the profiler changed the step too much for it to explain the one without."""
    overhead, explanation = profile.profiled.overhead, profile.explanation
    if explanation is None or explanation.profiled_ratio is None:
        return []
    timing = profile.timing
    without_ms = timing.forward_ms.median + timing.backward_ms.median
    under_ms = explanation.profiled_us / 1e3
    under, without = explanation.profiled_ratio, explanation.time_ratio
    found = []
    if _apart(1 + overhead, 1.0):
        more = "more" if overhead > 0 else "less"
        found.append(f"a step takes {abs(overhead):.0%} {more} under it than without it")
    elif _apart(under_ms, without_ms):
        found.append(
            f"forward and backward take {under_ms:,.4g} ms under it and {without_ms:,.4g} ms "
            "without it"
        )
    if _apart(under, without):
        found.append(f"the ratio of times is {under:.3f} under it and {without:.3f} without it")
    if not found:
        return []
    return [
        "the explanation and the times of layers are not to be trusted, for steps under the "
        f"profiler were not as those without it: {', and '.join(found)}"
    ]


def _apart(one: float, other: float) -> bool:
    return max(one, other) > (1 + MOST_DISTURBED) * min(one, other)
