"""TOML files as people write them: where one is malformed, and at which line a table begins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from flopratio.errors import UsageError


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The document of a TOML file, and its text.

    Raises:
        UsageError: there is no such file, or it is malformed; the message has line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {path}: {error}") from None
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        lines = text.splitlines() or [""]
        end = f"(at line {len(lines)}, column {len(lines[-1]) + 1})"
        reason = str(error).replace("(at end of document)", end)
        raise UsageError(f"{path} is no TOML: {reason}") from None


def line_of(text: str, table: str, name: str) -> int | None:
    """The line, from 1, at which the table ``[...TABLE.NAME]`` or the key ``NAME = ...`` stands;
    None where it is written in another way."""
    quoted = rf"""["']?{re.escape(name)}["']?"""
    header = re.compile(rf"^\s*\[([\w.-]+\.)?{table}\.{quoted}\s*[\].]", re.MULTILINE)
    key = re.compile(rf"^\s*({table}\.)?{quoted}(\.[\w-]+)*\s*=", re.MULTILINE)
    found = header.search(text) or key.search(text)
    if found is None:
        return None
    return text.count("\n", 0, found.end()) + 1
