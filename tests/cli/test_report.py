"""``flopratio report``: files in, a page out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flopratio.cli import main
from tests.report.page.parsed import Page, asked_for
from tests.report.small import small_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "l.json"
    path.write_text(small_ledger().to_json())
    return path


def test_a_counted_step_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, page = tmp_path / "l.json", tmp_path / "page.html"
    count = ["count", "mlp", "depth=1", "width=8", "batch=2", "-o", str(document)]
    assert main(count) == 0
    assert main(["report", str(document), "-o", str(page)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(page) in printed.err
    parsed = Page(page.read_text(encoding="utf-8"))
    assert "Memory over the step" in parsed.text
    assert asked_for(parsed) == []


def test_what_count_json_prints_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["count", "mlp", "depth=1", "width=8", "batch=2", "--json"])
    document, page = tmp_path / "l.json", tmp_path / "page.html"
    document.write_text(capsys.readouterr().out)
    assert main(["report", str(document), "-o", str(page)]) == 0
    assert "The operators are not in this document" in capsys.readouterr().err


def test_markdown(ledger: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["report", str(ledger), str(ledger), "-o", str(page)]) == 0
    assert "All 3 layers are in each of them." in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "report what?"),
        (["{ledger}"], "give -o page.html"),
        (["{ledger}", "-o", "page.txt"], "should end in .html, .md"),
        (["{ledger}", "-o", "{there}"], "--force overwrites it"),
        (["none.json", "-o", "{page}"], "there is no ledger none.json"),
        (["{there}", "-o", "{page}"], "is not JSON"),
        (["{ledger}", "-o", "{page}", "--by", "op"], "No such option"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    says: str,
    ledger: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = tmp_path / "there.html"
    there.write_text("no ledger")
    places = {"ledger": ledger, "there": there, "page": tmp_path / "page.html"}
    given = [argument.format(**places) for argument in arguments]
    assert main(["report", *given]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_asks_for_nothing_and_complains_of_nothing(tmp_path: Path) -> None:
    ledger = small_ledger()
    ledger.rows = [row._replace(layer=f"<img src=x onerror=alert(1)>{row.layer}")
                   for row in ledger.rows]  # fmt: skip
    document, page = tmp_path / "l.json", tmp_path / "page.html"
    document.write_text(ledger.to_json())
    assert main(["report", str(document), str(document), "-o", str(page)]) == 0
    # What a click on a heading leaves, and what the page asked for, are read from what is dumped.
    text = page.read_text(encoding="utf-8")
    asked = "performance.getEntriesByType('resource').map((each) => each.name)"
    last = f"document.querySelector('table.sortable button').click(); document.title = {asked};"
    clicked = tmp_path / "clicked.html"
    clicked.write_text(text.replace("</body>", f"<script>{last}</script></body>"), "utf-8")
    assert CHROMIUM is not None
    ran = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--disable-background-networking", "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", clicked.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in ran.stderr
    assert "<title></title>" in ran.stdout
    assert "<img" not in re.sub(r'"[^"]*"', "", ran.stdout)
    names = re.findall(r'<td class="words" data-value="(&lt;img[^"]*|<img[^"]*)"', ran.stdout)
    first = names[: len(names) // 3]
    assert len(first) == 3
    assert first == sorted(first)
    assert 'aria-sort="ascending"' in ran.stdout
