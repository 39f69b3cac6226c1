"""The peak of a step in its sizes: the largest of a few moments, at each of which what is alive is
a sum of storages.

The moment of the peak changes from size to size. Those at which it is seen are followed through all
sizes: what is alive then is fitted storage by storage, and the peak is the largest of the sums.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flopratio.closed_form import Axis, Fit, Largest, Polynomial, Refusal, interpolate
from flopratio.closed_form.interpolate import Point
from flopratio.closed_form.polynomial import monomials, polynomial_sum
from flopratio.ledger import ROOT
from flopratio.verbs.formula.entries import MEMORY, Entry, Names, Sampled, align, from_nearer_end
from flopratio.verbs.formula.lives import Lives

OF_STORAGES = (*MEMORY, "parameters")
"""What is alive at a moment goes with what these quantities go with."""

MOST_MORE = 12
"""So many points are sampled at most beside those of the other quantities."""

DRAWS = 1000
"""At so many random sizes it is looked for moments that no sample has its peak at."""

EQUAL = 1e-7
"""Shares of the peak that differ by less are one."""

FAR = 32
"""So many times its largest value each KEY may be there; the number of layers too."""


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
    structural = _structural(sample, axes, fit.fitted_at)
    # With fewest operators: some moments are missing there.
    seen += [{**base, a.key: a.values[0]} for a in structural if a.values[0] != base[a.key]]
    taken = [(point, found) for point in seen if (found := sample(point)) is not None]
    followed = _Followed(taken)
    more: list[Point] = []

    def limited(point: Point) -> Sampled | None:
        if point not in seen and point not in more:
            if len(more) == MOST_MORE:
                return None
            more.append(point)
        return sample(point)

    draws = _drawn(axes)
    of_storages: Mapping[Any, Polynomial] = fit.forms
    bytes_go_with = [f for entry, f in of_storages.items() if entry.quantity in OF_STORAGES]
    fitted = interpolate(limited, axes, align=followed.align, verify=verify, known=joint)
    while not fitted.refused:
        forms_so_far = (*bytes_go_with, *fitted.forms.values())
        basis = dict.fromkeys(m for form in forms_so_far for m in monomials(form))
        for axis in structural:  # what all layers have together, and what one has
            basis |= dict.fromkeys(_without(monomial, axis.key) for monomial in basis)
        if not followed.add(_elsewhere(followed.also, tuple(basis), draws)):
            break
        fitted = interpolate(limited, axes, align=followed.align, verify=verify, known=joint)
    refused: Mapping[Any, Refusal] = fitted.refused
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
    forms: Mapping[Any, Polynomial] = fitted.forms
    for entry, form in forms.items():
        sums[entry.quantity].append(form)
    moments = {moment: polynomial_sum(each) for moment, each in sums.items()}
    return _ranked(moments, followed.peaks, fitted, draws)


def _structural(
    sample: Callable[[Point], Sampled | None], axes: Sequence[Axis], fitted_at: Sequence[Point]
) -> list[Axis]:
    """The KEYs that change how many operators run."""
    base, *others = fitted_at
    number = _operators(sample(base))
    return [
        axis
        for axis in axes
        if any(
            _operators(sample(point)) != number
            for point in others
            if point == {**base, axis.key: point[axis.key]}
        )
    ]


def _without(monomial: Polynomial, key: str) -> Polynomial:
    ((atoms, _),) = monomial.terms.items()
    return Polynomial({tuple((atom, power) for atom, power in atoms if atom != key): 1})


def _operators(sampled: Sampled | None) -> int:
    return 0 if sampled is None else len(sampled.lives.operators)


def _ranked(
    forms: Mapping[str, Polynomial], peaks: Sequence[int], fit: Fit, draws: Sequence[Point]
) -> PeakForm:
    """The forms that are the largest somewhere, each once."""
    moments: dict[Polynomial, str] = {}
    for moment, form in forms.items():
        moments.setdefault(form, moment)
    largest = Largest(tuple(moments))
    leads: Counter[Polynomial] = Counter()
    for point, peak in zip((*fit.fitted_at, *fit.verified_at), peaks, strict=True):
        if largest(point) != peak:
            at = " ".join(f"{key}={size}" for key, size in point.items())
            return PeakForm(why_not=f"it is {peak:,} at {at}, and not {int(largest(point)):,}")
        leads[largest.leading(point)] += 1
    elsewhere = Counter(largest.leading(point) for point in draws)
    ranked = sorted({**leads, **elsewhere}, key=lambda form: (-leads[form], -elsewhere[form]))
    return PeakForm(
        {moments[form]: form for form in ranked},
        tuple(leads[form] for form in ranked),
        verified_at=fit.verified_at,
    )


# -- sizes of which there is no sample -----------------------------------------------------------


def _drawn(axes: Sequence[Axis]) -> list[Point]:
    """Random sizes: as small as the samples', up to far larger ones; or those that somebody gave.
    Small and large ones are as likely."""
    draw = random.Random(0)
    points = []
    for _ in range(DRAWS):
        point = {}
        for axis in axes:
            if axis.verified:
                point[axis.key] = draw.choice(axis.verified)
                continue
            first, last = max(axis.values[0], 1), axis.values[-1] * FAR
            size = first * (last / first) ** draw.random()
            point[axis.key] = first + int(size - first) // axis.step * axis.step
        points.append(point)
    return points


def _elsewhere(
    taken: Sequence[tuple[Point, Sampled]],
    basis: Sequence[Polynomial],
    draws: Sequence[Point],
) -> list[str]:
    """Moments that may be the peak at some of the draws. What is alive at each is taken for a
    combination of what the storages of some go with: as far as floating point tells.

    Args:
        basis: monomials.
    """
    points, samples = zip(*taken, strict=True)
    records = _moments(samples)
    everywhere = sorted(set.intersection(*(set(each) for each in records)))
    both = list(zip(samples, records, strict=True))
    alive = np.array([[s.lives.alive[at[m]] for m in everywhere] for s, at in both], dtype=float)
    at_samples = np.array([[float(m(point)) for m in basis] for point in points])
    at_draws = np.array([[float(m(point)) for m in basis] for point in draws])
    weight = 1 / alive.max(axis=1, keepdims=True)
    largest = np.abs(at_samples * weight).max(axis=0)
    scale = np.where(largest == 0, 1, largest)
    factors, *_ = np.linalg.lstsq(at_samples * weight / scale, alive * weight)
    fits = np.abs(at_samples * weight / scale @ factors - alive * weight).max(axis=0) < EQUAL
    predicted = np.where(fits, at_draws / scale @ factors, 0)
    highest = (predicted > 0) & (predicted >= predicted.max(axis=1, keepdims=True) * (1 - EQUAL))
    chosen = []
    while highest.any():
        place = int(highest.sum(axis=0).argmax())
        chosen.append(everywhere[place])
        highest = highest[~highest[:, place]]
    return chosen


class _Followed:
    """The moments at which the peak is seen, followed through samples.

    Args:
        also: points and samples whose peaks are followed too.

    Attributes:
        peaks: of the samples that were aligned last.
    """

    def __init__(self, also: Sequence[tuple[Point, Sampled]]) -> None:
        self.also = also
        self.further: list[str] = []
        self.peaks: list[int] = []

    def add(self, moments: Sequence[str]) -> bool:
        """Follow these too. Whether some of them are new."""
        new = [moment for moment in moments if moment not in self.further]
        self.further += new
        return bool(new)

    def align(self, samples: Sequence[Sampled]) -> list[dict[Entry, int]]:
        """What is alive at each followed moment in every sample, under names that are the same in
        all of them. An entry's quantity is the moment."""
        self.peaks = [sample.lives.peak for sample in samples]
        given = set(map(id, samples))
        every = [*samples, *(each for _, each in self.also if id(each) not in given)]
        records = _moments(every)
        aligned: list[dict[Entry, int]] = [{} for _ in samples]
        for moment in dict.fromkeys((*_peaks(every, records), *self.further)):
            at_moment = [
                Sampled(_alive_at(moment, sample.lives, found.get(moment)), sample.types)
                for sample, found in zip(samples, records, strict=False)
            ]
            for entries, more in zip(aligned, align(at_moment), strict=True):
                entries.update(more)
        return aligned


