"""What README and docs show below a command is what it prints; where lines are left out, … stands
for them. (Of commands that take no second; the others' are pasted too.)"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from flopratio.cli import main
from tests.docs.test_pages import PAGES, ROOT

QUICK = (
    "flopratio count torchvision:resnet18 batch=2 --top 3",
    "flopratio count torchvision:resnet18 batch=2 --top 6",
    "flopratio count mlp depth=1 batch=8 --by autograd",
    "flopratio formula mlp batch depth width --optimizer sgd",
)

PINNED = re.search(r"^torch==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.M)
"""The torch that they were printed with: others run other operators."""


def shown(page: Path, command: str) -> list[list[str]]:
    """The lines below a command, each time that it is shown."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.M | re.S)
    outputs = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    return [
        lines
        for first, *lines in (output.rstrip().split("\n") for output in outputs)
        if first == command
    ]


def shows(lines: list[str], printed: list[str]) -> bool:
    """Whether lines are all that was printed, or that but for what … stands for."""
    parts = [re.escape(line) + "\n" if line != "…" else "(?:.*\n)+" for line in lines]
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in printed)) is not None


def test_what_is_left_out_is_told() -> None:
    printed = ["a", "b", "", "c"]
    for lines in (printed, ["a", "…"], ["…", "c"], ["a", "…", "c"], ["…", "b", "…"]):
        assert shows(lines, printed)
    for lines in (["a", "b"], ["b", "", "c"], ["a", "…", "x"], [*printed, "…"], ["a", "c"]):
        assert not shows(lines, printed)


@pytest.mark.skipif(
    PINNED is None or not torch.__version__.startswith(PINNED[1]),
    reason="the pages were printed with another torch",
)
@pytest.mark.parametrize("command", QUICK)
def test_pages_show_what_is_printed(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "105")
    found = {page.name: each for page in PAGES for each in shown(page, command)}
    assert found
    assert main([*shlex.split(command)[1:], "-q"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.rstrip().split("\n")]
    for page, lines in found.items():
        assert shows(lines, printed), f"{page} shows otherwise: {printed}"
