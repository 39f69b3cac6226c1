"""Reasons that add up: worked examples with round figures, and any rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.roofline import StepTimes, explain, families, predict
from flopratio.roofline import explanation as reasons
from tests.roofline.devices import CPU, GPU, row
from tests.roofline.rows import steps

NODE = {"autograd": "MmBackward0"}


def contributions(explanation) -> dict[str, float]:
    return {reason.name: reason.contribution for reason in explanation.reasons}


def times_of(explanation) -> dict[str, tuple[float, float]]:
    return {reason.name: (reason.forward_us, reason.backward_us) for reason in explanation.reasons}


def adds_up(explanation) -> bool:
    """To 1e-9 of all that is added."""
    parts = [reason.contribution for reason in explanation.reasons]
    size = explanation.flop_ratio + explanation.time_ratio + math.fsum(map(abs, parts))
    left = math.fsum([explanation.flop_ratio, *parts, -explanation.time_ratio])
    return abs(left) <= 1e-9 * size


# -- worked examples -------------------------------------------------------------------------------


def test_a_predicted_step() -> None:
    """In seconds, on 1,000 FLOP/s, 100 B/s and 0.5 s a launch:

    - product: 2000 FLOP at the roof 2; 300 B are 3, so bandwidth adds 1; a launch 0.5: 3.5;
    - ReLU: 200 B are 2, and 0.5: 2.5. So T_f = 6;
    - ReLU backward: 300 B are 3, and 0.5: 3.5;
    - two products: each 2, and 0.5: 5; a bias gradient: 100 B are 1, and 0.5: 1.5. T_b = 10.

    R = 4000 / 2000 = 2, T_b / T_f = 10 / 6, and 10 / 6 - 2 = -1 / 3:

    - at the roof (4 - 2 x 2) / 6 = 0
    - bandwidth   (0 - 2 x 1) / 6 = -1/3
    - launches    (4 x 0.5 - 2 x 2 x 0.5) / 6 = 0
    - elementwise (3 - 2 x 2) / 6 = -1/6
    - bias        (1 - 0) / 6 = +1/6
    """
    rows = [
        row("mm", flops=2000, read=200, written=100),
        row("relu", read=100, written=100),
        row("threshold_backward", "grad_input", read=200, written=100, autograd="ReluBackward0"),
        row("mm", "grad_input", 2000, 1, 1, **NODE),
        row("mm", "grad_weight", 2000, 1, 1, **NODE),
        row("sum", "grad_weight", read=99, written=1, autograd="AddmmBackward0"),
    ]
    prediction = predict(rows, GPU)
    explanation = explain(prediction.times(), GPU)
    assert explanation.flop_ratio == 2
    assert explanation.time_ratio == pytest.approx(10 / 6)
    assert explanation.time_ratio == pytest.approx(prediction.time_ratio)
    assert contributions(explanation) == pytest.approx(
        {
            reasons.BANDWIDTH: -1 / 3,
            families.ELEMENTWISE: -1 / 6,
            families.BIAS_GRADIENTS: 1 / 6,
            reasons.LAUNCHES: 0,
            reasons.AT_ROOF: 0,
        },
        abs=1e-12,
    )
    assert times_of(explanation)[reasons.AT_ROOF] == pytest.approx((2e6, 4e6))
    assert times_of(explanation)[families.ELEMENTWISE] == pytest.approx((2e6, 3e6))
    assert adds_up(explanation)


def test_a_measured_step() -> None:
    """Of the same R = 2, in seconds:

    - forward: a product of 1000 FLOP took 2: 1 at the roof, a launch 0.5, 0.5 below the roof. In no
      kernel: 1. T_f = 3;
    - backward: two of them took 1.5 each, as they should: 2 at the roof, 2 launches of 0.5. Python
      and the engine around: 2. In no kernel: 0.5. T_b = 5.5.

    5.5 / 3 - 2 = -1/6: below the roof (0 - 2 x 0.5) / 3 = -1/3; launches (1 - 2 x 0.5) / 3 = 0;
    around (2 - 0) / 3 = +2/3; no kernel (0.5 - 2 x 1) / 3 = -1/2. Without the profiler the ratio
    was 1.9: its own cost is 1.9 - 5.5 / 3.
    """
    rows = [
        row("mm", flops=1000, time_us=2e6),
        row("mm", "grad_input", 1000, 1, 1, time_us=1.5e6, **NODE),
        row("mm", "grad_weight", 1000, 1, 1, time_us=1.5e6, **NODE),
        row("add_", "update", read=8, written=8, time_us=9e6),
    ]
    explanation = explain(
        StepTimes(
            rows,
            rest={("layer", "grad_input"): 1.5e6, ("", "grad_weight"): 5e5, ("", "update"): 7e6},
            idle_forward_us=1e6,
            idle_backward_us=5e5,
            time_ratio=1.9,
        ),
        GPU,
    )
    assert (explanation.flop_ratio, explanation.time_ratio) == (2, 1.9)
    assert contributions(explanation) == pytest.approx(
        {
            reasons.AROUND: 2 / 3,
            reasons.IDLE: -1 / 2,
            reasons.BELOW_ROOF: -1 / 3,
            reasons.PROFILER: 1.9 - 5.5 / 3,
            reasons.AT_ROOF: 0,
            reasons.LAUNCHES: 0,
        },
        abs=1e-9,
    )
    assert adds_up(explanation)


def test_the_profilers_own_cost_leads_to_the_step_without_it() -> None:
    """R = 1. Under the profiler forward took 4 s, backward 6: a product of 1 s at the roof each,
    and 3 and 5 around. Without it 2 and 5, and a ratio of 2.4 in the median: so it cost -2 and -1.
    Contributions are in the forward without it: around (5 - 3) / 2 = 1, and its own cost is what
    leads from 1 + 1 to 2.4; (-1 + 2) / 2 = 0.5 of it is of the times, -0.1 of the medians."""
    rows = [row("mm", flops=1000, time_us=1e6), row("mm", "grad_weight", 1000, time_us=1e6, **NODE)]
    times = StepTimes(
        rows,
        rest={("a", "forward"): 3e6, ("a", "grad_weight"): 5e6},
        time_ratio=2.4,
        forward_us=2e6,
        backward_us=5e6,
    )
    explanation = explain(times, GPU)
    assert times_of(explanation)[reasons.PROFILER] == (-2e6, -1e6)
    assert contributions(explanation) == pytest.approx(
        {reasons.AROUND: 1.0, reasons.PROFILER: 0.4, reasons.AT_ROOF: 0.0}, abs=1e-12
    )
    assert sum(reason.forward_us for reason in explanation.reasons) == 2e6
    assert sum(reason.backward_us for reason in explanation.reasons) == 5e6
    assert (explanation.profiled_ratio, explanation.time_ratio) == (1.5, 2.4)
    assert adds_up(explanation)


def test_products_that_are_faster_than_predicted_say_so() -> None:
    """A product of 1000 FLOP, 1 s at the roof, took 0.8 s; R = 1 and T_f = 0.8. Backward took 1 s:
    (0 - 1 x -0.2) / 0.8 = 1/4 is all the difference."""
    rows = [row("mm", flops=1000, time_us=8e5), row("mm", "grad_weight", 1000, time_us=1e6, **NODE)]
    explanation = explain(StepTimes(rows), GPU)
    assert times_of(explanation)[reasons.ABOVE_ROOF] == pytest.approx((-2e5, 0))
    assert contributions(explanation)[reasons.ABOVE_ROOF] == pytest.approx(1 / 4)


def test_products_of_two_dtypes_depart_at_the_roof_already() -> None:
    """Forward in bfloat16 takes 1 s at the roof, backward in float32 16 s: 16 - 2 x 1 = 14."""
    rows = [
        row("mm", flops=8000, time_us=1e6, dtype="bfloat16"),
        row("mm", "grad_input", 16000, time_us=16e6, **NODE),
    ]
    explanation = explain(StepTimes(rows), GPU)
    assert contributions(explanation)[reasons.AT_ROOF] == pytest.approx(14)
    assert adds_up(explanation)


def test_time_that_nothing_divides_is_shared_out_as_it_should_be() -> None:
    """A fused backward of 1000 FLOP for the input and 1000 that it does again should take 2.5 s; it
    took 5 s: 2.5 s of recomputation, and of the other half 1 at the roof, 0.25 of a launch."""
    fused = {"autograd": "ScaledDotProductFlashAttentionBackward0", "layer": "attention"}
    rows = [
        row("mm", flops=500, time_us=1e6),
        row("_scaled_dot_product_flash_attention_backward", "grad_input", 1000, 1, 1, **fused),
        row("_scaled_dot_product_flash_attention_backward", "recompute", 1000, **fused),
    ]
    explanation = explain(StepTimes(rows, undivided={"attention": 5e6}), GPU)
    times = times_of(explanation)
    assert explanation.time_ratio == pytest.approx(5)
    assert times[reasons.RECOMPUTE] == pytest.approx((0, 2.5e6))
    assert times[reasons.AT_ROOF] == pytest.approx((0.5e6, 1e6))
    assert adds_up(explanation)


def test_time_of_a_layer_without_rows_is_not_lost() -> None:
    rows = [row("mm", flops=1000, time_us=1e6)]
    explanation = explain(StepTimes(rows, undivided={"elsewhere": 3e6}), GPU)
    assert explanation.time_ratio == pytest.approx(3)
    assert times_of(explanation)[families.OTHERS] == (0, 3e6)


def test_rows_without_a_time_take_no_part() -> None:
    """Views, and operators that no event answers to."""
    rows = [
        row("mm", flops=1000, time_us=1e6),
        row("view"),
        row("relu", read=100, written=100),
        row("mm", "grad_weight", 1000, time_us=1e6, **NODE),
    ]
    assert explain(StepTimes(rows), GPU).time_ratio == 1


def test_a_dtype_without_a_roof_has_a_reason_of_its_own() -> None:
    rows = [
        row("mm", flops=1000, time_us=2e6, dtype="int8"),
        row("mm", "grad_weight", 1000, time_us=3e6),
    ]
    assert times_of(explain(StepTimes(rows), GPU))[reasons.NO_ROOF] == pytest.approx((1.5e6, 0))


# -- the order ------------------------------------------------------------------------------------


def test_the_largest_comes_first_and_small_ones_are_one_that_is_summed() -> None:
    rows = [
        row("mm", flops=1000, time_us=1e6),
        row("mm", "grad_weight", 1000, time_us=1e6, **NODE),
        row("relu", "grad_input", read=1, written=1, time_us=3e6),
        row("native_layer_norm_backward", "grad_input", read=1, written=1, time_us=2e6),
        row("avg_pool2d_backward", "grad_input", read=1, written=1, time_us=0.6e6),
        row("_softmax_backward_data", "grad_input", read=1, written=1, time_us=0.503e6),
        row("sum", "grad_weight", read=1, written=1, time_us=0.502e6),
        row("mse_loss_backward", "grad_input", read=1, written=1, time_us=0.501e6),
        row("clone", "grad_input", read=1, written=1, time_us=0.5001e6),
    ]
    explanation = explain(StepTimes(rows), GPU)
    *large, other = explanation.reasons
    sizes = [abs(reason.contribution) for reason in large]
    assert sizes == sorted(sizes, reverse=True)
    share = next(r.contribution for r in large if r.name == families.POOLING) / sum(sizes)
    assert 0.01 < share < 0.02  # a hundredth is large enough
    assert other.name == "other (softmax; bias gradients; the loss; 1 more)"
    assert other.backward_us == pytest.approx(6100)
    assert other.contribution == pytest.approx(0.0061)
    assert adds_up(explanation)


# -- where there is nothing to explain -------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "forward has no products"),
        ([row("relu", time_us=1.0)], "forward has no products"),
        ([row("mm", flops=8)], "no time of forward is known"),
        ([row("mm", flops=8, time_us=1.0)], "no backward ran"),
    ],
)
def test_no_ratio_is_one_sentence(rows, said: str) -> None:
    with pytest.raises(UsageError, match=f"there is no ratio to explain: .*{said}"):
        explain(StepTimes(rows), GPU)


# -- any step --------------------------------------------------------------------------------------

SIDES = st.just(0.0) | st.floats(1e-9, 1e9)  # no clock tells a femtosecond
PLACES = st.tuples(
    st.sampled_from(["", "a", "c"]),
    st.sampled_from(["forward", "grad_input", "grad_weight", "recompute", "update"]),
)


@st.composite
def step_times(draw) -> StepTimes:
    times = StepTimes(
        draw(steps(timed=True)),
        rest=draw(st.dictionaries(PLACES, SIDES, max_size=4)),
        undivided=draw(st.dictionaries(st.sampled_from(["", "a", "b"]), SIDES, max_size=3)),
        idle_forward_us=draw(SIDES),
        idle_backward_us=draw(SIDES),
    )
    clock = draw(st.sampled_from(["none", "ratio", "times"]))
    if clock == "none":
        return times
    times = replace(times, time_ratio=draw(st.floats(0.01, 100)))
    if clock == "ratio":
        return times
    return replace(times, forward_us=draw(st.floats(1e-6, 1e9)), backward_us=draw(SIDES))


@given(step_times(), st.sampled_from([GPU, CPU]))
def test_it_adds_up_for_any_times_and_nothing_is_left_over(times, device) -> None:
    try:
        explanation = explain(times, device)
    except UsageError:
        assume(False)
    assert adds_up(explanation)
    forward = [r.time_us for r in times.rows if r.phase == "forward" and r.time_us is not None]
    backward = [
        r.time_us
        for r in times.rows
        if r.phase in ("grad_input", "grad_weight", "recompute") and r.time_us is not None
    ]
    for place, us in times.rest.items():
        if place[1] == "forward":
            forward.append(us)
        elif place[1] != "update":
            backward.append(us)
    all_forward = math.fsum([*forward, times.idle_forward_us])
    all_backward = math.fsum([*backward, *times.undivided.values(), times.idle_backward_us])
    if times.time_ratio is not None and times.forward_us is not None:
        all_forward, all_backward = times.forward_us, times.backward_us
    scale = sum(abs(r.forward_us) + abs(r.backward_us) for r in explanation.reasons)
    listed = [math.fsum(each) for each in zip(*(r[1:3] for r in explanation.reasons), strict=True)]
    assert listed == pytest.approx([all_forward, all_backward], abs=1e-9 * scale)
    if times.time_ratio is not None:
        assert explanation.time_ratio == times.time_ratio


@given(steps(), st.sampled_from([GPU, CPU]))
def test_it_adds_up_for_any_prediction(rows, device) -> None:
    prediction = predict(rows, device)
    try:
        explanation = explain(prediction.times(), device)
    except UsageError:
        assume(False)
    assert adds_up(explanation)
    assert explanation.time_ratio == pytest.approx(prediction.time_ratio, rel=1e-9)
    off_roof = {reasons.BELOW_ROOF, reasons.ABOVE_ROOF, reasons.OFF_ROOF}
    assert off_roof.isdisjoint(contributions(explanation))
    assert not any(reasons._listed([name]) in r.name for name in off_roof - {""}
                   for r in explanation.reasons)  # fmt: skip


def test_in_exact_arithmetic_products_of_one_dtype_never_depart() -> None:
    """Thirds and sevenths of a second, which floats don't hold: the contribution is a rounding."""
    rows = [
        row("mm", flops=flops, time_us=1e6 * float(Fraction(flops, 1000)))
        for flops in (333, 7777, 12345)
    ]
    rows += [each._replace(phase="grad_weight", autograd="MmBackward0") for each in rows] * 2
    explanation = explain(StepTimes(rows), GPU)
    assert abs(contributions(explanation)[reasons.AT_ROOF]) < 1e-12


# -- a real step -----------------------------------------------------------------------------------


def test_a_transformer_is_explained_in_words() -> None:
    model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    ledger = fr.count(model, torch.empty(4, 16, 32), optimizer="adamw", target="cpu")
    explanation = explain(predict(ledger.rows, CPU).times(), CPU)
    assert explanation.flop_ratio == ledger.ratio.backward_to_forward
    assert adds_up(explanation)
    document = json.loads(json.dumps(explanation.document()))
    assert [each["reason"] for each in document["reasons"]] == list(contributions(explanation))
    total = sum(each["contribution"] for each in document["reasons"])
    assert total == pytest.approx(document["time_ratio"] - document["flop_ratio"], rel=1e-9)
