"""Closed forms of whole steps: equal to the formulas, to published ones and to fresh traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flopratio.closed_form import Polynomial
from flopratio.errors import UsageError
from flopratio.report.formula.terminal import verified
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.entries import Entry, Names, Sampled, align
from flopratio.verbs.formula.result import ClosedForm
from flopratio.verbs.formula.trace import Tracer
from tests.verbs.formula.textbooks import same_as_the_formulas


def form_of(model: str, *keys: str, optimizer: str = "sgd", **values: Any) -> ClosedForm:
    given = {key: value if isinstance(value, range) else (value,) for key, value in values.items()}
    options = StepOptions(optimizer=optimizer)
    return formula_of(model, keys, given, options, verify=2, cached=False, peak=False)


@pytest.fixture(scope="module")
def mlp() -> ClosedForm:
    return form_of("mlp", "batch", "depth", "width")


def test_mlp_is_the_analytic_formula(mlp: ClosedForm) -> None:
    same_as_the_formulas(mlp)


def test_cnn_is_the_analytic_formula() -> None:
    same_as_the_formulas(form_of("cnn", "batch", "depth", image=33))


def test_mlp_has_the_parameters_that_one_counts(mlp: ClosedForm) -> None:
    d, depth = Polynomial.of("width"), Polynomial.of("depth")
    by_hand = (784 * d + d) + (depth - 1) * (d * d + d) + (d * 10 + 10)
    assert mlp["parameters"] == by_hand
    assert mlp["update"] == by_hand * 2
    assert mlp["gradients"] == by_hand * 4


def test_layers_of_a_varying_number_are_one(mlp: ClosedForm) -> None:
    layers = mlp.by("layer")
    width, depth, batch = map(Polynomial.of, ("width", "depth", "batch"))
    assert layers["hidden.*.linear"]["forward"] == batch * width * width * (depth - 1) * 2
    assert (
        sum((f["forward"] for f in layers.values() if "forward" in f), Polynomial({}))
        == (mlp["forward"])
    )
    assert mlp.by("type")["Linear"]["forward"] == mlp["forward"]


def test_fresh_traces_agree_far_away(mlp: ClosedForm) -> None:
    assert not list(mlp.held_against([{"batch": 1000, "depth": 11, "width": 333}]))
    assert mlp(batch=3, depth=2, width=5)["parameters"] == 784 * 5 + 5 + 30 + 60


def test_the_points_of_verification_are_no_others() -> None:
    found = form_of("mlp", "batch", depth=2)
    assert found.verified_at
    assert not any(point in found.fitted_at for point in found.verified_at)


def test_a_factory_is_traced_around_its_defaults(tmp_path: Path) -> None:
    """A layer of one unit is another function: nothing is transposed, say."""
    net = tmp_path / "net.py"
    net.write_text(
        "import torch\n"
        "def net(width: int = 48):\n"
        "    return torch.nn.Linear(4, width), torch.empty(2, 4)\n"
    )
    found = form_of(f"{net}:net", "width")
    assert 48 in found.domains["width"]
    assert found["forward"] == Polynomial.of("width") * 16
    assert found.domains["width"][0] == 24


def test_strides_that_round_down() -> None:
    found = form_of("cnn", "batch", image=range(20, 60), depth=1)
    assert not found.refused
    points = [{"batch": 3, "image": image} for image in (21, 37, 59)]
    assert not list(found.held_against(points))
    assert any("floor" in str(found[name]) for name in ("forward", "saved_bytes"))


def test_a_changed_number_is_refused_and_the_layer_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Tracer._trace

    def changed(tracer: Tracer, settings: dict[str, Any]) -> Sampled:
        sampled = trace(tracer, settings)
        if settings["batch"] == 63:  # the far point
            entries = {
                entry: value + (entry.layer == "hidden.0.linear" and entry.quantity == "forward")
                for entry, value in sampled.entries.items()
            }
            sampled = replace(sampled, entries=entries)
        return sampled

    monkeypatch.setattr(Tracer, "_trace", changed)
    found = form_of("mlp", "batch", depth=2)
    assert {entry.layer for entry in found.refused} == {"hidden.0.linear"}
    sentence = r"hidden\.0\.linear is no polynomial of degree . or less in batch"
    with pytest.raises(UsageError, match=sentence):
        _ = found["forward"]
    assert found["grad_weight"]


@pytest.mark.parametrize(
    ("model", "keys", "values", "sentence"),
    [
        ("mlp", ("dept",), {}, "no KEY 'dept': did you mean 'depth'"),
        ("mlp", ("activation",), {}, "activation of mlp is relu, no whole number"),
        ("mlp", (), {"batch": 8}, "name KEYs"),
        ("mlp", ("batch",), {"batch": 8}, "batch has one value"),
        ("mlp", ("width",), {"width": range(-3, 6)}, "width=-3 is less than nothing"),
        ("nothing", ("batch",), {}, "no model 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence(
    model: str, keys: tuple[str, ...], values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        form_of(model, *keys, **values)


ODD = """
import torch

@torch.library.custom_op("closed_form::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    return x.clone()

odd.register_fake(torch.empty_like)
odd.register_autograd(lambda context, gradient: gradient)

class Odd(torch.nn.Module):
    def forward(self, x):
        return odd(x)

def uncounted(width: int = 8):
    return torch.nn.Sequential(torch.nn.Linear(width, width), Odd()), torch.empty(2, width)

def steep(width: int = 8):
    return torch.nn.Linear(width, 4), torch.empty(width**4, width)

def steeper(width: int = 8):
    return torch.nn.Linear(3, 2**width), torch.empty(2, 3)

def fixed(width: int = 8):
    if width != 8:
        raise ValueError("the width is 8")
    return torch.nn.Linear(width, 4), torch.empty(2, width)

def limited(width: int = 8):
    if width > 80:
        raise ValueError("the width is at most 80")
    return torch.nn.Linear(width, 4), torch.empty(2, width)

class Shifted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1, 1, 3))
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x + self.shift)

