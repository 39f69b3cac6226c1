"""What autograd keeps: by the formulas of the forward operators, and as its own hooks see it."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.formulas import OPERATORS, Cost
from flopratio.ledger import SAVED, Mismatch


def reconciled(module: nn.Module, x: torch.Tensor, forward=None) -> fr.Ledger:
    forward = forward or module
    with fr.Profiler(module) as profiler:
        forward(x).sum().backward()
    return profiler.ledger


def test_the_formulas_name_what_each_node_keeps() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    ledger = reconciled(module, torch.empty(7, 3))
    # The first layer keeps its input, ReLU its result; the second layer's input is that result.
    assert ledger.analytic[SAVED] == (7 * 3 + 7 * 5) * 4
    assert ledger.totals.saved_bytes == ledger.analytic[SAVED]
    assert ledger.saved_mismatches == []


def test_a_value_that_is_written_over_is_kept_as_a_copy() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.SiLU(inplace=True), nn.Linear(5, 2))
    ledger = reconciled(module, torch.empty(7, 3))
    # SiLU's gradient needs its input, which it overwrites.
    assert ledger.analytic[SAVED] == (7 * 3 + 7 * 5 + 7 * 5) * 4
    assert ledger.saved_mismatches == []


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # forward mode's own formulas are scripts
def test_what_directional_derivatives_keep_is_left_out() -> None:
    """Tanh keeps its result for its gradient, and the tangent for that of its derivative."""
    module, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh()), torch.randn(7, 3)
    with fr.Profiler(module) as profiler:
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))
            _, tangent = forward_ad.unpack_dual(module(dual))
        tangent.square().sum().backward()
        module(x).sum().backward()
    ledger = profiler.ledger
    assert ledger.totals.saved_bytes > 0
    assert ledger.saved_mismatches == []
    assert not any(record.hooked for record in profiler.recording.records[-20:])


def test_a_checkpoint_keeps_what_enters_it_and_that_is_no_operator_s() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 2)))
    ledger = reconciled(
        module,
        torch.empty(7, 3),
        lambda x: checkpoint(module[1], module[0](x), use_reentrant=False),
    )
    assert ledger.analytic[SAVED] == 7 * 3 * 4
    assert ledger.saved_mismatches == []


def test_hooks_of_the_step_s_own_decide_what_is_kept() -> None:
    module = nn.Linear(3, 5)

    def offloaded(x: torch.Tensor) -> torch.Tensor:
        with torch.autograd.graph.saved_tensors_hooks(lambda kept: kept.shape, torch.empty):
            return module(x)

    ledger = reconciled(module, torch.empty(7, 3), offloaded)
    assert ledger.analytic[SAVED] == 0
    assert ledger.saved_mismatches == []


def test_a_user_s_function_keeps_what_no_formula_can_tell() -> None:
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x * 2)
            return x * 3

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0]

    module = nn.Linear(3, 5)
    ledger = reconciled(module, torch.empty(7, 3), lambda x: Scale.apply(module(x)))
    assert ledger.analytic[SAVED] == 7 * 3 * 4
    assert ledger.saved_mismatches == []
    assert ledger.memory.saved_activations == (7 * 3 + 7 * 5) * 4


def test_a_formula_that_leaves_something_out_is_told(monkeypatch) -> None:
    relu = OPERATORS["aten.relu"]

    def forgetful(*args, **kwargs) -> Cost:
        return Cost(elementwise=relu(*args, **kwargs).elementwise)

    monkeypatch.setitem(OPERATORS, "aten.relu", forgetful)
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    ledger = reconciled(module, torch.empty(7, 3))
    assert ledger.saved_mismatches == [Mismatch("1", SAVED, 0, 7 * 5 * 4)]
    assert "1 saves 0 bytes by the formulas, 140" in str(ledger.saved_mismatches[0])
    assert ledger.reconciled  # of FLOPs


def test_it_is_told_of_one_micro_batch(monkeypatch) -> None:
    """Forgotten, and made up, in each of three that follow each other."""
    relu, addmm = OPERATORS["aten.relu"], OPERATORS["aten.addmm"]

    def forgetful(*args, **kwargs) -> Cost:
        return Cost(elementwise=relu(*args, **kwargs).elementwise)

    def keeping_all(*args, out, **kwargs) -> Cost:
        cost = addmm(*args, out=out, **kwargs)
        return replace(cost, gradients=[replace(g, saves=(*g.saves, out)) for g in cost.gradients])

    monkeypatch.setitem(OPERATORS, "aten.relu", forgetful)
    monkeypatch.setitem(OPERATORS, "aten.addmm", keeping_all)
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    with fr.Profiler(module) as profiler:
        for _ in range(3):
            module(torch.empty(7, 3)).sum().backward()
    ledger = profiler.ledger
    assert ledger.saved_mismatches == [
        Mismatch("0", SAVED, (7 * 3 + 7 * 5) * 4, 7 * 3 * 4),
        Mismatch("1", SAVED, 0, 7 * 5 * 4),
    ]


def test_what_enters_a_checkpoint_before_any_operator_stands_in_the_first_row() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    ledger = reconciled(
        module, torch.empty(7, 3), lambda x: checkpoint(module, x, use_reentrant=False)
    )
    assert ledger.memory.saved_activations == 7 * 3 * 4
    assert {layer.name: layer.saved_bytes for layer in ledger.layers()} == {
        "0": 7 * 3 * 4,
        "1": 0,
        "(step)": 0,
    }
