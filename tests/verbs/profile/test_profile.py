"""fr.profile: the step that is run, what it leaves behind, and what is refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.measure import Interval, Timing, timing
from flopratio.step.options import DEFAULTS, MEASURED_DEFAULTS, StepOptions
from flopratio.step.run import Step
from flopratio.verbs import profile as verb
from tests.verbs.profile.small import ROOFS

FEW: dict[str, Any] = {"roofs": ROOFS, "repeats": 3, "budget_s": 0.01}
"""Of what is not looked at as little as there may be."""

SPECS: dict[str, dict[str, Any]] = {
    "mlp": {"batch": 4, "depth": 1, "width": 8, "optimizer": "adamw"},
    "cnn": {"batch": 2, "depth": 1, "image": 8},
    "hf:gpt2": {
        "batch": 1,
        "seq": 8,
        "n_layer": 2,
        "n_embd": 8,
        "n_head": 2,
        "vocab_size": 50,
        "checkpoint": "transformer.h.0",
    },
}


@pytest.fixture(scope="module")
def profiles() -> dict[str, fr.Profile]:
    with pytest.MonkeyPatch.context() as patch:
        # Medians of several do not add up to the median.
        patch.setattr(timing, "PROFILED_REPEATS", 1)
        return {spec: fr.profile(spec, **SPECS[spec], **FEW) for spec in SPECS}


@pytest.mark.parametrize("spec", SPECS)
def test_what_ran_is_what_was_traced(spec: str, profiles: dict[str, fr.Profile]) -> None:
    profile, counted = profiles[spec], fr.count(spec, **SPECS[spec], target="cpu")
    assert profile.differences == []
    assert profile.ledger.totals == counted.totals
    assert profile.ledger.reconciled is True
    assert profile.ledger.settings == counted.settings
    assert profile.ledger.memory["peak"] == counted.memory["peak"]
    assert profile.ledger.convention["device"] == "cpu"


@pytest.mark.parametrize("spec", SPECS)
def test_all_time_is_somebodys(spec: str, profiles: dict[str, fr.Profile]) -> None:
    profile = profiles[spec]
    own = sum(group.total.ms for group in profile.layers())
    others = sum(profile.profiled.unattributed.values()) / 1e3
    assert own + others == pytest.approx(profile.profiled.kernels_ms.median, rel=0.01)
    explanation = profile.explanation
    assert explanation is not None
    assert explanation.flop_ratio == pytest.approx(profile.flop_ratio)
    assert explanation.time_ratio == pytest.approx(profile.time_ratio.median)
    assert profile.timing.repeats >= 3


@pytest.mark.parametrize("spec", SPECS)
def test_its_document_can_be_read_back(spec: str, profiles: dict[str, fr.Profile]) -> None:
    text = profiles[spec].to_json()
    assert fr.Profile.from_json(text).to_json() == text


def a_model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3))


def test_a_module_is_left_as_it_was_found() -> None:
    model, x = a_model(), torch.randn(4, 8)
    model[0].requires_grad_(False)  # type: ignore[index]
    model[3].weight.grad = torch.ones(3, 6)  # type: ignore[index, union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    profile = fr.profile(model, x, loss="sum", optimizer="adam", **FEW)
    assert profile.ledger.model == "Sequential"
    assert profile.differences == []
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert [p.grad is not None for p in model.parameters()] == [False] * 4 + [True, False]
    assert model.training
    assert not model._forward_hooks
    assert not x.requires_grad


class ReadsAValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return y if float(y.sum()) < 1e9 else -y


def test_a_module_that_reads_values_is_not_compared_with_a_trace() -> None:
    profile = fr.profile(ReadsAValue(), torch.randn(2, 4), loss="sum", **FEW)
    assert "reads the value of a tensor" in profile.not_traced
    assert profile.ledger.totals.forward == 2 * 2 * 4 * 4
    assert profile.ledger.memory["peak"] > 0


MIXTURE = """
import torch
from torch import nn

class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 2), nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x):
        index, out = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            (own,) = torch.where(index == number)
            out = out.index_add(0, own, expert(x[own]))
        return out

def net(batch=8):
    return Mixture(), torch.randn(batch, 4)
