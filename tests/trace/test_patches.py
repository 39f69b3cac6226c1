"""What the profiler replaces of torch's own: Profilers inside of each other, compiled and scripted
regions, somebody else's hooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import flopratio as fr

ROWS = 8
FIRST = 2 * ROWS * 4 * 6
SECOND = 2 * ROWS * 6 * 6


class Two(nn.Module):
    """Two linear layers, 4 -> 6 -> 6, with a functional ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.relu(self.first(x)))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(ROWS, 4)


def split(ledger: fr.Ledger) -> tuple[int, int, int]:
    total = ledger.totals
    return total.forward, total.grad_input, total.grad_weight


EXPECTED = (FIRST + SECOND, SECOND, FIRST + SECOND)


def worked(ledger: fr.Ledger) -> list[Any]:
    """The rows without those of ``detach``, which costs nothing: below another mode torch 2.8 calls
    it twice."""
    return [row for row in ledger.rows if row.op != "aten.detach"]


class TestProfilersInsideOfEachOther:
    def test_the_same_figures_for_the_same_part(self, x: torch.Tensor) -> None:
        model = Two()
        optimizer = torch.optim.AdamW(model.parameters())
        data = torch.randn(ROWS, 4, requires_grad=True)

        def step() -> None:
            hidden = model.first(data)  # used three times: gradients meet
            loss = model(data).sum() + hidden.exp().sum() + hidden.sin().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        step()
        with fr.Profiler(model) as alone:
            step()
        with (
            fr.Profiler(model) as outer,
            fr.Profiler(model) as middle,
            fr.Profiler(model) as inner,
        ):
            step()
        for profiler in (outer, middle, inner):
            ledger = profiler.ledger
            assert worked(ledger) == worked(alone.ledger)
            assert ledger.layers() == alone.ledger.layers()
            assert ledger.memory == alone.ledger.memory
            assert (ledger.reconciled, ledger.saved_mismatches) == (True, [])
        # data; the ReLU's output; hidden and its exponential.
        assert alone.ledger.memory.saved_activations == 4 * ROWS * (4 + 6 + 6 + 6)

    def test_the_outer_one_sees_all_of_it(self, x: torch.Tensor) -> None:
        model = Two()
        with fr.Profiler(model) as outer:
            model(x).sum().backward()
            with fr.Profiler(model) as inner:
                model(x).sum().backward()
            model(x).sum().backward()
        assert split(inner.ledger) == EXPECTED
        assert split(outer.ledger) == tuple(3 * flops for flops in EXPECTED)
        saved = 4 * ROWS * (4 + 6)
        assert inner.ledger.totals.saved_bytes == saved
        # Of three steps one at a time.
        assert outer.ledger.totals.saved_bytes == saved
        assert outer.ledger.memory.saved_activations == saved
        assert outer.ledger.saved_mismatches == []

    @pytest.mark.parametrize("profilers", [2, 3])
    def test_tensors_that_take_themselves_apart(self, profilers: int) -> None:
        """What they call is seen by all, whose node it works for too; and an operator that calls
        nothing is one operator for all."""
        model, x = Two(), torch.randn(ROWS, 4)

        class Own(torch.Tensor):
            @classmethod
            def __torch_dispatch__(cls, *call: Any) -> Any:  # type: ignore[override]
                return result

        own, result = (torch.ones(3).as_subclass(Own) for _ in range(2))

        def step() -> None:
            torch.sin(own)
            offsets = torch.tensor([0, 3, ROWS])
            batch = torch.nested.nested_tensor_from_jagged(x, offsets)
            model(batch).values().square().sum().backward()
            model.zero_grad()

        step()
        with fr.Profiler(model) as alone:
            step()
        with ExitStack() as exits:
            every = [exits.enter_context(fr.Profiler(model)) for _ in range(profilers)]
            step()
        assert split(alone.ledger) == EXPECTED
        for profiler in every:
            assert profiler.ledger.reconciled is True
            assert worked(profiler.ledger) == worked(alone.ledger)
            assert "aten.sin" in {row.op for row in profiler.ledger.rows}
            assert profiler.ledger.memory["peak"] == alone.ledger.memory["peak"]

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_what_one_looks_up_is_none_of_the_steps(self) -> None:
        """The gradient's place of a leaf that has no node yet; the shapes in a nested tensor."""
        model, unused = nn.Linear(6, 3), nn.Parameter(torch.ones(3))
        x = torch.randn(4, 6)
        nested = torch.nested.nested_tensor([torch.ones(2, 3)])

        def step() -> None:
            wanted = [model.weight, unused]
            torch.autograd.grad(model(x).sum(), wanted, allow_unused=True)
            nested.to_padded_tensor(0.0)

        with fr.Profiler(model) as alone:
            step()
        with fr.Profiler(model) as outer, fr.Profiler(model) as inner:
            step()
        for profiler in (outer, inner):
            assert profiler.ledger == alone.ledger
            assert profiler.ledger.memory["peak"] == alone.ledger.memory["peak"]

    def test_one_is_not_entered_twice_at_once(self) -> None:
        with (
            fr.Profiler() as profiler,
            pytest.raises(fr.UsageError, match="runs already"),
            profiler,
        ):
            pass
        with profiler:
            pass

    def test_hooks_that_were_there_stay_in_force(self, x: torch.Tensor) -> None:
        """Of the user's: what they keep instead is theirs."""
        packed: list[torch.Size] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            packed.append(tensor.shape)
            return tensor

        model = Two()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(x).sum().backward()
            without, packed = packed, []
            with fr.Profiler(model) as profiler:
                model(x).sum().backward()
        assert packed == without
        assert split(profiler.ledger) == EXPECTED


