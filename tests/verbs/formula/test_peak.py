"""The closed form of the peak: the largest of the moments at which it is seen."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sympy

import flopratio as fr
from flopratio.closed_form import Axis, Fit
from flopratio.errors import UsageError
from flopratio.report.formula.document import document
from flopratio.report.formula.terminal import lines
from flopratio.report.formula.text import latex, python_function
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.entries import Names, Sampled
from flopratio.verbs.formula.lives import Life, Lives, Running
from flopratio.verbs.formula.peak import PeakForm, find_peak
from flopratio.verbs.formula.result import ClosedForm
from flopratio.verbs.formula.trace import Tracer


@pytest.fixture(scope="module")
def mlp() -> ClosedForm:
    return formula_of(
        "mlp", ("batch", "depth", "width"), {}, StepOptions(optimizer="sgd"), verify=2, cached=False
    )


def test_the_peak_of_mlp_lies_elsewhere_at_other_sizes(mlp: ClosedForm) -> None:
    """In the gradients of the first layer, or where the batch is large, early in the backward."""
    assert mlp.peak is not None
    draw = random.Random(0)
    seen = set()
    for _ in range(30):
        sizes = {
            "batch": 2 ** draw.randint(1, 16),
            "depth": draw.randint(3, 9),
            "width": draw.randint(2, 2000),
        }
        ledger = fr.count("mlp", optimizer="sgd", target="cuda", **sizes)
        assert int(mlp.peak(sizes)) == ledger.memory.peak, sizes
        seen.add(mlp.peak.leading(sizes))
    assert len(seen) > 2


def test_views(mlp: ClosedForm) -> None:
    sizes = {"batch": 4096, "depth": 7, "width": 300}
    assert mlp.peak is not None
    expected = int(mlp.peak(sizes))
    page = list(lines(mlp))
    (start,) = (i for i, line in enumerate(page) if line.startswith("peak "))
    assert page[start].endswith("= the largest of")
    assert sum("    in grad_" in line for line in page) == len(mlp.peak.forms)
    assert any(re.search(r"hidden\.-1\.activation: at none of \d+ points, but", x) for x in page)
    assert sympy.sympify(document(mlp)["peak"]).subs(sizes) == expected
    assert {"peak_allocated", "peak_reserved"} <= document(mlp)["refused"].keys()
    scope: dict[str, Any] = {}
    exec(python_function(mlp.forms, mlp.keys, "mlp"), scope)
    assert scope["step"](**sizes)["peak"] == expected
    assert mlp(**sizes)["peak"] == expected
    assert latex(mlp["peak"]).startswith(r"\max\left(")


def test_the_largest_size_within_a_memory(mlp: ClosedForm) -> None:
    found = mlp.solve("peak", "1GiB", for_="batch", depth=6, width=512)
    assert found.there <= 2**30 < found.beyond
    assert found.traced == (found.value, found.following)
    ledger = fr.count("mlp", batch=found.value, depth=6, width=512, optimizer="sgd", target="cuda")
    assert ledger.memory.peak == found.there
    wide = mlp.solve("peak", "1GiB", for_="width", depth=6, batch=2)
    assert wide.there <= 2**30 < wide.beyond


MODEL = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        number = len(x)
        wide = self.linear(x).repeat(1, 1 + (number * 7919) % 11)
        return wide.sum()

def odd(batch=2):
    return Odd(), torch.randn(batch, 3)
"""


def test_what_has_no_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(MODEL)
    closed = fr.formula(f"{tmp_path}/toy.py:odd", "batch", verify=2)
    assert closed.peak is None
    assert "aten.repeat" in closed.why_not["peak"]
    assert "peak" not in closed(batch=8)
    assert any(line.startswith("peak: none. what ") for line in lines(closed))
    assert document(closed)["peak"] is None
    with pytest.raises(UsageError, match=r"what aten\.repeat holds"):
        _ = closed["peak"]


def test_a_changed_storage_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Tracer._trace

    def changed(tracer: Tracer, settings: dict[str, Any]) -> Sampled:
        sampled = trace(tracer, settings)
        if settings["batch"] == 63:
            storages = [
                each._replace(nbytes=each.nbytes + (each.op == "" and each.layer == "first.linear"))
                for each in sampled.lives.storages
            ]
            sampled = replace(sampled, lives=Lives(storages, sampled.lives.operators))
        return sampled

    monkeypatch.setattr(Tracer, "_trace", changed)
    closed = formula_of("mlp", ("batch",), {"depth": (2,)}, StepOptions(), verify=2, cached=False)
    assert closed.peak is None
    assert "is there from the start holds in first.linear" in closed.why_not["peak"]
    assert closed["forward"]


def test_it_is_left_out_where_it_is_not_wanted() -> None:
    closed = formula_of("mlp", ("batch",), {}, StepOptions(), verify=1, cached=False, peak=False)
    assert closed.of_peak == PeakForm()
    assert "peak" not in closed.forms
    assert "peak" not in closed.why_not


# -- what is alive, and when ---------------------------------------------------------------------


def test_what_is_alive_goes_to_disk_and_back() -> None:
    lives = Lives(
        [Life("a", "", 8, -1, None), Life("a", "aten.mm", 4, 0, 2), Life("b", "aten.mm", 2, 1, 2)],
        [Running("a", "aten.mm", "forward"), Running("b", "aten.mm", "forward"),
         Running("b", "aten.sum", "grad_weight")],
    )  # fmt: skip
    assert (lives.alive, lives.peak) == ([12, 14, 8], 14)
    assert [each.nbytes for each in lives.at(1)] == [8, 4, 2]
    again = Lives.of_document(lives.document())
    assert (again.storages, again.operators) == (lives.storages, lives.operators)