"""


def test_so_is_a_factorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mixture.py").write_text(MIXTURE)
    monkeypatch.chdir(tmp_path)
    profile = fr.profile("mixture.py:net", batch=6, loss="sum", **FEW)
    assert profile.not_traced.startswith("the model reads the value of a tensor at")
    assert "mixture.py" in profile.not_traced
    experts = sum(layer.forward for layer in profile.ledger.layers() if "experts" in layer.name)
    assert experts == 2 * 6 * 4 * 4
    assert profile.examples == 6
    assert profile.differences == []
    assert fr.Profile.from_json(profile.to_json()).not_traced == profile.not_traced


def test_roofs_are_measured_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measured(device: torch.device, *, fresh: bool, progress: Any) -> Any:
        asked.append((str(device), fresh))
        return ROOFS

    monkeypatch.setattr(verb, "measured_roofs", measured)
    monkeypatch.setattr(verb, "roofs_of", lambda name: replace(ROOFS, name=name))
    model, x, few = nn.Linear(4, 4), torch.randn(2, 4), {**FEW, "loss": "sum"}
    del few["roofs"]
    assert fr.profile(model, x, **few).roofs is ROOFS
    assert fr.profile(model, x, roofs="fresh", **few).roofs is ROOFS
    assert asked == [("cpu", False), ("cpu", True)]
    assert fr.profile(model, x, roofs="mine.json", **few).roofs.name == "mine.json"


def test_roofs_that_are_too_low_are_told() -> None:
    """At 1 FLOP/s a step of 128 FLOP would take two minutes."""
    low = replace(ROOFS, flops_per_s={"float32": 1.0})
    profile = fr.profile(nn.Linear(4, 4), torch.randn(2, 4), **{**FEW, "loss": "sum", "roofs": low})
    assert profile.hfu is not None
    doubt = profile.notes[-1]
    assert doubt.startswith("the measured roofs are not to be trusted, for at them the products")
    assert f"{profile.hfu:.1%}" in doubt


def test_it_says_what_it_does() -> None:
    stages: list[str] = []
    fr.profile("mlp", batch=2, width=4, progress=stages.append, **FEW)
    assert stages[:4] == ["counting", "building", "warming up", "timing step 1 of 3"]
    assert "profiling step 1 of 5" in stages
    assert stages[-1] == "measuring memory"


@pytest.mark.parametrize(
    ("batch", "examples"),
    [
        (torch.ones(4, 8), 8),
        ({"x": torch.ones(4, 8), "scale": torch.tensor(2.0)}, 8),
        (([torch.ones(3, 8, 8)] * 3,), 6),
        ((torch.ones(4, 8), torch.ones(5, 8)), None),
        ((torch.tensor(1.0),), None),
    ],
)
def test_examples_are_the_leading_dimension_times_the_micro_batches(
    batch: Any, examples: int | None
) -> None:
    step = Step.of_module(nn.Linear(8, 8), batch, StepOptions(accumulate=2))
    assert verb.examples_of(step) == examples


def test_an_uncertain_ratio_is_called_so() -> None:
    ratio = Interval(2.0, 1.2, 2.9)
    one = Interval(1.0, 1.0, 1.0)
    measured = Timing(one, one, one, one, ratio, 20)
    (note,) = verb.uncertain(measured)
    assert note.startswith("the ratio of times is uncertain, 1.20 to 2.90 over 20 steps")
    assert verb.uncertain(replace(measured, time_ratio=Interval(2.0, 1.5, 2.5))) == []
    assert verb.uncertain(replace(measured, time_ratio=Interval(2.0, 1.5, 2.6))) != []


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words", "says"),
    [
        ("mlp", {"device": "gpu"}, "device=gpu should be one of cpu, cuda"),
        ("mlp", {"target": "cpu"}, "target: a step that is measured runs the kernels of its"),
        ("mlp", {"inference": True}, "inference: a step is measured with its backward"),
        ("mlp", {"repeats": 0}, "repeats=0 should be a whole number"),
        ("mlp", {"budget_s": -1.0}, "budget_s=-1.0 should be a number of seconds"),
        ("mlp", {"roofs": "no.json"}, "no.json"),
        ("mlp", {"roofs": replace(ROOFS, device="cuda")}, "the roofs of Abacus are of a cuda"),
        ("mpl", {}, "there is no model 'mpl': did you mean 'mlp'"),
        ("mlp", {"wdith": 4}, "mlp has no KEY 'wdith'"),
        (nn.Linear(2, 2), {}, r"give the module an example batch: profile\(model, batch\)"),
        (nn.Linear(2, 2), {"batch": torch.ones(1, 2), "seq": 3}, "seq: a module that is built"),
        (nn.Linear, {"batch": torch.ones(1, 2)}, "the class Linear: make one"),
        (nn.Linear(2, 2, device="meta"), {"batch": torch.ones(1, 2)}, "tensors without values"),
        (nn.Linear(2, 2), {"batch": torch.ones(1, 3)}, r"the model failed on input 0 of 1x3"),
    ],
)
def test_what_cannot_be_profiled(model: Any, words: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fr.profile(model, **{**FEW, **words})


class Hungry(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), Glutton()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(self.first(x))
        return y


class Glutton(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if type(x) is torch.Tensor and not x.is_meta:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return x


def test_out_of_memory_says_where_and_what_was_predicted() -> None:
    with pytest.raises(UsageError, match=r"memory ran out in forward of second \(.*predicted"):
        fr.profile(Hungry(), torch.ones(2, 4), loss="sum", **FEW)


def test_out_of_memory_while_building(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "huge.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n"
        "    if torch.empty(1).is_meta:\n        return nn.Linear(4, 4)\n"
        "    raise torch.OutOfMemoryError('CUDA out of memory')\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="memory ran out in building the model"):
        fr.profile("huge.py:make", batch=2, **FEW)


@contextmanager
def measured_as(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Iterator[None]:
    one = Interval(1.0, 1.0, 1.0)

    def measured(*args: Any, **words: Any) -> Timing:
        return replace(Timing(one, one, one, one, one, 3), **changes)

    monkeypatch.setattr(verb, "measure_step", measured)
    yield


def test_a_profiler_that_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        measured_as(monkeypatch, notes=["torch's profiler saw no kernel"]),
        pytest.raises(UsageError, match="saw no kernel"),
    ):
        fr.profile("mlp", batch=2, **FEW)


def test_what_was_measured_before_an_interrupt_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with measured_as(monkeypatch, notes=["interrupted: 3 of 20 steps"], interrupted=True):
        profile = fr.profile("mlp", batch=2, **FEW)
        assert profile.interrupted
        assert profile.time_ratio.median == 1.0
        assert profile.ledger.totals.forward > 0
        assert profile.total.total.ms == 0
        assert fr.Profile.from_json(profile.to_json()).interrupted
        with pytest.raises(KeyboardInterrupt):  # there is no ledger to show
            fr.profile(ReadsAValue(), torch.randn(2, 4), loss="sum", **FEW)


def test_the_options_are_those_of_a_step_on_a_device() -> None:
    assert DEFAULTS.keys() - MEASURED_DEFAULTS.keys() == {"target", "inference"}
