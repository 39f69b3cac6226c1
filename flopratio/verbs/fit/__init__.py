"""``fr.fit``: the largest batch, or any other size, whose training step fits a given memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Unpack, overload

import torch

from flopratio.errors import UsageError
from flopratio.step.options import DEFAULTS, StepKeywords, StepOptions, takes_step_options
from flopratio.text.byte_size import parse_bytes
from flopratio.text.grammar import unknown
from flopratio.verbs.fit.levers import (
    Combination,
    Lever,
    closest_lever,
    combinations,
    compare_levers,
)
from flopratio.verbs.fit.search import Search, Tried
from flopratio.verbs.fit.step import OpenStep
from flopratio.version import versions

__all__ = ["FIGURES", "Combination", "Fit", "Lever", "Progress", "Tried", "fit"]

FIGURES = ("peak", "peak_allocated", "peak_reserved")
"""What may have to fit: live bytes, or what the device's allocator makes of them."""


class Progress(NamedTuple):
    """What has just been tried.

    Args:
        done, total: searches that have ended, of how many.
    """

    tried: Tried
    options: StepOptions
    done: int
    total: int


@dataclass(frozen=True)
class Fit:
    """The largest size that fits, and the next as proof.

    Args:
        model, settings: what was traced; ``settings`` at ``largest``.
        key: whose largest value was looked for.
        largest: the largest value that fits; 0 where not even the smallest does.
        peak: bytes that are alive at most at ``largest``, as in :func:`flopratio.count`.
        next: the value after it; the smallest that the model runs with where none fits.
        peak_at_next: its peak; None where the model refuses it.
        peak_allocated, peak_reserved: what the device's allocator hands out and takes at most.
        peak_phase, at_peak: when that is, and the bytes of each category then.
        memory, reserve: bytes that there are, and that are left free.
        figure: which of :data:`FIGURES` fits them.
        options: of the step, by name, as in :class:`flopratio.step.options.StepOptions`.
        tried: every value that was traced, the smallest first.
        step: values are multiples of this; the model refuses others.
        falls: pairs of values of which the larger needs less.
        gaps: values that the model refuses, though it takes larger ones.
        help: where nothing fits: the lever that would help, and the smallest value with it.
        base: the value at which levers are compared.
        levers: what each combination buys and costs, if that was asked for.

    ``peak`` to ``at_peak`` are of ``next`` where nothing fits, but for ``peak`` itself: None.
    """

    model: str
    settings: dict[str, Any]
    key: str
    largest: int
    peak: int | None
    next: int
    peak_at_next: int | None
    peak_allocated: int
    peak_reserved: int
    peak_phase: str
    at_peak: dict[str, int]
    memory: int
    reserve: int
    figure: str
    options: dict[str, Any]
    versions: dict[str, str]
    tried: tuple[Tried, ...]
    step: int
    falls: tuple[tuple[Tried, Tried], ...] = ()
    gaps: tuple[Tried, ...] = ()
    help: tuple[Combination, Tried] | None = None
    base: int = 0
    levers: tuple[Lever, ...] = ()

    @property
    def limit(self) -> int:
        """Bytes that the step may take."""
        return self.memory - self.reserve

    @property
    def refusal(self) -> str:
        """Why the model takes no larger value than ``largest``; empty if memory is the reason."""
        return next(tried.refusal for tried in self.tried if tried.size == self.next)


@overload
def fit(
    model: torch.nn.Module,
    batch: Any,
    *,
    memory: str | int,
    key: str = "batch",
    reserve: str | int = 0,
    figure: str = "peak",
    levers: bool = False,
    progress: Callable[[Progress], None] = ...,
    **options: Unpack[StepKeywords],
) -> Fit: ...


@overload
def fit(
    model: str,
    batch: int | None = None,
    *,
    memory: str | int,
    key: str = "batch",
    reserve: str | int = 0,
    figure: str = "peak",
    levers: bool = False,
    progress: Callable[[Progress], None] = ...,
    **words: Any,
) -> Fit: ...


