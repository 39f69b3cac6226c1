"""What operators should take: the arithmetic spelled out on a device with round figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import flopratio as fr
from flopratio.ledger import PHASES, Row
from flopratio.networks.analytic import analytic_ledger
from flopratio.roofline import predict
from tests.roofline.devices import CPU, GPU, row
from tests.roofline.rows import steps


def expected(*rows: Row, device=GPU, **options):
    return predict(rows, device, **options).expected


# -- one operator ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "seconds", "bound"),
    [
        # 3000 FLOP / 1000 FLOP/s = 3 s; (70 + 30) B / 100 B/s = 1 s; a launch of 0.5 s.
        (row("mm", flops=3000, read=70, written=30), 3.5, "compute"),
        # 100 FLOP: 0.1 s; 100 B: 1 s.
        (row("mm", flops=100, read=70, written=30), 1.5, "memory"),
        # 100 FLOP: 0.1 s; 10 B: 0.1 s; the launch is most of it.
        (row("mm", flops=100, read=7, written=3), 0.6, "launch"),
        # bfloat16 has another roof: 8000 FLOP / 8000 FLOP/s = 1 s.
        (row("mm", flops=8000, read=30, written=20, dtype="bfloat16"), 1.5, "compute"),
        # No products: 80 B. Its 10 FLOP take 0.01 s.
        (row("relu", elementwise=10, read=40, written=40), 1.3, "memory"),
        # Much arithmetic on few bytes: 2000 FLOP / 1000 FLOP/s, in float32 for half precision too.
        (row("erfinv", elementwise=2000, read=4, written=4), 2.5, "compute"),
        (row("erfinv", elementwise=2000, read=2, written=2, dtype="bfloat16"), 2.5, "compute"),
        # A complex product is 8 FLOP a multiply-add of float32 numbers: 2 s.
        (row("mm", flops=2000, read=8, written=8, dtype="complex64"), 2.5, "compute"),
        # Views, and what only takes memory.
        (row("view"), 0.0, "none"),
        (row("empty", written=1000), 0.0, "none"),
        (row("_local_scalar_dense", read=4), 0.0, "none"),
    ],
)
def test_the_longer_of_arithmetic_and_bytes_and_a_launch(operator, seconds, bound) -> None:
    (own,) = expected(operator)
    assert own.seconds == pytest.approx(seconds, rel=1e-12)
    assert own.bound == bound


@pytest.mark.parametrize(
    ("tf32", "product", "convolution"),
    [("none", 4.0, 4.0), ("convolutions", 4.0, 1.0), ("all", 1.0, 1.0)],
)
def test_tf32_rounds_convolutions_unless_said_otherwise(tf32, product, convolution) -> None:
    rows = row("mm", flops=4000), row("convolution", flops=4000)
    of_both = [own.at_roof for own in expected(*rows, tf32=tf32)]
    assert of_both == [product, convolution]
    assert [own.at_roof for own in expected(*rows, device=CPU, tf32=tf32)] == [4.0, 4.0]


def test_a_dtype_without_a_roof_is_named_and_not_guessed() -> None:
    rows = [
        row("_scaled_mm", flops=10**9, read=60, written=40, dtype="float8_e4m3fn"),
        row("mm", flops=1000, dtype=""),
        row("mm", flops=2000),
    ]
    prediction = predict(rows, GPU)
    assert prediction.without_roof == {"float8_e4m3fn": 10**9, "an unknown dtype": 1000}
    assert prediction.expected[0].seconds == 1.5  # its bytes and the launch
    assert prediction.expected[0].at_roof == 0.0
    assert prediction.document()["without_roof"] == prediction.without_roof


# -- operators with several rows -------------------------------------------------------------------


def test_a_fused_backward_is_one_operator_shared_out_by_its_products() -> None:
    """(1000 + 3000) FLOP: 4 s; 200 B: 2 s; one launch. Shares of 1 and 3 quarters of 4.5 s."""
    node = {"autograd": "ConvolutionBackward0"}
    rows = (
        row("convolution_backward", "grad_input", 1000, 150, 50, **node),
        row("convolution_backward", "grad_weight", 3000, **node),
    )
    to_input, to_weight = expected(*rows, tf32="none")
    assert (to_input.seconds, to_weight.seconds) == pytest.approx((4.5 / 4, 3 * 4.5 / 4))
    assert (to_input.at_roof, to_weight.at_roof) == (1.0, 3.0)
    assert to_input.launch + to_weight.launch == 0.5
    assert {to_input.bound, to_weight.bound} == {"compute"}


def test_without_products_the_shares_are_by_arithmetic() -> None:
    """(84 x 2 + 32) B = 2 s and a launch; 60 of 100 FLOP are the input's."""
    node = {"autograd": "NativeLayerNormBackward0"}
    of_both = expected(
        row("native_layer_norm_backward", "grad_input", 0, 84, 32, elementwise=60, **node),
        row("native_layer_norm_backward", "grad_weight", elementwise=40, **node),
    )
    assert [own.seconds for own in of_both] == pytest.approx([0.6 * 2.5, 0.4 * 2.5])


