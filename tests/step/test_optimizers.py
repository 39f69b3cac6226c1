"""Optimizers by name, and the three ways in which torch runs an update: the same arithmetic, and
other temporaries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.measure.memory import measure_peak
from flopratio.step.optimizers import IMPLEMENTATIONS, NAMES, make_optimizer

TRAINING = [name for name in NAMES if name != "none"]

FUSED = [name for name in TRAINING if name != "rmsprop"]
"""torch has no fused RMSprop."""

PAIRS = [
    (name, implementation)
    for name in TRAINING
    for implementation in IMPLEMENTATIONS
    if implementation != "fused" or name in FUSED
]


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 16, bias=False))


PARAMETERS = 24 * 32 + 32 + 32 * 16


def update_of(name: str, implementation: str | None, **options: Any) -> fr.Ledger:
    return fr.count(
        model(),
        torch.empty(2, 24),
        loss="sum",
        optimizer=name,
        optimizer_implementation=implementation,
        **options,
    )


@pytest.mark.parametrize(("name", "implementation"), PAIRS)
def test_an_update_costs_the_same_however_it_is_run(name: str, implementation: str) -> None:
    ledger = update_of(name, implementation)
    assert ledger.totals.update == update_of(name, "plain").totals.update > PARAMETERS
    assert not ledger.uncounted_ops
    by_cost = sorted(ledger.rows, key=lambda row: (row.phase == "update", row.elementwise))
    marks = {"plain": "aten.add", "foreach": "aten._foreach_add", "fused": "aten._fused_"}
    assert by_cost[-1].op.startswith(marks[implementation])


@pytest.mark.parametrize(("name", "implementation"), PAIRS)
def test_the_formulas_of_a_network_agree(name: str, implementation: str) -> None:
    ledger = fr.count(
        "mlp", batch=2, depth=2, width=8, optimizer=name, optimizer_implementation=implementation
    )
    assert ledger.reconciled
    assert ledger.totals.update > 0


def test_a_part_of_an_update_gone_missing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from flopratio.step import run

    def half(name: str, parameters: Any, *more: Any) -> torch.optim.Optimizer | None:
        return make_optimizer(name, list(parameters)[:2], *more)

    monkeypatch.setattr(run, "make_optimizer", half)
    ledger = fr.count("mlp", batch=2, optimizer="adam", optimizer_implementation="foreach")
    assert [mismatch.phase for mismatch in ledger.mismatches] == ["update"]


def test_the_target_decides_unless_told() -> None:
    found = {
        (target, given): update_of("adamw", given, target=target).convention[
            "optimizer_implementation"
        ]
        for target in ("cuda", "cpu")
        for given in (None, "fused")
    }
    assert found == {
        ("cuda", None): "foreach",
        ("cpu", None): "plain",
        ("cuda", "fused"): "fused",
        ("cpu", "fused"): "fused",
    }


@pytest.mark.parametrize(
    ("name", "temporaries"),
    [("sgd", 0), ("momentum", 0), ("nesterov", 0), ("adagrad", 2), ("rmsprop", 1), ("adam", 1)],
)
def test_an_update_of_all_parameters_at_once_needs_as_much_again(
    name: str, temporaries: int
) -> None:
    """The root of the squares, of all parameters; for AdaGrad the scaled gradients too."""
    memory = update_of(name, "foreach").memory
    held = {
        category: memory[category]
        for category in ("parameters", "gradients", "optimizer_state", "inputs")
    }
    update = max(sum(alive) for alive in _alive_in_update(memory))
    loss = 4
    assert update == sum(held.values()) + loss + temporaries * 4 * PARAMETERS


def _alive_in_update(memory: Any) -> list[tuple[int, ...]]:
    """The bytes of each category while each operator of the update runs."""
    (update,) = (records for phase, records in memory.phases() if phase == "update")
    timeline = memory.timeline()
    return [tuple(timeline[category][record] for category in timeline) for record in update]


def test_a_fused_update_needs_nothing() -> None:
    for name in FUSED:
        memory = update_of(name, "fused").memory
        assert len({sum(alive) for alive in _alive_in_update(memory)}) == 1


@pytest.mark.parametrize(("name", "implementation"), PAIRS)
def test_peak_as_executed(name: str, implementation: str) -> None:
    """Requested bytes of a second step on the CPU, but for numbers that operators turn into
    tensors."""
    module, x = model(), torch.randn(2, 24)
    update = make_optimizer(name, module.parameters(), implementation)
    assert update is not None

    def step() -> None:
        module(x).sum().backward()
        update.step()

    step()
    module.zero_grad()
    measured = measure_peak(step, [*module.parameters(), x, *update.state.values()])
    predicted = update_of(name, implementation, target="cpu").memory.peak
    assert predicted == pytest.approx(measured.outside_kernels, abs=32)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "adm"}, "optimizer=adm should be one of none, sgd, .*: did you mean 'adam'"),
        (
            {"optimizer": "rmsprop", "optimizer_implementation": "fused"},
            "torch has no fused RMSprop: its implementation should be plain or foreach",
        ),
        (
            {"optimizer": "adam", "optimizer_implementation": "for-each"},
            "optimizer_implementation=for-each should be one of plain, foreach, fused",
        ),
    ],
)
def test_bad_input(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        fr.count(model(), torch.empty(2, 24), loss="sum", **options)


def test_nothing_trains() -> None:
    frozen = [parameter.requires_grad_(False) for parameter in model().parameters()]
    assert make_optimizer("adam", frozen) is None
    assert make_optimizer("none", model().parameters()) is None