@takes_step_options(DEFAULTS)
def fit(
    model: torch.nn.Module | str,
    batch: Any = None,
    *,
    memory: str | int,
    key: str = "batch",
    reserve: str | int = 0,
    figure: str = "peak",
    levers: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
    **settings: Any,
) -> Fit:
    """The largest value of a KEY whose training step fits a memory. Nothing is executed.

    Every answer is a step that was traced, and so is the next value's, which does not fit.

    Args:
        model, batch: as :func:`flopratio.count` takes them. Of a built module, the leading
            dimension of the inputs is varied; of an input that is a list, its length.
        memory: that there is: ``"80GiB"``, ``"24 GB"``, or a number of bytes.
        key: a KEY of a spec whose values are whole numbers: ``batch``, ``seq``, ``depth``,
            ``width``, ``image``. A value that is given for it, too, is where to start.
        reserve: of the memory, to be left free.
        figure: what has to fit: the ``peak`` of the live tensors, or what the device's allocator
            hands out (``peak_allocated``) or takes (``peak_reserved``) at most.
        levers: also find what checkpointing, other optimizers, lower precision and micro-batches
            buy and cost, at the value given for ``key`` or else at the largest that fits.
        progress: called after each trace.
        settings: a spec's sizes.

    The other keywords say how the step is run, see
    :class:`flopratio.step.options.StepOptions`. Random numbers are drawn as by
    :func:`flopratio.count`, and the caller's random state is left as it was.

    Raises:
        UsageError: a size without a unit, a KEY that the model does not have or that changes no
            byte, or a model that can't be run; one sentence says what.
    """
    if figure not in FIGURES:
        raise unknown("figure", figure, FIGURES)
    total, kept = parse_bytes("memory", memory), parse_bytes("reserve", reserve)
    if kept >= total:
        raise UsageError(f"reserve={reserve} leaves nothing of memory={memory}")
    if key in DEFAULTS or key == "model":
        raise UsageError(f"{key} is an option and no KEY of a model: name a size, such as batch")
    options, settings = StepOptions.among(settings)
    step = OpenStep(model, batch, key, settings)
    given = Combination.given(options)
    searches = len(combinations(given, inference=options.inference)) if levers else 1
    done = 0

    def trace(options: StepOptions, size: int) -> Tried:
        return announced(step.trace(options, size), options)

    def announced(tried: Tried, options: StepOptions) -> Tried:
        progress(Progress(tried, options, done, searches))
        return tried

    def one_more(_lever: Lever) -> None:
        nonlocal done
        done += 1

    first = announced(step.first(options), options)
    search = Search(partial(trace, options), total - kept, figure)
    search.run(first)
    if search.is_flat:
        raise UsageError(
            f"{key} changes no byte of the step: {key}={search.ran[0].size} and "
            f"{key}={search.ran[-1].size} need the same; name a size that does, such as batch"
        )
    largest, after = search.largest, search.next
    shown = largest or after
    base = shown if step.given is None else first
    return Fit(
        model=step.name,
        settings={**shown.settings, key: shown.size},
        key=key,
        largest=largest.size if largest else 0,
        peak=largest.peak if largest else None,
        next=after.size,
        peak_at_next=after.peak,
        peak_allocated=shown.memory["peak_allocated"],
        peak_reserved=shown.memory["peak_reserved"],
        peak_phase=shown.memory["peak_phase"],
        at_peak=dict(shown.at_peak),
        memory=total,
        reserve=kept,
        figure=figure,
        options=options.as_dict(),
        versions=versions(),
        tried=tuple(sorted(search.tried.values(), key=lambda tried: tried.size)),
        step=search.step,
        falls=tuple(search.falls),
        gaps=tuple(search.gaps),
        help=None if largest else closest_lever(search, after, options, trace),
        base=base.size,
        levers=compare_levers(search, base, options, trace, one_more, key=key) if levers else (),
    )
