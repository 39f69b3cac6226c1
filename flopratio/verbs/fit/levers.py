"""The levers of a step: what checkpointing, the optimizer, precision and accumulation buy in memory
and cost in FLOP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from flopratio.step.options import StepOptions
from flopratio.verbs.fit.search import Search, Tried

Trace = Callable[[StepOptions, int], Tried]
"""Traces the step at a size."""

MICRO_BATCHES = 4


class Combination(NamedTuple):
    """The levers of a step, by their options."""

    checkpoint: str | None
    optimizer: str
    dtype: str | None
    amp: str | None
    accumulate: int

    @classmethod
    def given(cls, options: StepOptions) -> Combination:
        """Those among the options of a step."""
        return cls(*(getattr(options, name) for name in cls._fields))

    @property
    def activations(self) -> tuple[str | None, ...]:
        """The levers that activations depend on."""
        return self.checkpoint, self.dtype, self.amp

    def moved(self, given: Combination) -> dict[str, Any]:
        """The levers that are not as given."""
        mine, theirs = self._asdict(), given._asdict()
        return {name: value for name, value in mine.items() if value != theirs[name]}


@dataclass(frozen=True)
class Lever:
    """A combination of levers: what it buys, and what it costs.

    Args:
        combination: its options. Micro-batches divide the batch: so many of its examples at a time.
        peak: bytes at the base size; None if the model can't be run so.
        saved: how many bytes less that is than as given; negative where it is more.
        flops_per_example: contractions of forward, backward and recompute, and the update, at the
            base size, relative to those as given; None where there are none.
        largest: size that fits; 0 where none does.
        peak_at_largest, next, peak_at_next: as in :class:`flopratio.verbs.fit.Fit`.
        refusal: why the model can't be run so, in a sentence.
    """

    combination: Combination
    peak: int | None = None
    saved: int | None = None
    flops_per_example: float | None = None
    largest: int = 0
    peak_at_largest: int | None = None
    next: int | None = None
    peak_at_next: int | None = None
    refusal: str = ""


def combinations(given: Combination, *, inference: bool = False) -> list[Combination]:
    """Those worth a look: what is given first, then one lever at a time, then several.

    Micro-batches do what a smaller batch does, whatever the other levers do: they are combined with
    checkpointing alone.
    """
    optimizers = {"none": [], "sgd": []}.get(given.optimizer, ["sgd"])
    if given.optimizer.startswith("adam"):
        optimizers = ["momentum", "sgd"]
    checkpoints = ["auto", None]
    if given.checkpoint is not None and given.checkpoint.startswith("auto"):
        checkpoints = [None]
    accumulations = [MICRO_BATCHES if given.accumulate == 1 else 1]
    if inference:
        optimizers, checkpoints, accumulations = [], [], []
    halves = [(given.dtype, "bf16"), ("bfloat16", None)]
    if given.dtype in ("bfloat16", "float16"):
        halves = []
    worth_a_look = [
        Combination(checkpoint, optimizer, dtype, amp, accumulate)
        for accumulate, (dtype, amp), optimizer, checkpoint in itertools.product(
            _unique(given.accumulate, accumulations),
            _unique((given.dtype, given.amp), halves),
            _unique(given.optimizer, optimizers),
            _unique(given.checkpoint, checkpoints),
        )
        if accumulate == given.accumulate
        or (dtype, amp, optimizer) == (given.dtype, given.amp, given.optimizer)
    ]
    return sorted(worth_a_look, key=lambda combination: _changes(combination, given))


def _unique(first: Any, others: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys([first, *others]))


def _changes(combination: Combination, given: Combination) -> int:
    """How many levers are moved; precision is one."""
    moved = combination.moved(given)
    return len(moved) - ({"dtype", "amp"} <= moved.keys())


def compare_levers(
    given_search: Search,
    base: Tried,
    options: StepOptions,
    trace: Trace,
    finished: Callable[[Lever], None] = lambda lever: None,
    *,
    key: str = "batch",
) -> tuple[Lever, ...]:
    """What each combination buys and costs: the largest size first, then the least FLOP.

    A combination that holds a refused one is left out.

    Args:
        given_search: with the options as given.
        base: of it, the size at which peaks and FLOP are compared.
        options: as given.
        finished: called with each combination.
        key: whose sizes they are. Of the batch, micro-batches take their share each.
    """
    given = Combination.given(options)
    levers: list[Lever] = []
    refused: list[dict[str, Any]] = []
    alike: dict[Any, Search] = {}  # activations do not depend on the optimizer
    for combination in combinations(given, inference=options.inference):
        moved = combination.moved(given)
        if any(one.items() <= moved.items() for one in refused):
            continue
        search, at_base = given_search, base
        if moved:
            attempt = partial(trace, replace(options, **moved))
            search = alike.get(combination.activations, given_search).another(attempt)
            at_base = attempt(_share(base.size, combination, given, key))
        if at_base.runs:
            if moved:  # a search is compared with one like it at the same size
                search.run(at_base if at_base.size == base.size else attempt(base.size))
            alike.setdefault(combination.activations, search)
            levers.append(_lever(combination, at_base, given, base, search, key))
        else:
            refused.append(moved)
            levers.append(Lever(combination, refusal=at_base.refusal))
        finished(levers[-1])
    return tuple(
        sorted(
            levers, key=lambda one: (bool(one.refusal), -one.largest, one.flops_per_example or 0)
        )
    )


def _share(size: int, combination: Combination, given: Combination, key: str) -> int:
    """What one micro-batch has to take of a size, rounded up."""
    if key != "batch":
        return size
    return -(-size * given.accumulate // combination.accumulate)


def _whole(share: int, combination: Combination, given: Combination, key: str) -> int:
    """The size of which that is one micro-batch's share."""
    return share * combination.accumulate // given.accumulate if key == "batch" else share


