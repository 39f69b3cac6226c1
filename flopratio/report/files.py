"""A ledger in a file, in the format that the file's extension names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.report.markdown import markdown
from flopratio.report.prediction import explanation_of
from flopratio.report.view import View
from flopratio.text.files import write_text
from flopratio.verbs.sweep.file import FILE_SUFFIXES


def beside(view: View) -> dict[str, Any]:
    """What the document of a ledger has beside it: ``predicted``, where a device was named."""
    prediction = view.prediction
    if prediction is None:
        return {}
    explanation = explanation_of(prediction)
    explained = None if explanation is None else explanation.document()
    return {"predicted": {**prediction.document(), "explanation": explained}}


def predicted_columns(view: View) -> dict[str, list[Any]]:
    """The columns of a prediction, a value for each row of the ledger."""
    if view.prediction is None:
        return {}
    expected = view.prediction.expected
    return {
        "predicted_us": [1e6 * each.seconds for each in expected],
        "bound": [each.bound for each in expected],
    }


def _html(ledger: Ledger, view: View) -> str:
    from flopratio.report.page.step import ledger_page

    return ledger_page(ledger, view)


FORMATS: dict[str, Callable[[Ledger, View], str]] = {
    ".json": lambda ledger, view: ledger.to_json(**beside(view)),
    ".csv": lambda ledger, view: ledger.to_csv(**predicted_columns(view)),
    ".md": markdown,
    ".html": _html,
}
"""Extension -> the text of a ledger, of which only people's formats show a view."""


def check_file(path: Path, *, force: bool, formats: Iterable[str] = FORMATS) -> None:
    """Check that ``path`` can be written to, before anything is counted for it.

    Args:
        force: overwrite what is there.
        formats: the extensions that there are; those of a ledger unless given.

    Raises:
        UsageError: another extension, a file that is there already, or no such directory.
    """
    if path.suffix.lower() not in formats:
        fault = f"ends in {path.suffix}" if path.suffix else "has no extension"
        raise UsageError(f"{path} {fault}: it should end in {', '.join(formats)}")
    if path.is_dir():
        raise UsageError(f"{path} is a directory: name a file in it")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: --force overwrites it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent} for {path.name}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"can't write in {path.parent}: choose another directory")


def check_directory(directory: Path, names: Iterable[str], *, force: bool) -> None:
    """Make a directory if need be, and check that files can be written there, before anything is
    measured for them.

    Args:
        names: of the files, without their extensions.
        force: overwrite what is there.

    Raises:
        UsageError: a file, a name that is meant for one, one that can't be made or written in, or
            one that holds such files already.
    """
    if directory.is_file() or (directory.suffix in FILE_SUFFIXES and not directory.exists()):
        raise UsageError(f"{directory} should be a directory: several files are written there")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the directory {directory}: {error.strerror}") from error
    if not os.access(directory, os.W_OK):
        raise UsageError(f"can't write in {directory}: choose another directory")
    wanted = set(names)
    there = sorted(path.name for path in directory.iterdir() if path.stem in wanted)
    if there and not force:
        raise UsageError(f"{directory} holds {there[0]} already: --force overwrites it")


def write(ledger: Ledger, view: View, path: Path, *, force: bool = False) -> None:
    """Write a ledger to ``path``: all of it, or nothing.

    Args:
        view: of this ledger, for the formats that people read.
        force: overwrite what is there.

    Raises:
        UsageError: as :func:`check_file` says, or the disk refuses.
    """
    check_file(path, force=force)
    write_text(path, FORMATS[path.suffix.lower()](ledger, view))
