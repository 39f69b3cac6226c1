"""The peak of a step in its sizes: the largest of a few moments, at each of which what is alive is
a sum of storages.

The moment of the peak changes from size to size. Those at which it is seen are followed through all
sizes: what is alive then is fitted storage by storage, and the peak is the largest of the sums.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flopratio.closed_form import Axis, Fit, Largest, Polynomial, Refusal, interpolate
from flopratio.closed_form.interpolate import Point
from flopratio.closed_form.polynomial import polynomial_sum
from flopratio.ledger import ROOT
from flopratio.verbs.formula.entries import Entry, Names, Sampled, align
from flopratio.verbs.formula.lives import Lives

MOST_MORE = 12
"""So many points are sampled at most beside those of the other quantities."""

FAR = 32
"""So many times its largest value each KEY is tried at: the peak may be at another moment there."""


@dataclass(frozen=True)
class PeakForm:
    """The closed form of the peak.

    Args:
        forms: the moment, in words -> the bytes that are alive then; those that are the peak most
            often first.
        leads: at how many points each is the largest, in that order.
        why_not: a sentence, where there is no form.
        verified_at: points that no fit has seen, at which every storage is equal.
    """

    forms: Mapping[str, Polynomial] = field(default_factory=dict)
    leads: tuple[int, ...] = ()
    why_not: str = ""
    verified_at: Sequence[Point] = ()

    @property
    def largest(self) -> Largest | None:
        """The peak; None where it has no form."""
        return Largest(tuple(self.forms.values())) if self.forms else None


def find_peak(
    sample: Callable[[Point], Sampled | None], axes: Sequence[Axis], fit: Fit, *, verify: int
) -> PeakForm:
    """The closed form of the peak.

    Args:
        sample: a step at a point; None where there is none.
        axes: the KEYs.
        fit: of the other quantities, whose points are used again.
        verify: how many points it is held against in the end.
    """
    base = fit.fitted_at[0]
    seen = [*fit.fitted_at, *fit.verified_at]
    joint = [p for p in seen if sum(p[key] != base[key] for key in base) > 1 or len(base) == 1]
    far = _far_away(sample, axes, base)
    followed = _Followed([found for p in (*seen, *far) if (found := sample(p)) is not None])
    more: list[Point] = []

    def limited(point: Point) -> Sampled | None:
        if point not in seen and point not in more:
            if len(more) == MOST_MORE:
                return None
            more.append(point)
        return sample(point)

    fitted = interpolate(limited, axes, align=followed.align, verify=verify, known=joint)
    refused: Mapping[Any, Refusal] = fitted.refused
    forms: Mapping[Any, Polynomial] = fitted.forms
    for entry, refusal in refused.items():
        values = ", ".join(
            f"{value:,} at " + " ".join(f"{key}={size}" for key, size in point.items())
            for point, value in refusal.samples[:4]
        )
        what = f"what {entry.op or 'is there from the start'} holds in {entry.layer or ROOT}"
        return PeakForm(why_not=f"{what} at the moment of {entry.quantity} has none: {values}")
    if verify and not fitted.verified_at:
        return PeakForm(why_not="there are no points left to hold it against")
    sums: defaultdict[str, list[Polynomial]] = defaultdict(list)
    for entry, form in forms.items():
        sums[entry.quantity].append(form)
    moments = {moment: polynomial_sum(each) for moment, each in sums.items()}
    return _ranked(moments, followed, fitted, far)


def _far_away(
    sample: Callable[[Point], Sampled | None], axes: Sequence[Axis], base: Point
) -> list[Point]:
    """Points with one KEY far beyond the values that are fitted, and with all. Not of those whose
    values somebody gave; and of the number of layers, with which a trace takes longer, the largest
    that is fitted: of few layers the first may be the last."""
    base, layers = dict(base), _layers(sample(base))
    sizes = []
    for axis in axes:
        beside = next((value for value in axis.values if value != axis.base), axis.base)
        if _layers(sample({**base, axis.key: beside})) != layers:
            base[axis.key] = axis.values[-1]
        elif not axis.verified:
            sizes.append(axis)
    far: Point = {}
    for axis in sizes:
        times = FAR
        while times > 1:
            value = axis.base + (axis.values[-1] * times - axis.base) // axis.step * axis.step
            if sample({**base, axis.key: value}) is not None:
                far[axis.key] = value
                break
            times //= 2
    points = [{**base, key: value} for key, value in far.items()]
    together = {**base, **far}
    if len(far) > 1 and sample(together) is not None:
        points.append(together)
    return points


def _layers(sampled: Sampled | None) -> int | None:
    return None if sampled is None else len(sampled.types)


def _ranked(
    forms: Mapping[str, Polynomial], followed: _Followed, fit: Fit, far: Sequence[Point]
) -> PeakForm:
    """The forms that are the largest somewhere, each once."""
    distinct = dict.fromkeys(forms.values())
    largest = Largest(tuple(distinct))
    leads: Counter[Polynomial] = Counter()
    lived = [sample.lives for sample in followed.also[len(followed.also) - len(far) :]]
    points = (*fit.fitted_at, *fit.verified_at, *far)
    for point, lives in zip(points, (*followed.lives, *lived), strict=True):
        if largest(point) != lives.peak:
            at = " ".join(f"{key}={size}" for key, size in point.items())
            return PeakForm(why_not=f"it is {lives.peak:,} at {at}, and not {largest(point):,}")
        leads[largest.leading(point)] += 1
    ranked = leads.most_common()
    moments: dict[Polynomial, str] = {}
    for moment, form in forms.items():
        moments.setdefault(form, moment)
    return PeakForm(
        {moments[form]: form for form, _ in ranked},
        tuple(number for _, number in ranked),
        verified_at=fit.verified_at,
    )


class _Followed:
    """The moments at which the peak is seen, followed through samples.

    Args:
        also: samples whose peaks are followed too.
    """

    def __init__(self, also: Sequence[Sampled]) -> None:
        self.also = also
        self.lives: list[Lives] = []

    def align(self, samples: Sequence[Sampled]) -> list[dict[Entry, int]]:
        """What is alive at each followed moment in every sample, under names that are the same in
        all of them. An entry's quantity is the moment."""
        self.lives = [sample.lives for sample in samples]
        given = set(map(id, samples))
        every = [*samples, *(each for each in self.also if id(each) not in given)]
        names = Names([sample.types for sample in every])
        records = [_moments(sample, names) for sample in every]
        aligned: list[dict[Entry, int]] = [{} for _ in samples]
        for moment in _peaks(every, records):
            at_moment = [
                Sampled(_alive_at(moment, sample.lives, found.get(moment)), sample.types)
                for sample, found in zip(samples, records, strict=False)
            ]
            for entries, more in zip(aligned, align(at_moment), strict=True):
                entries.update(more)
        return aligned