def test_the_peak_is_the_ledgers() -> None:
    tracer = Tracer("mlp", {}, StepOptions(), cached=False)
    found = tracer.sample({"batch": 5, "depth": 3, "width": 70})
    ledger = fr.count("mlp", batch=5, depth=3, width=70, optimizer="none", target="cuda")
    assert found.lives.peak == ledger.memory.peak


def test_layers_are_counted_from_the_nearer_end() -> None:
    def layers(number: int) -> list[str]:
        return ["", "h", *(f"h.{i}.mix.{j}" for i in range(number) for j in range(2)), "head"]

    names = Names([layers(2), layers(4)])
    found = names.places(layers(5))
    assert [found[f"h.{i}.mix.1"] for i in range(5)] == [
        f"h.{place}.mix.1" for place in (0, 1, 2, -2, -1)
    ]
    assert found["head"] == "head"
    assert (names.fewest(layers(3)), names.fewest(layers(1)), names.fewest(["head"])) == (3, 1, 0)


def toy(number: int, batch: int) -> Sampled:
    """Layers that each keep ``batch`` bytes, and the last of which takes twice that for a while."""
    layers = [f"h.{index}" for index in range(number)]
    storages = [Life(layer, "mm", batch, at, None) for at, layer in enumerate(layers)]
    storages.append(Life(layers[-1], "cat", 2 * batch, number, number + 1))
    running = [Running(layer, "mm", "forward") for layer in layers]
    running += [Running(layers[-1], "cat", "forward"), Running("", "sum", "forward")]
    return Sampled({}, dict.fromkeys(layers, "Linear"), lives=Lives(storages, running))


def test_a_moment_in_the_last_of_several_layers() -> None:
    number = (2, 3, 4, 5)

    def sample(point: dict[str, int]) -> Sampled:
        return toy(point["depth"], point["batch"])

    base = {"batch": 2, "depth": number[0]}
    fit = Fit({}, {}, [base, {**base, "depth": number[1]}], [])
    axes = [Axis("batch", 2, range(2, 60)), Axis("depth", number[0], number)]
    found = find_peak(sample, axes, fit, verify=4)
    assert [str(form) for form in found.forms.values()] == ["2*batch + batch*depth"]
    assert list(found.forms) == ["forward of cat in h.-1"]
    assert len(found.verified_at) == 4


def gradient_of_the_last(depth: int, width: int) -> Sampled:
    """Layers with weights; a loss that takes a million bytes, and then the last one's gradient."""
    layers = [f"h.{index}" for index in range(depth)]
    storages = [Life(layer, "", width * width, -1, None) for layer in layers]
    storages.append(Life("", "loss", 10**6, 0, 1))
    storages.append(Life(layers[-1], "mm", 16 * width * width, 1, 2))
    running = [Running("", "loss", "forward"), Running(layers[-1], "mm", "grad_weight")]
    running += [Running(layer, "sum", "update") for layer in layers]
    return Sampled({}, dict.fromkeys(layers, "Linear"), lives=Lives(storages, running))


def test_what_one_layer_has_is_sought_beside_what_all_have() -> None:
    """At all samples the peak is at the loss; at larger widths it is in the last layer."""
    base = {"depth": 2, "width": 8}
    points = [base, {**base, "depth": 3}, {**base, "width": 9}, {"depth": 4, "width": 30}]
    axes = [Axis("depth", 2, (2, 3, 4, 5)), Axis("width", 8, range(8, 60))]
    fit = Fit({}, {}, points, [])
    found = find_peak(lambda point: gradient_of_the_last(**point), axes, fit, verify=2)
    assert found.largest is not None
    for depth, width in ((2, 8), (5, 59), (3, 1000), (40, 777)):
        true = gradient_of_the_last(depth, width).lives.peak
        assert found.largest({"depth": depth, "width": width}) == true
    assert list(found.forms)[1] == "grad_weight of mm in h.-1"


def second_of_several(depth: int, batch: int) -> Sampled:
    """One layer that runs ``depth`` times. If it runs more than twice, the second takes most."""
    running = [Running("", "loss", "forward")] + [Running("m", "mm", "forward")] * depth
    storages = [Life("", "loss", 4000, 0, 1), Life("m", "", 8 * batch, -1, None)]
    if depth > 2:
        storages.append(Life("m", "mm", 4 * batch, 2, 3))
    return Sampled({}, {"m": "Linear"}, lives=Lives(storages, running))


def test_a_moment_that_is_missing_at_the_smallest_is_not_taken_for_the_peak_there() -> None:
    base = {"depth": 4, "batch": 8}
    points = [base, {**base, "depth": 5}, {**base, "batch": 9}, {"depth": 6, "batch": 30}]
    axes = [Axis("depth", 4, range(2, 12)), Axis("batch", 8, range(8, 60))]
    fit = Fit({}, {}, points, [])
    found = find_peak(lambda point: second_of_several(**point), axes, fit, verify=2)
    assert found.largest is not None
    smallest = {"depth": 2, "batch": 10**6}
    assert found.largest(smallest) == second_of_several(**smallest).lives.peak
