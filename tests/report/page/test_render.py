"""Figures and templates."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from flopratio.report.page.render import picture, render
from tests.report.page.parsed import Page


def test_a_picture_is_named_and_its_words_are_text() -> None:
    figure = Figure(figsize=(2, 1))
    figure.suptitle("<b> & c")
    svg = picture(figure, 'a "name"')
    assert svg is not None
    page = Page(svg)
    assert page.elements[0][0] == "svg"
    assert page.elements[0][1]["aria-label"] == 'a "name"'
    assert page.text == "<b> & c"


def test_pictures_share_no_ids() -> None:
    def drawn(name: str) -> str:
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, 1], [0, 1], marker="o")
        return str(picture(figure, name))

    assert drawn("one") == drawn("one")
    marks = {name: drawn(name).split('xlink:href="#')[1].split('"')[0] for name in ("one", "two")}
    assert marks["one"] != marks["two"]


def test_no_figure_is_no_picture() -> None:
    assert picture(None, "nothing") is None


def test_what_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("page.html")