def _moments(sample: Sampled, names: Names) -> dict[str, int]:
    """The record of each moment, under names that it has at all sizes: layers whose number varies
    are counted from both ends, ``h.0``, ``h.-1``."""
    ends = names.from_the_ends(sample.types)
    seen: Counter[str] = Counter()
    found: dict[str, int] = {}
    for record, (layer, op, phase) in enumerate(sample.lives.operators):
        for name in dict.fromkeys(ends.get(layer, (layer,))):
            moment = f"{phase} of {op} in {name or ROOT}"
            seen[moment] += 1
            found[moment if seen[moment] == 1 else f"{moment}, number {seen[moment]}"] = record
    return found


def _peaks(samples: Sequence[Sampled], records: Sequence[Mapping[str, int]]) -> list[str]:
    """Few moments, one of which is the peak in each sample; those that all samples have, if it can
    be."""
    highest = []
    for sample, found in zip(samples, records, strict=True):
        alive, peak = sample.lives.alive, sample.lives.peak
        highest.append({moment: None for moment, at in found.items() if alive[at] == peak})
    everywhere = set.intersection(*(set(each) for each in records))
    peaks = []
    while highest:
        votes = Counter(moment for each in highest for moment in each)
        chosen = max(votes, key=lambda moment: (moment in everywhere, votes[moment]))
        peaks.append(chosen)
        highest = [each for each in highest if chosen not in each]
    return peaks


def _alive_at(moment: str, lives: Lives, record: int | None) -> dict[Entry, int]:
    seen: Counter[Entry] = Counter()
    entries: dict[Entry, int] = {}
    for life in () if record is None else lives.at(record):
        entry = Entry(moment, life.layer, life.op)
        entries[entry._replace(occurrence=seen[entry])] = life.nbytes
        seen[entry] += 1
    return entries
