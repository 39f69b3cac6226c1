"""What is said about a fit, and the documents that hold it."""

import csv
import io
import json

import pytest

from flopratio.report.fit import failure, headline, notes, page, remarks, to_csv, to_json
from flopratio.report.fit import to_markdown as markdown
from flopratio.verbs.fit import Tried
from tests.report.small import printed
from tests.verbs.fit.small import GIVEN, nothing_fits, small_fit, small_levers, tried

REFUSED = (tried(2, 2_000), tried(4, 4_000), Tried(5, refusal="4 positions are all"))


def said(fit):
    return {remark.about: remark.text for remark in remarks(fit)}


def test_the_answer_and_its_proof():
    fit = small_fit()
    assert headline(fit) == "toy image=3x8x8, adamw: batch=4 is the largest that fits 4.000 KiB"
    assert said(fit) == {
        "fits": "batch=4 needs 3.906 KiB, 96 B left",
        "next": "batch=5 needs 4.883 KiB, 904 B too much",
        "at peak": "in backward: saved activations 3.418 KiB, parameters 500 B",
        "allocator": "hands out 3.907 KiB, reserves 4.000 KiB",
    }
    assert notes(fit) == []


def test_a_reserve_and_another_figure_are_named():
    fit = small_fit(memory=5_120, reserve=1_024, figure="peak_reserved")
    assert headline(fit).endswith("fits 5.000 KiB less 1.000 KiB")
    assert said(fit)["fits"] == "batch=4 reserves 4.000 KiB, 0 B left"


def test_what_the_model_takes_is_all_there_is():
    fit = small_fit(tried=REFUSED, peak_at_next=None)
    assert headline(fit).endswith(
        "batch=4 is the largest tried that the model takes, and fits 4.000 KiB"
    )
    assert said(fit)["next"] == "the model refuses batch=5: 4 positions are all"
    with_gap = small_fit(tried=(*REFUSED, tried(8, 8_000)), peak_at_next=None)
    assert headline(with_gap).endswith("batch=4 is the largest that fits 4.000 KiB")


# -- what is to be known beside it -----------------------------------------------------------------


def test_the_allocator_may_want_more():
    assert notes(small_fit(peak_reserved=4_200)) == [
        "at batch=4 the allocator would reserve 4.102 KiB, more than 4.000 KiB: "
        "--figure peak_reserved finds the batch that fits with it"
    ]
    assert headline(small_fit(peak_reserved=4_200)).endswith(
        "batch=4 is the largest that fits 4.000 KiB by live tensors; the allocator would reserve "
        "4.102 KiB: --figure peak_reserved finds the batch that fits with it"
    )
    handed_out = headline(small_fit(peak_reserved=4_200, figure="peak_allocated"))
    assert "fits 4.000 KiB by what the allocator hands out; it would" in handed_out


def test_peaks_that_fall_steps_and_gaps():
    sizes = (tried(8, 2_000), Tried(9, refusal="whole patches"), Tried(12, refusal="no twelve"))
    fit = small_fit(
        tried=(*sizes, tried(16, 1_000)),
        falls=((sizes[0], tried(16, 1_000)),),
        gaps=sizes[2:],
        step=4,
        largest=16,
        next=20,
    )
    assert notes(fit) == [
        "peaks do not rise with batch alone: 1.953 KiB at batch=8, 1,000 B at batch=16; values "
        "that were not tried may fit too",
        "batch goes in steps of 4; the model refuses others: whole patches",
        "the model refuses batch=12, and runs with larger: no twelve",
    ]


@pytest.mark.parametrize(
    ("help_", "words"),
    [
        (None, "488 B too much, and no lever helps"),
        (
            (GIVEN._replace(optimizer="sgd"), tried(1, 500)),
            "too much; with --optimizer sgd it would fit, in 500 B",
        ),
        (
            (GIVEN._replace(checkpoint="auto", dtype="bfloat16"), tried(1, 600)),
            "even with --checkpoint auto --dtype bfloat16 it needs 600 B, 88 B too much",
        ),
    ],
)
def test_a_failure_says_by_how_much_and_what_would_help(help_, words):
    fit = nothing_fits(help=help_)
    assert headline(fit) == "toy image=3x8x8, adamw: no batch fits 512 B"
    assert "does not fit 512 B: batch=1 needs 1,000 B, 488 B too much" in failure(fit)
    assert failure(fit).endswith(words)
    assert "\n" not in failure(fit)


# -- documents -------------------------------------------------------------------------------------


def test_json_has_the_names_that_others_rely_on():
    document = json.loads(to_json(small_fit(levers=small_levers())))
    answer = {"key": "batch", "largest": 4, "peak": 4_000, "peak_at_next": 5_000}
    assert {**document, **answer} == document
    assert document["schema"] == "flopratio.fit/1"
    assert document["tried"][2] == {
        "size": 4,
        "peak": 4_000,
        "peak_allocated": 4_001,
        "peak_reserved": 4_096,
        "refusal": "",
    }
    assert document["levers"][0]["checkpoint"] == "auto"
    assert document["levers"][0]["largest"] == 8
    assert document["help"] is None


def test_json_where_nothing_fits():
    help_ = (GIVEN._replace(optimizer="sgd"), tried(1, 500))
    document = json.loads(to_json(nothing_fits(help=help_)))
    assert (document["largest"], document["peak"], document["peak_at_next"]) == (0, None, 1_000)
    assert document["help"]["optimizer"] == "sgd"
    assert document["help"]["peak"] == 500


def test_a_function_as_a_loss_is_named():
    fit = small_fit()
    fit.options["loss"] = test_a_function_as_a_loss_is_named
    assert json.loads(to_json(fit))["options"]["loss"] == "test_a_function_as_a_loss_is_named"


def test_csv_has_a_line_for_each_size_or_for_each_combination():
    rows = list(csv.DictReader(io.StringIO(to_csv(small_fit()))))
    assert [row["peak"] for row in rows] == ["2000", "3000", "4000", "5000"]
    rows = list(csv.DictReader(io.StringIO(to_csv(small_fit(levers=small_levers())))))
    assert [row["largest"] for row in rows] == ["8", "4", "0"]


def test_the_levers_are_a_table():
    shown = printed(page(small_fit(levers=small_levers())), width=120)
    lines = [line.split() for line in shown.splitlines()]
    assert ["auto", "adamw", "amp", "bf16", "1", "1.953", "1.953", "1.250", "8"] in lines
    assert ["none", "adamw", "default", "1", "3.906", "0", "1.000", "4"] in lines
    assert "not to be had: --dtype bfloat16 (no such kernel)" in shown


def test_markdown_has_answer_and_table():
    text = markdown(small_fit(levers=small_levers()))
    assert text.startswith("**toy image=3x8x8, adamw: batch=4 is the largest")
    assert "| auto | adamw | amp bf16 | 1 | 1.953 | 1.953 | 1.250 | 8 |" in text
