"""fr.show: the page of ``flopratio count``, from Python."""

import pytest

import flopratio as fr
from flopratio.cli import main
from flopratio.errors import UsageError
from tests.report.small import small_ledger


def test_it_prints_what_count_prints(capsys):
    main(["count", "mlp", "depth=1", "width=4", "batch=2", "--by", "op", "--top", "3"])
    counted = capsys.readouterr().out
    fr.show(fr.count("mlp", 2, depth=1, width=4), by="op", top=3)
    assert capsys.readouterr().out == counted
    assert "more operators (--top 0 for all)" in counted


def test_a_word_that_is_no_view_is_told():
    with pytest.raises(UsageError, match="did you mean 'layer'"):
        fr.show(small_ledger(), by="lair")


def test_a_page_keeps_to_the_width_that_the_environment_names(capsys, monkeypatch):
    widths = []
    for columns in (None, "50"):
        monkeypatch.delenv("COLUMNS", raising=False)
        if columns is not None:
            monkeypatch.setenv("COLUMNS", columns)
        fr.show(small_ledger())
        widths.append(max(map(len, capsys.readouterr().out.splitlines())))
    assert widths[0] > 70
    assert widths[1] <= 50
