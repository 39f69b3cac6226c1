"""The line that says what a verb is doing."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest

from flopratio.cli import progress
from flopratio.cli.progress import late_progress


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    import rich.console

    written = io.StringIO()

    def console(**words: Any) -> rich.console.Console:
        return original(file=written, force_terminal=True, width=80)

    original = rich.console.Console
    monkeypatch.setattr(rich.console, "Console", console)
    return written


def test_what_is_over_at_once_says_nothing(terminal: io.StringIO) -> None:
    with late_progress("profiling mlp", quiet=False) as show:
        show("timing")
    assert terminal.getvalue() == ""


def test_what_takes_long_says_what_it_does(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[Any] = []

    class Timer:
        def __init__(self, seconds: float, start: Any) -> None:
            self.start_now = start
            assert seconds == progress.PATIENCE_S
            timers.append(self)

        def start(self) -> None: ...

        def cancel(self) -> None: ...

    monkeypatch.setattr(progress.threading, "Timer", Timer)
    with late_progress("profiling mlp", quiet=False) as show:
        show("building")
        timers[0].start_now()
        assert "profiling mlp: building" in terminal.getvalue()
        show("timing")
        assert "profiling mlp: timing" in terminal.getvalue()


def test_quietly_nothing_is_said(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    with late_progress("profiling mlp", quiet=True) as show:
        show("timing")
    assert terminal.getvalue() == ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one number is what the time is."""
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_log_has_a_line_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with late_progress("formula of mlp", quiet=False) as show:
        for traces in range(1, 8):
            clock[0] += 4.0
            show(f"{traces} steps traced")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "flopratio: formula of mlp: 3 steps traced",
        "flopratio: formula of mlp: 6 steps traced",
    ]


def test_and_quietly_none(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with late_progress("formula of mlp", quiet=True) as show:
        clock[0] += 40.0
        show("12 steps traced")
    assert capsys.readouterr().err == ""