def _lever(
    combination: Combination,
    at_base: Tried,
    given: Combination,
    base: Tried,
    search: Search,
    key: str,
) -> Lever:
    largest, after = search.largest, search.next
    # Examples of a step, at both sizes; of another KEY's they are as many in each micro-batch.
    examples, base_examples = (at_base.size, base.size) if key == "batch" else (1, 1)
    flops = base.flops * combination.accumulate * examples
    return Lever(
        combination,
        peak=at_base.peak,
        saved=base.memory["peak"] - at_base.memory["peak"],
        flops_per_example=(
            at_base.flops * given.accumulate * base_examples / flops if flops else None
        ),
        largest=_whole(largest.size, combination, given, key) if largest else 0,
        peak_at_largest=largest.peak if largest else None,
        next=_whole(after.size, combination, given, key),
        peak_at_next=after.peak,
    )


def closest_lever(
    search: Search, smallest: Tried, options: StepOptions, trace: Trace
) -> tuple[Combination, Tried] | None:
    """The first lever that makes the smallest size fit, alone or, if none does, with all others;
    else what needs the least; None if nothing needs less.

    Args:
        search: with the options as given, in which no size fits.
        smallest: of it.
        options: as given.

    Returns:
        The combination, and the smallest size with it.
    """
    given = Combination.given(options)
    useful = [
        combination
        for combination in combinations(given, inference=options.inference)
        if combination.accumulate == given.accumulate
    ]
    most = max(_changes(combination, given) for combination in useful)
    tried = []
    for combination in useful:
        if _changes(combination, given) in {1, most} - {0}:
            attempt = trace(replace(options, **combination.moved(given)), smallest.size)
            if search.fits(attempt):
                return combination, attempt
            if attempt.runs:
                tried.append((combination, attempt))
    best = min(tried, key=lambda pair: search.bytes_of(pair[1]), default=None)
    return best if best and search.bytes_of(best[1]) < search.bytes_of(smallest) else None
