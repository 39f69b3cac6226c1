"""The steps of many cases counted, in processes of their own where there are many."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir, contextmanager
from pathlib import Path

from flopratio.errors import UsageError, message_of
from flopratio.hardware.processor import usable_cores
from flopratio.snapshot import Snapshot
from flopratio.verbs.check.cases import Case
from flopratio.verbs.check.lock import locked_form

CASES_A_PROCESS = 4
"""For fewer cases than this a process of their own is not worth what it takes to import torch."""

DIED = "the process that counted it died: it may need more memory than there is"

Count = Snapshot | str
"""A count; or why there is none, in a sentence."""


def count_cases(
    cases: Sequence[Case],
    directory: Path,
    *,
    processes: int | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, Count]:
    """Count each case.

    Args:
        directory: where relative paths start, and modules are imported from.
        processes: how many count; one is this one. As many as pay unless given.
        progress: called with what has been done.
    """
    if processes is None:
        processes = min(usable_cores(), len(cases) // CASES_A_PROCESS)
    counts: dict[str, Count] = {}
    done = _here(cases, directory) if processes < 2 else _beside(cases, directory, processes)
    for name, count in done:
        counts[name] = count
        progress(f"{len(counts)} of {len(cases)}, {name}")
    return {case.name: counts[case.name] for case in cases}


def _here(cases: Sequence[Case], directory: Path) -> Iterator[tuple[str, Count]]:
    with chdir(directory):
        for case in cases:
            yield case.name, count_case(case)


def _beside(cases: Sequence[Case], directory: Path, processes: int) -> Iterator[tuple[str, Count]]:
    """In processes that begin afresh: nothing that a case leaves behind is there for those of
    another. Where one dies, those that it takes along are counted again, each by itself."""
    taken_along: list[Case] = []
    with _pool(processes, directory) as pool:
        futures: dict[Future[Count], Case] = {}
        try:
            futures = {pool.submit(count_case, case): case for case in cases}
        except BrokenProcessPool:
            taken_along += cases
        for future in as_completed(futures):
            try:
                yield futures[future].name, future.result()
            except BrokenProcessPool:
                taken_along.append(futures[future])
    for case in taken_along:
        with _pool(1, directory) as pool:
            try:
                yield case.name, pool.submit(count_case, case).result()
            except BrokenProcessPool:
                yield case.name, DIED


@contextmanager
def _pool(processes: int, directory: Path) -> Iterator[ProcessPoolExecutor]:
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if has_server else "spawn")
    if has_server:
        context.set_forkserver_preload(["flopratio.verbs.count"])  # imports torch once
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(str(directory),)
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(directory: str) -> None:
    import torch

    os.chdir(directory)
    torch.set_num_threads(1)  # the processes would be in each other's way


def count_case(case: Case) -> Count:
    """Count one, in the working directory; whatever its model raises, it is told in a sentence."""
    from flopratio.step.options import StepOptions
    from flopratio.verbs.count import count_step

    step = case.step
    try:
        ledger = count_step(step.model, None, step.settings, StepOptions(**step.options))
        return locked_form(step, Snapshot.of(ledger))
    except UsageError as error:
        return " ".join(str(error).split())
    except Exception as error:  # of the user's code
        return f"{type(error).__name__}: {' '.join(message_of(error).split())}"


def counted(counts: Mapping[str, Count]) -> dict[str, Snapshot]:
    """Those that could be counted."""
    return {name: count for name, count in counts.items() if isinstance(count, Snapshot)}
