"""Text files, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from flopratio.errors import UsageError


def write_text(path: Path, text: str) -> None:
    """Write a text to ``path``: all of it, or nothing.

    Raises:
        UsageError: the disk refuses.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
