"""The computational graph of a step as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.report.files import check_file
from flopratio.report.graph.dot import dot
from flopratio.report.graph.mermaid import mermaid
from flopratio.report.graph.svg import svg
from flopratio.step.options import DEFAULTS, StepOptions, takes_step_options
from flopratio.text.files import write_text
from flopratio.verbs.graph import graph_step
from flopratio.verbs.graph.graph import Graph

if TYPE_CHECKING:
    import torch

FORMATS: dict[str, Callable[..., str]] = {
    ".svg": svg,
    ".dot": dot,
    ".mmd": mermaid,
    ".mermaid": mermaid,
}
"""Extension -> the picture of a graph."""


@dataclass(frozen=True)
class Picture:
    """A computational graph that shows itself in a notebook.

    Args:
        graph: its operators and variables, as plain data.
    """

    graph: Graph

    @property
    def svg(self) -> str:
        return svg(self.graph)

    @property
    def dot(self) -> str:
        """For Graphviz."""
        return dot(self.graph)

    @property
    def mermaid(self) -> str:
        return mermaid(self.graph)

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write the picture in the format that the extension says: .svg, .dot, .mmd or .mermaid.

        Args:
            force: overwrite what is there.

        Raises:
            UsageError: another extension, a file that is there already, or no such directory.
        """
        write_picture(self.graph, Path(path), force=force)

    def _repr_svg_(self) -> str:
        return self.svg


def write_picture(graph: Graph, path: Path, *, force: bool = False, exact: bool = False) -> None:
    """Write a graph in the format that the extension says.

    Raises:
        UsageError: as :func:`flopratio.report.files.check_file` says, or the disk refuses.
    """
    check_file(path, force=force, formats=FORMATS)
    write_text(path, FORMATS[path.suffix.lower()](graph, exact=exact))


def to_json(graph: Graph) -> str:
    """The graph as one JSON document: operators and variables by their indices."""
    return json.dumps(graph.document(), indent=1)


@takes_step_options(DEFAULTS)
def graph(
    model: torch.nn.Module | str,
    batch: Any = None,
    *,
    fold: int | None = None,
    operators: bool = False,
    **settings: Any,
) -> Picture:
    """The computational graph of one training step: squares are variables, circles operators;
    forward runs from left to right, and backward below it the other way.

    Args:
        model, batch, settings: as :func:`flopratio.count` takes them, the options of a step too.
        fold: draw modules below the ``fold``-th dot of their path as one operator; unless given,
            as deep as can be read.
        operators: draw every operator, however many there are.

    Raises:
        UsageError: the model can't be run this way; one sentence says why.
    """
    options, settings = StepOptions.among(settings)
    return Picture(graph_step(model, batch, settings, options, fold=fold, operators=operators))
