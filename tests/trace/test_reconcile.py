"""Whether a step is reconciled: yes, no, or not compared, and why. Never yes by default."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import flopratio as fr
from flopratio.formulas import OPERATORS
from flopratio.report.summary import remarks
from flopratio.report.view import view
from flopratio.trace.update import Update
from tests.trace.steps import Product, profiled, reconciled, split

F = 2 * 2 * 4 * 4
"""A product of 2 rows with 4 by 4: 2 * 2 * 4 * 4 = 64."""


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 4)


@pytest.fixture
def w() -> torch.Tensor:
    return torch.randn(4, 4, requires_grad=True)


def in_thread(run: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


class TestNotCompared:
    def test_nothing_ran_backward(self, x: torch.Tensor) -> None:
        model = nn.Linear(4, 4)
        ledger = profiled(model, lambda: model(x))
        assert ledger.reconciled is None
        assert ledger.why_not_compared == "nothing ran backward"

    def test_the_document_and_what_is_read_from_it(self, x: torch.Tensor) -> None:
        model = nn.Linear(4, 4)
        ledger = profiled(model, lambda: model(x))
        document = ledger.document()
        assert document["reconciled"] is None
        assert document["not_compared"] == "nothing ran backward"
        again = fr.Ledger.from_json(ledger.to_json())
        assert again.reconciled is None
        assert again.why_not_compared == "nothing ran backward"

    def test_the_table_says_so(self, x: torch.Tensor) -> None:
        model = nn.Linear(4, 4)
        ledger = profiled(model, lambda: model(x))
        said = {remark.about: remark.text for remark in remarks(ledger, view(ledger))}
        assert said["reconciled"] == "not compared: nothing ran backward"

    def test_what_the_document_says_stays(self, x: torch.Tensor) -> None:
        model = nn.Linear(4, 4)
        ledger = reconciled(model, lambda: model(x).sum().backward())
        document = json.loads(ledger.to_json())
        assert (document["reconciled"], document["not_compared"]) == (True, "")
        assert fr.Ledger.from_json(json.dumps(document)).reconciled is True
        del document["not_compared"]  # as before there were reasons
        assert fr.Ledger.from_json(json.dumps(document)).reconciled is True
        document["reconciled"] = None
        assert fr.Ledger.from_json(json.dumps(document)).reconciled is None

    def test_rows_alone(self) -> None:
        assert fr.Ledger([]).reconciled is None

    def test_inference_of_any_model_and_of_one_with_formulas(self, x: torch.Tensor) -> None:
        assert fr.count(nn.Linear(4, 4), x, inference=True).reconciled is None
        assert fr.count("mlp", 2, inference=True).reconciled is True

    def test_an_operator_whose_gradients_no_formula_tells(
        self, x: torch.Tensor, w: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(OPERATORS, "aten.tanh")
        ledger = profiled(None, lambda: torch.tanh(x @ w).sum().backward())
        assert ledger.mismatches == []
        assert ledger.reconciled is None
        assert ledger.why_not_compared == "there is no formula for aten.tanh"

    def test_one_that_no_gradient_reaches_is_no_hindrance(
        self, x: torch.Tensor, w: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(OPERATORS, "aten.tanh")
        ledger = profiled(None, lambda: (torch.tanh(x) @ w).sum().backward())
        assert ledger.uncounted_ops == {"aten.tanh": 1}
        assert ledger.reconciled is True

    @pytest.mark.filterwarnings("ignore:`torch.jit")
    def test_directional_derivatives(self, x: torch.Tensor, w: torch.Tensor) -> None:
        def loss(x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x @ w).sum()

        def in_a_dual_level() -> None:
            with forward_ad.dual_level():
                loss(forward_ad.make_dual(x, torch.ones_like(x))).backward()

        for step in (lambda: torch.func.hessian(loss)(x), in_a_dual_level):
            ledger = profiled(None, step)
            assert not ledger.reconciled
            assert "directional derivatives" in ledger.why_not_compared


class TestProductsWithoutAForward:
    """A product in backward whose forward nobody saw is a mismatch."""

    def test_forward_before_the_profiler(self, x: torch.Tensor, w: torch.Tensor) -> None:
        loss = (x @ w).sum()
        ledger = profiled(None, loss.backward)
        assert split(ledger) == (0, F, 0, 0)
        assert ledger.reconciled is False

    def test_of_a_users_function(self, x: torch.Tensor, w: torch.Tensor) -> None:
        loss = Product.apply(x, w).sum()
        ledger = profiled(None, loss.backward)
        assert ledger.reconciled is False

    def test_forward_in_a_thread(self, x: torch.Tensor, w: torch.Tensor) -> None:
        ledger = profiled(None, lambda: in_thread(lambda: (x @ w).sum()).backward())
        assert split(ledger) == (0, F, 0, 0)
        assert ledger.reconciled is False

    def test_of_a_module_in_a_thread(self, x: torch.Tensor) -> None:
        model = nn.Linear(4, 4)
        ledger = profiled(model, lambda: in_thread(lambda: model(x).sum()).backward())
        assert ledger.reconciled is False
        assert "Linear ran unseen, in another thread" in ledger.why_not_compared

    def test_of_a_module_beside_one_that_is_seen(self, x: torch.Tensor) -> None:
        """As DataParallel does. The layers that are seen keep their names."""
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

        def step() -> None:
            parts = [model(x), in_thread(lambda: model(x))]
            torch.cat(parts).sum().backward()

        ledger = profiled(model, step)
        assert not ledger.reconciled
        assert "Sequential ran unseen, in another thread" in ledger.why_not_compared
        assert {layer.name for layer in ledger.layers() if layer.forward} == {"0", "1"}

    def test_numbers_of_two_threads_that_meet(self, x: torch.Tensor, w: torch.Tensor) -> None:
        """Each thread counts its nodes from 0: two products of one number, of which this thread's
        is of no account. Nothing else tells them apart."""
        ledgers = []

        def step() -> None:
            with fr.Profiler() as profiler:
                x @ w
                in_thread(lambda: (x @ w).sum()).backward()
            ledgers.append(profiler.ledger)

        in_thread(step)
        assert not ledgers[0].reconciled

    def test_two_nodes_of_one_number_in_one_graph(self, x: torch.Tensor, w: torch.Tensor) -> None:
        ledgers = []

        def step() -> None:
            with fr.Profiler() as profiler:
                here, there = x @ w, in_thread(lambda: x @ w)
                (here + there).sum().backward()
            ledgers.append(profiler.ledger)

        in_thread(step)
        assert not ledgers[0].reconciled
        assert ledgers[0].why_not_compared == "a backward reached what another thread had made"

    def test_a_backward_in_a_thread(self, x: torch.Tensor, w: torch.Tensor) -> None:
        def step() -> None:
            loss = (x @ w).sum()
            in_thread(loss.backward)

        ledger = profiled(None, step)
        assert ledger.reconciled is None
        assert ledger.why_not_compared == "a backward ran unseen, in another thread"


class TestWhatFails:
    """Neither a formula, nor a hook, nor the ledger takes the step down or loses the record."""

    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, out: object) -> fr.Cost:
            raise ZeroDivisionError("no width")

        monkeypatch.setitem(OPERATORS, "aten.tanh", fail)

    @pytest.mark.usefixtures("failing")
    def test_a_formula(self, x: torch.Tensor, w: torch.Tensor) -> None:
        ledger = profiled(None, lambda: torch.tanh(x @ w).sum().backward())
        assert ledger.uncounted_ops == {"aten.tanh (ZeroDivisionError: no width)": 1}
        assert split(ledger) == (F, 0, F, 0)
        assert ledger.reconciled is None

    def test_a_formula_of_another_operator_within_the_step(
        self, x: torch.Tensor, w: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(OPERATORS, "aten.tanh", lambda nothing_like_it: fr.Cost())
        with fr.Profiler() as profiler:
            torch.tanh(x @ w).sum().backward()
            within = profiler.ledger  # must not stop the step
        (name,) = within.uncounted_ops
        assert name.startswith("aten.tanh (FormulaError: the formula of aten.tanh")
        with pytest.raises(fr.UsageError, match="is to be called with"):
            _ = profiler.ledger
        monkeypatch.undo()
        assert profiler.ledger.reconciled is True  # the record is there

    def test_what_no_operator_can_be_attributed_for(
        self, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = nn.Linear(4, 4, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

        def fail(*_: object) -> None:
            raise TypeError("object of type 'int' has no len()")

        monkeypatch.setattr(Update, "by_layer", fail)

        def step() -> None:
            model(x).sum().backward()
            optimizer.step()

        ledger = profiled(model, step)
        (name,) = ledger.uncounted_ops
        assert name == "aten.add_ (TypeError: object of type 'int' has no len())"
        assert split(ledger) == (F, 0, F, 0)
        assert ledger.totals.update == 0
        assert len(ledger.rows) == len({id(row) for row in ledger.rows})

    def test_a_hook_of_the_users(self, x: torch.Tensor) -> None:
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))

        def fail(_: torch.Tensor) -> None:
            raise ZeroDivisionError("the hook's own")

        def step() -> None:
            hidden = model[0](x)
            hidden.register_hook(fail)
            model[1](hidden).sum().backward()

        with fr.Profiler(model) as profiler, pytest.raises(ZeroDivisionError, match="hook's own"):
            step()
        first = profiler.ledger
        assert split(first) == (2 * F, F, F, 0)  # the second layer's backward had run
        assert (first.mismatches, first.reconciled) == ([], None)  # what ran agrees
        assert first.why_not_compared == "a backward did not end"
        with profiler:  # goes on
            model(x).sum().backward()
        assert split(profiler.ledger) == (4 * F, 2 * F, 3 * F, 0)

    def test_the_graph_of_a_backward(
        self, x: torch.Tensor, w: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("an unheard-of node")

        monkeypatch.setattr("flopratio.trace.profiler.graph_behind", fail)
        ledger = profiled(None, lambda: (x @ w).sum().backward())
        assert w.grad is not None
        assert ledger.reconciled is False
        assert "was not seen (an unheard-of node)" in ledger.why_not_compared

    def test_the_memory_within_the_step(
        self, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("no storages")

        monkeypatch.setattr("flopratio.trace.reconcile.step_memory", fail)
        model = nn.Linear(4, 4)
        with fr.Profiler(model) as profiler:
            model(x).sum().backward()
            within = profiler.ledger
        assert within.totals.forward == F
        with pytest.raises(ZeroDivisionError, match="no storages"):
            _ = within.memory

    def test_an_argument_that_cannot_be_described(self) -> None:
        from flopratio.trace.recorder import _described

        class Silent:
            def __repr__(self) -> str:
                raise ValueError

        assert "Silent" in _described(Silent())

    def test_the_ledger_within_a_backward(self, x: torch.Tensor, w: torch.Tensor) -> None:
        seen = []
        with fr.Profiler() as profiler:
            y = x @ w
            y.register_hook(lambda _: seen.append(profiler.ledger))
            y.sum().backward()
        assert seen[0].totals.forward == F
        assert seen[0].why_not_compared == "a backward did not end"
        assert profiler.ledger.reconciled is True