def _moments(samples: Sequence[Sampled]) -> list[dict[str, int]]:
    """The record of each moment in every sample, under names that are the same in all of them:
    where the number of layers varies, or how often an operator runs for one, it is counted from the
    nearer end."""
    names = Names([sample.types for sample in samples])
    records: list[defaultdict[str, list[int]]] = []
    for sample in samples:
        place = names.places(sample.types)
        running: defaultdict[str, list[int]] = defaultdict(list)
        for record, (layer, op, phase) in enumerate(sample.lives.operators):
            running[f"{phase} of {op} in {place.get(layer, layer) or ROOT}"].append(record)
        records.append(running)
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for each in records:
        for moment, times in each.items():
            numbers[moment].add(len(times))
    found: list[dict[str, int]] = []
    for each in records:
        found.append({})
        for moment, times in each.items():
            for index, record in enumerate(times):
                number = index
                if len(numbers[moment]) > 1:
                    number = from_nearer_end(index, len(times))
                found[-1][_numbered(moment, number)] = record
    return found


def _numbered(moment: str, number: int) -> str:
    """The moment, if it is not the first time."""
    if number < 0:
        return f"{moment}, the last" if number == -1 else f"{moment}, {-number} from the last"
    return f"{moment}, number {number + 1}" if number else moment


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
    seen: Counter[tuple[str, str]] = Counter()
    entries: dict[Entry, int] = {}
    for life in () if record is None else lives.at(record):
        of = life.layer, life.op
        entries[Entry(moment, *of, "", seen[of])] = life.nbytes
        seen[of] += 1
    return entries
