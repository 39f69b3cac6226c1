"""A profile in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from flopratio.ledger import Row
from flopratio.report.profile.summary import explained, profile_headline, profile_remarks
from flopratio.report.profile.terminal import profile_page
from flopratio.report.profile.view import profile_view
from flopratio.verbs.profile import Profile
from tests.report.small import printed
from tests.verbs.profile.small import small_profile


def said(profile: Profile, about: str) -> str:
    return next(remark.text for remark in profile_remarks(profile) if remark.about == about)


def test_what_and_where() -> None:
    assert profile_headline(small_profile()) == (
        "toy batch=2 image=3x8x8: 1,230 parameters, on Abacus: 80 examples/s"
    )
    assert profile_headline(replace(small_profile(), examples=None)).endswith("on Abacus")


def test_tokens_of_all_micro_batches_are_in_the_headline() -> None:
    profile = small_profile()
    profile.ledger.settings["tokens"] = 64
    profile.ledger.convention["accumulate"] = 2
    assert profile_headline(profile).endswith(": 80 examples/s, 5,120 tokens/s")
    document = profile.document()
    assert (document["examples_per_s"], document["tokens_per_s"]) == (80, 5120)


def test_the_three_ratios() -> None:
    texts = [remark.text for remark in profile_remarks(small_profile())]
    start = texts.index("backward : forward = 1.273 in FLOP")
    assert texts[start + 1] == "1.273 in time, as the roofs predict it"
    assert texts[start + 2] == "1.500 in time, as measured [1.400, 1.600]"


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ("step", "forward 10 ms [9.5, 10.5] + backward 15 ms [14.5, 15.5] = 25 ms [24.5, 25.5]"),
        ("split", "1.000 : 0.273 : 1.000 : 0.000 in FLOP, 1.000 : 0.183 : 1.042 : 0.025 in time"),
        ("achieved", "500.0 MFLOP/s: model FLOP utilisation (MFU) 50.0% (HFU the same)"),
        ("roofs", "the datasheet says float32 2.000 GFLOP/s"),
        ("idle", "3 ms (10.0%) in no operator: forward 1 ms, backward 2 ms"),
        ("profiler", "took 25.0% more than without it"),
        ("memory", "peak 9.863 KiB measured, 9.766 KiB predicted (+100 B, +1.00%)"),
        ("operators", "1 operator ran otherwise than in the trace"),
        ("reconciled", "analytic = executed in all 3 layers"),
        ("unmatched", "2 operators without an event: aten::relu"),
        ("untraced", "1 operator without a record: aten::_foobar"),
        ("no layer", "0.05 ms of Memcpy DtoH"),
        ("undivided", "0.3 ms for input and weights together: head"),
        ("note", "it was cold"),
    ],
)
def test_remarks(about: str, says: str) -> None:
    assert says in said(small_profile(), about)


@pytest.mark.parametrize(("repeats", "sure"), [(3, 75), (6, 95), (40, 95)])
def test_how_sure_the_times_are(repeats: int, sure: int) -> None:
    profile = small_profile()
    profile = replace(profile, timing=replace(profile.timing, repeats=repeats))
    ending = f"medians and {sure}% intervals of {repeats} steps without the profiler"
    assert said(profile, "step").endswith(ending)


def test_memory_that_kernels_and_others_take_is_told() -> None:
    profile = small_profile()
    texts = [remark.text for remark in profile_remarks(profile)]
    assert "peak allocated 10.06 KiB measured" in texts
    assert "allocated inside of kernels then: aten::mm 200 B" in texts
    assert profile.measured_memory is not None
    profile = replace(profile, measured_memory=replace(profile.measured_memory, others=1_000))
    texts = [remark.text for remark in profile_remarks(profile)]
    assert "of the measured, 1,000 B are not of this step" in texts
    profile = replace(profile, measured_memory=None)
    assert "memory" not in {remark.about for remark in profile_remarks(profile)}


def test_nothing_is_said_of_what_is_not_there() -> None:
    profile = small_profile()
    profiled = replace(
        profile.profiled,
        unmatched=Counter(),
        untraced=Counter(),
        unattributed={},
        undivided={},
        rest={},
    )
    profile = replace(
        profile, timing=replace(profile.timing, profiled=profiled), differences=[], notes=[]
    )
    abouts = {remark.about for remark in profile_remarks(profile)}
    assert not abouts & {
        "unmatched",
        "untraced",
        "no layer",
        "undivided",
        "note",
        "uncounted",
        "interrupted",
    }
    assert said(profile, "operators") == "executed = traced, in all 10 rows"


def test_a_step_that_was_not_traced_says_why() -> None:
    profile = replace(small_profile(), not_traced="it reads a value")
    assert said(profile, "operators").endswith("shapes alone: it reads a value")


def test_on_a_gpu_kernels_take_the_time() -> None:
    profile = small_profile()
    profile = replace(profile, roofs=replace(profile.roofs, device="cuda"))
    assert "in no kernel" in said(profile, "idle")


def test_of_an_update_the_elementwise_work_is_its_share() -> None:
    profile = small_profile()
    update = Row("head", "Linear", "aten._foreach_add_", "", "update", elementwise=11_000_000)
    profile.ledger.rows.append(update._replace(time_us=100, dtype="float32"))
    split = said(profile, "split")
    assert " : update = 1.000 : 0.273 : 1.000 : 0.000 : 2.000 in FLOP" in split


def test_a_step_that_was_never_profiled_has_no_split() -> None:
    profile = small_profile()
    profile = replace(profile, timing=replace(profile.timing, profiled=None))
    abouts = {remark.about for remark in profile_remarks(profile)}
    assert not abouts & {"split", "idle", "profiler", "operators"}
    assert {"step", "ratio", "achieved", "memory"} <= abouts


def test_what_an_interrupted_run_says() -> None:
    assert "interrupted" in [
        remark.about for remark in profile_remarks(replace(small_profile(), interrupted=True))
    ]


def test_the_explanation_begins_with_flop_and_ends_with_time() -> None:
    (lines,) = explained(small_profile())
    assert lines.body[0] == ["FLOP of products", "", "", "1.273"]
    assert lines.total[0] == "measured time"
    assert lines.total[-1] == "1.500"
    summed = sum(float(line[-1]) for line in lines.body)
    assert summed == pytest.approx(1.5, abs=0.001 * len(lines.body))


def test_a_page_without_products_has_no_explanation() -> None:
    profile = small_profile()
    profile.ledger.rows[:] = [row._replace(flops=0) for row in profile.ledger.rows]
    text = printed(profile_page(profile, profile_view(profile)), 200)
    assert "not that of FLOPs" not in text
    assert "there is no ratio to explain: forward has no products" in text


def test_a_page_has_the_table_the_remarks_and_the_explanation() -> None:
    profile = small_profile()
    text = printed(profile_page(profile, profile_view(profile)), 200)
    places = [text.index(part) for part in ("toy batch=2", "share", "split", "not that of FLOPs")]
    assert places == sorted(places)