class TestScripted:
    """As with the module that was scripted, in the layer that is called."""

    @pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::DeprecationWarning")
    @pytest.mark.parametrize("runs_before", [0, 1, 3])
    @pytest.mark.parametrize("traced", [False, True])
    def test_backward_is_its_own(self, traced: bool, runs_before: int, x: torch.Tensor) -> None:
        class Model(nn.Module):  # a class of its own: scripts of one class share what is compiled
            def __init__(self) -> None:
                super().__init__()
                self.scripted = torch.jit.trace(Two(), x) if traced else torch.jit.script(Two())
                self.last = nn.Linear(6, 6)

            def forward(self, x: torch.Tensor) -> Any:
                return self.last(self.scripted(x))

        model = Model()
        for _ in range(runs_before):
            model(x).sum().backward()
        before = model(x).detach()
        with fr.Profiler(model) as profiler:
            model(x).sum().backward()
        ledger = profiler.ledger
        assert ledger.mismatches == []
        assert split(ledger) == (FIRST + 2 * SECOND, 2 * SECOND, FIRST + 2 * SECOND)
        layers = {layer.name: layer for layer in ledger.layers()}
        assert layers["scripted"].grad_weight == FIRST + SECOND
        assert layers["scripted"].type == "Two"
        assert {row.layer for row in ledger.rows if row.flops} == {"scripted", "last"}
        (note,) = ledger.notes
        assert note.startswith("scripted functions and modules ran without")
        assert torch.equal(model(x).detach(), before)

    @pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::DeprecationWarning")
    def test_functions(self) -> None:
        twice = torch.jit.script(_twice)
        x, w = torch.randn(ROWS, 6), nn.Parameter(torch.randn(6, 6))
        for _ in range(3):
            twice(x, w).sum().backward()
        with fr.Profiler() as profiler:
            twice(x, w).sum().backward()
        assert profiler.ledger.mismatches == []
        assert split(profiler.ledger) == (2 * SECOND, SECOND, 2 * SECOND)


def _twice(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return (x @ w).relu() @ w


class TestCompiled:
    @pytest.fixture(params=["a module", "in place", "a function"])
    def compiled(self, request: pytest.FixtureRequest) -> tuple[Two, Callable[..., Any]]:
        model = Two()
        if request.param == "a module":
            return model, torch.compile(model, backend="eager")
        if request.param == "in place":
            model.compile(backend="eager")
            return model, model
        return model, torch.compile(lambda x: model(x), backend="eager")

    def test_it_is_said_that_they_run_as_written(
        self, compiled: tuple[Two, Callable[..., Any]], x: torch.Tensor
    ) -> None:
        model, run = compiled
        with fr.Profiler(model) as profiler:
            run(x).sum().backward()
        ledger = profiler.ledger
        assert split(ledger) == EXPECTED
        (note,) = ledger.notes
        assert note.startswith("compiled regions ran as they were written")
        assert json.loads(ledger.to_json())["notes"] == [note]
        assert fr.Ledger.from_json(ledger.to_json()).notes == [note]

    def test_nothing_is_said_where_nothing_is_compiled(self, x: torch.Tensor) -> None:
        model = Two()
        with fr.Profiler(model) as profiler:
            model(x).sum().backward()
        assert profiler.ledger.notes == []
