"""Why the ratio of times is not that of FLOPs: reasons that add up to the whole difference.

With R = backward FLOP / forward FLOP of the products, and T_f, T_b the times of forward and
backward, each a sum over groups g of work, T_f = sum t_f(g) and T_b = sum t_b(g):

1. T_b / T_f - R = (T_b - R T_f) / T_f = sum_g (t_b(g) - R t_f(g)) / T_f.
2. So a group whose time in backward is R times that in forward contributes nothing. What a product
   takes at the roof of its dtype does that exactly, if all products have one dtype:
   t(g) = FLOP / roof.
3. All other time departs: a group that backward has more than R times of raises the ratio, one that
   it has less of (and be it as much as forward: R is about 2) lowers it.

Where operators were timed under a profiler and the step also without it, T_f and T_b are those
without it, and one more group, the profiler's own cost, has what leads there: T_f less all that was
timed in forward, and so for backward. The two columns add up with it as the contributions do. (The
ratio is a median over steps, and a median of quotients is not quite the quotient of two medians:
what lies between is in that group's contribution.)

The groups are a partition of all time, so that nothing is left over. The time of a product is, in
this order, what it takes at the roof; what its bytes take beyond that; a launch; and the rest. The
time of any other operator is a launch, and the rest goes to its family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import fsum, isclose
from typing import Any, NamedTuple

from flopratio.errors import UsageError
from flopratio.hardware import DeviceProfile
from flopratio.ledger import Row
from flopratio.roofline.families import family
from flopratio.roofline.prediction import BACKWARD, Expected, Tf32, predict
from flopratio.roofline.times import StepTimes

AT_ROOF = "products at the roof"
BANDWIDTH = "products bound by bandwidth, beyond the roof"
BELOW_ROOF = "products below the roof (too small, or badly shaped)"
ABOVE_ROOF = "products faster than predicted (caches, Winograd)"
NO_ROOF = "products in a dtype without a measured roof"
LAUNCHES = "launches: what an operator costs however small it is"
RECOMPUTE = "recompute: forward done again in backward"
AROUND = "around operators: Python, autograd's engine"
IDLE = "nothing running: gaps, waiting for Python"
PROFILER = "the profiler's own cost"
OTHER = "other"

OFF_ROOF = ""
"""What a product takes more, or less, than predicted: in the end one of the two above."""

NOTHING_KNOWN = Expected(0.0, "none")

SMALL = Fraction(1, 100)
"""A reason with less than this part of all contributions (without their signs) is folded into
``other``."""

NAMED = 3
"""So many of the reasons in ``other`` are named."""

AS_PREDICTED = 1e-9
"""A time that differs by no more than this part from the predicted one is the predicted one, and
what differs a rounding."""


class Reason(NamedTuple):
    """A part of the difference.

    Times are in µs; those of the profiler's own cost are differences, and negative where a step
    took less under it.
    """

    name: str
    forward_us: float
    backward_us: float
    contribution: float
    """What it adds to the ratio of times."""


@dataclass(frozen=True)
class Explanation:
    """The two ratios, and what lies between them.

    Args:
        flop_ratio: backward over forward, in FLOP of products, without recomputation.
        time_ratio: backward over forward in time, recomputation within backward.
        reasons: the largest contribution first; ``other`` last. Their contributions sum to
            ``time_ratio - flop_ratio``, and their times to forward and backward of the step.
        profiled_ratio: backward over forward in the times under the profiler; None where they were
            taken without one.
    """

    flop_ratio: float
    time_ratio: float
    reasons: list[Reason]
    profiled_ratio: float | None = None

    @property
    def profiled_us(self) -> float:
        """Forward and backward as the operators were timed, without what leads to the clock's."""
        return sum(
            reason.forward_us + reason.backward_us
            for reason in self.reasons
            if reason.name != PROFILER
        )

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "flop_ratio": self.flop_ratio,
            "time_ratio": self.time_ratio,
            "profiled_ratio": self.profiled_ratio,
            "reasons": [
                {
                    "reason": reason.name,
                    "forward_ms": reason.forward_us / 1e3,
                    "backward_ms": reason.backward_us / 1e3,
                    "contribution": reason.contribution,
                }
                for reason in self.reasons
            ],
        }


def explain(
    times: StepTimes, hardware: DeviceProfile, *, tf32: Tf32 = "convolutions"
) -> Explanation:
    """Why a step's ratio of times is not its ratio of FLOPs.

    Args:
        times: of the step, measured or predicted.
        hardware: the device on which they were, or would be, taken.
        tf32: as :func:`flopratio.roofline.predict` takes it.

    Raises:
        UsageError: forward has no products, no time, or no backward ran, so that there is no ratio.
    """
    forward = sum(row.flops for row in times.rows if row.phase == "forward")
    backward = sum(row.flops for row in times.rows if row.phase in ("grad_input", "grad_weight"))
    if not forward:
        raise UsageError("there is no ratio to explain: forward has no products")
    groups = _groups(times, hardware, tf32)
    time_forward = sum((group.forward for group in groups.values()), Fraction())
    time_backward = sum((group.backward for group in groups.values()), Fraction())
    if time_forward <= 0:
        raise UsageError("there is no ratio to explain: no time of forward is known")
    if time_backward <= 0:
        raise UsageError("there is no ratio to explain: no backward ran, or its time is not known")
    flop_ratio, time_ratio = Fraction(backward, forward), time_backward / time_forward
    profiled_ratio = None if times.time_ratio is None else float(time_ratio)
    if times.time_ratio is not None and times.forward_us and times.backward_us is not None:
        clock = Fraction(times.forward_us), Fraction(times.backward_us)
        groups[PROFILER] = _Group(
            [float(clock[0] - time_forward)], [float(clock[1] - time_backward)]
        )
        time_forward = clock[0]
    contributions = {
        name: (group.backward - flop_ratio * group.forward) / time_forward
        for name, group in groups.items()
    }
    if times.time_ratio is not None:
        time_ratio = Fraction(times.time_ratio)
        groups.setdefault(PROFILER, _Group([], []))
        others = sum(own for name, own in contributions.items() if name != PROFILER)
        contributions[PROFILER] = time_ratio - flop_ratio - others
    reasons = _reasons(groups, contributions)
    return Explanation(float(flop_ratio), float(time_ratio), reasons, profiled_ratio)