def shifted(batch: int = 2, seq: int = 3):
    return Shifted(), torch.empty(batch, seq, 3)

made = 0

def divided(width: int = 24):
    if width % 12:
        raise ValueError(f"12 heads don't divide {width}")
    return torch.nn.Linear(width, width), torch.empty(2, width)

def fickle(width: int = 8):
    global made
    made += 1
    return torch.nn.Linear(width, made), torch.empty(2, width)
"""


@pytest.fixture
def odd(tmp_path: Path) -> str:
    (tmp_path / "odd.py").write_text(ODD)
    return str(tmp_path / "odd.py")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("uncounted", r"no closed form: its step has operators without a formula .*odd"),
        ("fixed", "width of .* has one admissible value, 8: leave it out"),
        ("fickle", "no closed form: two traces of one point differ"),
        ("steeper", "no closed form in width: forward of .* is no polynomial of degree 4 or less"),
    ],
)
def test_what_has_no_certain_form_is_refused(odd: str, name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        form_of(f"{odd}:{name}", "width")


def test_a_degree_above_the_limit_is_that_quantity_alone(odd: str) -> None:
    found = form_of(f"{odd}:steep", "width", optimizer="none")
    with pytest.raises(UsageError, match=r"addmm in .* is no polynomial of degree 4 or less in w"):
        _ = found["forward"]
    assert "saved_bytes" not in found.totals
    assert found["parameters"]({"width": 8}) == 9 * 4


def test_sizes_that_the_model_refuses_are_refused(odd: str) -> None:
    found = form_of(f"{odd}:limited", "width")
    assert found(width=80)["forward"] == 2 * 2 * 80 * 4
    with pytest.raises(UsageError, match=r"refuses width=81: .*at most 80"):
        found(width=81)
    with pytest.raises(UsageError, match=r"would take width=.*refused: .*at most 80"):
        found.solve("forward", 1e9)


def test_sizes_between_those_that_the_model_takes_are_no_domain(odd: str) -> None:
    closed = form_of(f"{odd}:divided", width=range(24, 241))
    assert list(closed.domains["width"]) == list(range(24, 241, 12))
    assert closed(width=36)["forward"] == 2 * 2 * 36 * 36
    with pytest.raises(UsageError, match=r"refuses width=37: .*don't divide 37"):
        closed(width=37)
    assert closed.solve("forward", 4 * 50 * 50).value == 48


def test_where_the_form_does_not_hold_there_are_no_figures(odd: str) -> None:
    """The gradient of what is the same for a whole batch is a sum, unless there is one of all."""
    closed = form_of(f"{odd}:shifted", "batch", "seq")
    assert {*closed(batch=2, seq=2)} - {*closed(batch=1, seq=1)} == {"elementwise_backward"}
    assert closed(batch=1, seq=2)["elementwise_backward"] == 2 * 2 * 3
    assert closed(batch=1, seq=1)["saved_bytes"] == 3 * 4


def test_segments_that_go_with_the_root_of_the_depth_are_refused() -> None:
    options = StepOptions(checkpoint="auto")
    with pytest.raises(UsageError, match=r"root of depth.*checkpoint=auto:4"):
        formula_of("mlp", ("depth",), {}, options, cached=False)


def test_what_the_allocator_hands_out_is_declined(mlp: ClosedForm) -> None:
    for figure in ("peak_allocated", "peak_reserved"):
        with pytest.raises(UsageError, match="the allocator's blocks change from size to size"):
            _ = mlp[figure]


def test_three_uneven_values_are_enough_for_a_square(tmp_path: Path) -> None:
    """The law shows at others; it is held against traces at those that were asked for."""
    (tmp_path / "toy.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def square(width=16):\n    return nn.Linear(width, width), torch.randn(3, width)\n"
    )
    closed = formula_of(
        f"{tmp_path}/toy.py:square", (), {"width": (16, 32, 256)}, StepOptions(), peak=False
    )
    width = Polynomial.of("width")
    assert closed["forward"] == width * width * 6
    assert closed["parameters"] == width * width + width
    assert closed.domains["width"] == [16, 32, 256]
    assert {point["width"] for point in closed.verified_at} <= {16, 32, 256}
    assert "width 16, 32, 256)" in verified(closed)
    assert closed.verified_at


# -- names ---------------------------------------------------------------------------------------


def test_numbers_that_vary_collapse_and_others_stay() -> None:
    names = Names(
        [
            ["h.0.experts.0", "h.0.experts.1"],
            ["h.0.experts.0", "h.0.experts.1", "h.1.experts.0", "h.1.experts.1"],
        ]
    )
    assert names.canonical("h.1.experts.1") == "h.*.experts.1"
    words = Names([["block1.layer1"], ["block1.layer1", "block1.layer2"]])
    assert words.canonical("block1.layer2") == "block1.layer*"


def test_what_occurs_a_varying_number_of_times_is_summed() -> None:
    def sample(times: int) -> Sampled:
        entries = {Entry("forward", "a", "mm", "", i): 5 for i in range(times)}
        return Sampled({**entries, Entry("forward", "b", "mm"): 7}, {"a": "A", "b": "B"})

    one, two = align([sample(1), sample(2)])
    assert one == {Entry("forward", "a", "mm", "", None): 5, Entry("forward", "b", "mm"): 7}
    assert two[Entry("forward", "a", "mm", "", None)] == 10
