"""A page as one self-contained HTML document, as it looks on a terminal."""

from __future__ import annotations

import io
from html import escape

from rich.console import Console, RenderableType
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

COLUMNS = 160

FORMAT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ color: {foreground}; background: {background}; margin: 2em; }}
pre {{ font-family: ui-monospace, Menlo, Consolas, monospace; line-height: 1.4; }}
</style>
</head>
<body><pre>{code}</pre></body>
</html>
"""


def html(page: RenderableType, title: str) -> str:
    """The document.

    Args:
        title: of the browser's window, as plain text.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(page)
    form = FORMAT.replace("{title}", escape(title).replace("{", "{{").replace("}", "}}"))
    return console.export_html(theme=DEFAULT_TERMINAL_THEME, code_format=form, inline_styles=True)