class _Group(NamedTuple):
    """The times of one group's operators, in µs."""

    forward_us: list[float]
    backward_us: list[float]

    def add(self, phase: str, us: float) -> None:
        if phase == "forward":
            self.forward_us.append(us)
        elif phase in BACKWARD:
            self.backward_us.append(us)

    @property
    def forward(self) -> Fraction:
        return Fraction(fsum(self.forward_us))

    @property
    def backward(self) -> Fraction:
        return Fraction(fsum(self.backward_us))


def _groups(times: StepTimes, hardware: DeviceProfile, tf32: Tf32) -> dict[str, _Group]:
    """All time of forward and backward, in groups."""
    groups: defaultdict[str, _Group] = defaultdict(lambda: _Group([], []))
    for row, expected, us in _timed(times, predict(times.rows, hardware, tf32=tf32).expected):
        for name, part in _parts(row, expected, us):
            groups[name].add(row.phase, part)
    for (_, phase), us in times.rest.items():
        groups[RECOMPUTE if phase == "recompute" else AROUND].add(phase, us)
    groups[IDLE].add("forward", times.idle_forward_us)
    groups[IDLE].add("grad_input", times.idle_backward_us)
    off_roof = groups.pop(OFF_ROOF, None)
    if off_roof is not None:
        is_faster = off_roof.forward + off_roof.backward < 0
        groups[ABOVE_ROOF if is_faster else BELOW_ROOF] = off_roof
    return {name: group for name, group in groups.items() if group.forward or group.backward}


def _timed(times: StepTimes, expected: list[Expected]) -> Iterator[tuple[Row, Expected, float]]:
    """The rows of which the time is known, with it. That of fused operators that nothing divides is
    shared out over their rows as it would be if they took what they should."""
    untimed: defaultdict[str, list[tuple[Row, Expected]]] = defaultdict(list)
    for row, own in zip(times.rows, expected, strict=True):
        if row.time_us is not None:
            yield row, own, row.time_us
        elif row.phase in BACKWARD and own.seconds:
            untimed[row.layer].append((row, own))
    for layer, us in times.undivided.items():
        whole = fsum(own.seconds for _, own in untimed[layer])
        for row, own in untimed[layer]:
            yield row, own, us * own.seconds / whole
        if not whole:
            yield Row(layer, "", "", "", "grad_input"), NOTHING_KNOWN, us


def _parts(row: Row, expected: Expected, us: float) -> Iterator[tuple[str, float]]:
    """The time of one operator, in parts that sum to it."""
    at_roof, launch = 1e6 * expected.at_roof, 1e6 * expected.launch
    if row.phase == "recompute":
        yield RECOMPUTE, us
    elif not at_roof:
        launch = min(launch, us)
        yield LAUNCHES, launch
        yield NO_ROOF if row.flops else family(row), us - launch
    elif isclose(us, 1e6 * expected.seconds, rel_tol=AS_PREDICTED):
        yield AT_ROOF, at_roof
        yield LAUNCHES, launch
        yield BANDWIDTH, us - at_roof - launch
    else:
        beyond = min(1e6 * expected.seconds - at_roof - launch, max(us - at_roof, 0.0))
        launch = min(launch, max(us - at_roof - beyond, 0.0))
        yield AT_ROOF, at_roof
        yield LAUNCHES, launch
        yield BANDWIDTH, beyond
        yield OFF_ROOF, us - at_roof - beyond - launch


def _reasons(groups: Mapping[str, _Group], contributions: Mapping[str, Fraction]) -> list[Reason]:
    """The largest first; the small ones in one, which comes last."""
    least = SMALL * sum(map(abs, contributions.values()))
    ordered = sorted(contributions, key=lambda name: -abs(contributions[name]))
    always = (AT_ROOF, PROFILER)
    large = [name for name in ordered if abs(contributions[name]) >= least or name in always]
    small = [name for name in ordered if name not in large]
    if len(small) == 1:
        large, small = ordered, []

    def reason(name: str, members: list[str]) -> Reason:
        own = [groups[member] for member in members]
        return Reason(
            name,
            float(sum(group.forward for group in own)),
            float(sum(group.backward for group in own)),
            float(sum(contributions[member] for member in members)),
        )

    reasons = [reason(name, [name]) for name in large]
    if small:
        reasons.append(reason(f"{OTHER} ({_listed(small)})", small))
    return reasons


def _listed(names: list[str]) -> str:
    """The first few of some reasons, by their names without what explains these."""
    listed = [name.partition(" (")[0].partition(":")[0] for name in names]
    more = len(listed) - NAMED
    return "; ".join([*listed[:NAMED], *([f"{more} more"] if more > 0 else [])])
