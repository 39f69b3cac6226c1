"""Templates, filled in. Whatever a model calls its parts is text in them and never markup."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from flopratio.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flopratio.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    return environment


def render(template: str, **content: Any) -> str:
    """A page.

    Args:
        template: the name of its file.
        content: what the template names.
    """
    page = _environment().get_template(template).render(version=__version__, **content)
    return page.rstrip() + "\n"


def picture(figure: Figure | None, name: str) -> Markup | None:
    """A figure as SVG to stand in a page, with its words as text; None if there is no figure.

    Args:
        name: of the picture for those who can't see it.
    """
    if figure is None:
        return None
    import matplotlib as mpl

    from flopratio.report.figures.style import STYLE

    written = io.StringIO()
    # Ids that differ from those of the page's other pictures; no date, no library's name.
    salted = {**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(salted):
        figure.savefig(written, format="svg", metadata=nothing)
    svg = written.getvalue()
    start = svg.index("<svg")
    label = Markup('<svg role="img" aria-label="{}"').format(name)
    return Markup(label + Markup(svg[start + len("<svg") :]))
