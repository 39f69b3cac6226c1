"""What a verb is doing, on stderr."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 2.0
"""Seconds in which nothing is said."""


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
    """A line on stderr, if that is a terminal, from the moment on at which something takes time.

    The line is only written when what is done changes: a spinner would turn beside the step that is
    timed, and take time from it.

    Yields:
        What to call with what is done next.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda stage: None
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
