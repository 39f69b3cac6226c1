"""What a shell completes, and how fast it may ask."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flopratio.report import view
from flopratio.report.profile import view as timed


def completed(words: str) -> list[str]:
    """What bash is told for a line, with the cursor at its end; torch is not imported for it."""
    line = f"flopratio {words}"
    environment = {
        **os.environ,
        "_FLOPRATIO_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    run = "import sys, flopratio.cli\ntry:\n    flopratio.cli.main([])\n"
    run += "finally:\n    assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", run], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["check", "count", "diff", "fit", "formula", "graph", "profile", "report", "sweep"]),
        ("count t", ["torchvision:", "timm:"]),
        ("count m", ["mlp"]),
        ("sweep c", ["cnn", "convnet"]),
        ("fit mlp de", ["depth="]),
        ("count mlp --optimizer ada", ["adagrad", "adam", "adamw"]),
        ("count --target H1", ["H100-80GB"]),
        ("count --by a", ["autograd"]),
        ("count --sort grad", ["grad_input", "grad_weight"]),
        ("fit --figure peak_", ["peak_allocated", "peak_reserved"]),
        ("sweep --measure c", ["cpu", "cuda"]),
        ("profile --device c", ["cpu", "cuda"]),
        ("profile --sort grad", ["grad_input_time", "grad_weight_time"]),
        ("count mlp --optimizer-", ["--optimizer-implementation"]),
    ],
)
def test_names_that_begin_so(words: str, names: list[str]) -> None:
    assert [name for name in completed(words) if name in names] == names
    begun = words.split(" ")[-1]
    assert all(name.startswith(begun) for name in completed(words))


@pytest.mark.parametrize(("verb", "views"), [("count", view.VIEWS), ("profile", timed.VIEWS)])
def test_every_view_is_offered(verb: str, views: dict[str, object]) -> None:
    assert completed(f"{verb} --by ") == list(views)


def test_a_shell_can_be_told_how() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flopratio", "--show-completion", "zsh"],
        # Typer would look for the shell that runs this.
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_FLOPRATIO_COMPLETE=complete_zsh" in done.stdout
