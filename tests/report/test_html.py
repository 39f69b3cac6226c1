"""A page in a browser."""

from rich.text import Text

from flopratio.report.html import html


def test_the_text_stands_in_a_document_of_its_own() -> None:
    page = html(Text("a < b & 2 {x}", "bold"), "k & {n}")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>k &amp; {n}</title>" in page
    assert "a &lt; b &amp; 2 {x}" in page
    assert "font-weight: bold" in page
    assert "http" not in page
