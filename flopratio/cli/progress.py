"""What a verb is doing, on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 2.0
"""Seconds in which nothing is said."""

BETWEEN_LINES_S = 10.0
"""Seconds between two lines in a log."""


@contextmanager
def waiting(task: str, *, quiet: bool) -> Iterator[None]:
    """A spinner on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
    else:
        with console.status(Text(task)):
            yield


@contextmanager
def late_progress(task: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line on stderr from the moment on at which something takes time. In a terminal it changes
    with what is done; elsewhere it is another line now and then.

    It is only written when what is done changes: a spinner would turn beside the step that is
    timed, and take time from it.

    Yields:
        What to call with what is done next.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield now_and_then(task, quiet=quiet)
        return
    live = Live(console=console, auto_refresh=False, transient=True)
    text = Text(task)
    lock = threading.Lock()

    def start() -> None:
        with lock:
            live.start()
            live.update(text, refresh=True)

    def show(stage: str) -> None:
        nonlocal text
        with lock:
            text = Text(f"{task}: {stage}")
            if live.is_started:
                live.update(text, refresh=True)

    timer = threading.Timer(PATIENCE_S, start)
    timer.daemon = True
    timer.start()
    try:
        yield show
    finally:
        timer.cancel()
        with lock:
            live.stop()


def now_and_then(task: str, *, quiet: bool) -> Callable[[str], None]:
    """What to call with what is done, for a log: of what comes within seconds of the start or of
    the last line, nothing is written to stderr."""
    last = time.monotonic()

    def show(stage: str) -> None:
        nonlocal last
        if not quiet and time.monotonic() - last >= BETWEEN_LINES_S:
            last = time.monotonic()
            print(f"flopratio: {task}: {stage}", file=sys.stderr, flush=True)

    return show
