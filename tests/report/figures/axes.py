"""A figure's axes, as they are handed over to be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flopratio.report.figures.style import STYLE


def drawn(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, draw_figure: Callable[[], Any]
) -> tuple[str, list[Axes]]:
    """The title and the axes that a figure of a module draws."""
    axes: list[Axes] = []
    titles: list[str] = []

    def write(
        directory: Path,
        name: str,
        title: str | Callable[[], str],
        panels: Sequence[Any],
        draw: Callable[[Axes, Any], None],
        *,
        width: float = 5,
        height: float = 4,
    ) -> list[Path]:
        for panel in panels:
            axes.append(Figure(figsize=(width, height)).subplots())
            draw(axes[-1], panel)
        titles.append(title if isinstance(title, str) else title())
        return []

    def write_figure(directory: Path, name: str, figure: Figure | None) -> list[Path]:
        if figure is not None:
            axes.extend(figure.axes)
            titles.append(figure.get_suptitle())
        return []

    if hasattr(module, "write_figure"):
        monkeypatch.setattr(module, "write_figure", write_figure)
    else:
        monkeypatch.setattr(module, "write", write)
    with mpl.rc_context(STYLE):
        draw_figure()
    return titles[0], axes