def test_two_calls_of_a_backward_operator_are_two() -> None:
    node = {"autograd": "ConvolutionBackward0"}
    one = row("convolution_backward", "grad_weight", 1000, 10, 10, **node)
    assert [own.seconds for own in expected(one, one, tf32="none")] == [1.5, 1.5]


def update(layer: str, nbytes: int, op: str = "_foreach_add_") -> Row:
    return row(op, "update", 0, nbytes // 2, nbytes // 2, elementwise=1, layer=layer)


def test_an_update_of_a_list_is_one_launch_on_a_gpu_and_one_each_on_a_processor() -> None:
    """30 B and 10 B: 0.3 s and 0.1 s, and a launch that is shared alike; called once more, another
    launch."""
    rows = [update("a", 30), update("b", 10)] * 2
    on_gpu = predict(rows, GPU)
    assert on_gpu.step_seconds == pytest.approx(2 * (0.4 + 0.5))
    assert [own.seconds for own in on_gpu.expected[:2]] == pytest.approx([0.75 * 0.9, 0.25 * 0.9])
    assert predict(rows, CPU).step_seconds == pytest.approx(2 * (0.4 + 2 * 0.5))
    fused = [update("a", 30, "_fused_adamw_"), update("b", 10, "_fused_adamw_")]
    assert predict(fused, CPU).step_seconds == pytest.approx(0.4 + 0.5)


def test_forward_operators_of_one_name_are_never_one() -> None:
    rows = [row("relu", read=5, written=5, layer=layer) for layer in "ab"]
    assert predict(rows, GPU).step_seconds == pytest.approx(2 * (0.1 + 0.5))


# -- a step ----------------------------------------------------------------------------------------


def a_step() -> list[Row]:
    """Forward 1000 + 500 ms of products, and 600 of a ReLU; in backward twice the products of the
    second layer and once those of the first."""
    node = {"autograd": "MmBackward0"}
    free = {"read": 0, "written": 1}
    return [
        row("mm", flops=500, layer="first", **free),
        row("relu", read=5, written=5, layer="act"),
        row("mm", flops=1000, layer="second", **free),
        row("mm", "grad_input", flops=1000, layer="second", **node, **free),
        row("mm", "grad_weight", flops=1000, layer="second", **node, **free),
        row("relu", "recompute", read=5, written=5, layer="act"),
        row("mm", "grad_weight", flops=500, layer="first", **node, **free),
        row("add_", "update", read=10, written=10, layer="first"),
    ]


def test_phases_ratio_layers_and_bounds() -> None:
    prediction = predict(a_step(), GPU)
    forward = 1.0 + 0.6 + 1.5
    backward = 1.5 + 1.5 + 0.6 + 1.0
    assert prediction.seconds("forward") == pytest.approx(forward)
    assert prediction.seconds("grad_input", "grad_weight", "recompute") == pytest.approx(backward)
    assert prediction.time_ratio == pytest.approx(backward / forward)
    assert prediction.step_seconds == pytest.approx(forward + backward + 0.7)
    assert prediction.bounds == pytest.approx({"compute": 6.5, "memory": 0.0, "launch": 1.9})
    first, act, second = prediction.layers()
    assert (first.name, first.type, first.bound) == ("first", "Linear", "compute")
    assert (first.forward_ms, first.backward_ms, first.update_ms) == pytest.approx((1e3, 1e3, 700))
    assert (act.recompute_ms, act.time_ratio, act.bound) == (pytest.approx(600), 1.0, "launch")
    assert second.time_ratio == pytest.approx(2.0)


def test_without_a_backward_there_is_no_ratio() -> None:
    prediction = predict(a_step()[:3], GPU)
    assert prediction.time_ratio is None
    assert [layer.time_ratio for layer in prediction.layers()] == [None] * 3
    assert predict([], GPU).step_seconds == 0


def test_the_document_is_plain_and_sums_up() -> None:
    document = json.loads(json.dumps(predict(a_step(), GPU).document()))
    times = document["time_ms"]
    assert times["backward"] == pytest.approx(
        times["grad_input"] + times["grad_weight"] + times["recompute"]
    )
    assert times["step"] == pytest.approx(sum(times[phase] for phase in PHASES))
    for phase in PHASES:
        assert sum(layer[f"{phase}_ms"] for layer in document["layers"]) == pytest.approx(
            times[phase]
        )
    assert document["roofs"]["bytes_per_s"] == 100.0
    assert (document["device"], document["tf32"]) == ("a GPU", "convolutions")


# -- any step --------------------------------------------------------------------------------------


@given(steps(), st.sampled_from([GPU, CPU]))
def test_every_sum_is_that_of_the_rows(rows, device) -> None:
    prediction = predict(rows, device)
    whole = math.fsum(own.seconds for own in prediction.expected)
    assert len(prediction.expected) == len(rows)
    assert prediction.step_seconds == pytest.approx(whole, rel=1e-12)
    assert sum(prediction.bounds.values()) == pytest.approx(whole, rel=1e-12)
    layers = prediction.layers()
    in_layers = sum(layer.forward_ms + layer.backward_ms + layer.update_ms for layer in layers)
    assert in_layers == pytest.approx(1e3 * whole, rel=1e-9)


@given(steps(), st.sampled_from([GPU, CPU]))
def test_nothing_is_faster_than_its_roof_and_a_launch(rows, device) -> None:
    for own in predict(rows, device).expected:
        assert own.seconds >= (own.at_roof + own.launch) * (1 - 1e-12) >= 0


@given(steps(), st.sampled_from([GPU, CPU]))
def test_a_device_twice_as_fast_in_all_takes_half_the_time(rows, device) -> None:
    twice = replace(
        device,
        flops_per_s={dtype: 2 * rate for dtype, rate in device.flops_per_s.items()},
        bytes_per_s=2 * device.bytes_per_s,
        launch_s=device.launch_s / 2,
    )
    slow, fast = predict(rows, device), predict(rows, twice)
    assert [own.bound for own in fast.expected] == [own.bound for own in slow.expected]
    assert fast.step_seconds == pytest.approx(slow.step_seconds / 2, rel=1e-12)


def test_a_network_of_formulas_alone_is_predicted_as_its_trace_is() -> None:
    """The built-in networks' formulas have other rows than the trace (views; a bias gradient apart)
    but the same products: at the roof they take the same."""
    sizes = {"depth": 2, "width": 64, "batch": 16}
    analytic = predict(analytic_ledger("mlp", **sizes).rows, CPU)
    traced = predict(fr.count("mlp", **sizes, target="cpu").rows, CPU)
    at_roof = [math.fsum(own.at_roof for own in each.expected) for each in (analytic, traced)]
    assert at_roof[0] == pytest.approx(at_roof[1], rel=1e-12)


def test_bfloat16_products_under_autocast_have_their_own_roof() -> None:
    model, x = nn.Linear(64, 64), torch.empty(32, 64)
    single, half = (predict(fr.count(model, x, amp=amp).rows, GPU) for amp in (None, "bf16"))
    at_roof = [math.fsum(own.at_roof for own in each.expected) for each in (single, half)]
    assert at_roof[0] == pytest.approx(8 * at_roof[1])


def test_torch_is_not_needed() -> None:
    script = "import sys, flopratio.roofline; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
