"""README and docs: the commands that they show are commands, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from flopratio.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")))
MADE = ("experiments.md", "figures/")
"""What is made when the site is built."""


def commands(text: str) -> list[str]:
    """What is typed at a prompt, or stands in a table in backquotes."""
    prompts = re.findall(r"^(?:\$ |\.venv/bin/)(flopratio .*)$", text, re.M)
    quoted = re.findall(r"`(flopratio [a-z]+ [^`…]*)`", text)
    return [re.split(r" +# | && ", line)[0] for line in (*prompts, *quoted)]


def is_a_pattern(command: str) -> bool:
    """Whether words stand for others: MODEL, [KEY=VALUE], a|b, ..."""
    return bool(re.search(r"\b[A-Z]{3,}\b|[\[\]|]|\.\.\.|-o$", command))


SHOWN = sorted(
    {line for page in PAGES for line in commands(page.read_text()) if not is_a_pattern(line)}
)


def test_there_are_commands_of_every_verb() -> None:
    verbs = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {line.split()[1] for line in SHOWN if not line.split()[1].startswith("-")} == verbs


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_that_is_shown_has_the_options_that_it_uses(line: str) -> None:
    _, verb, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    command.make_context(verb, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_there_are(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not link.startswith(("http", *MADE)):
            assert (page.parent / link).exists(), link
