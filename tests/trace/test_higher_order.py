"""Operators that are given functions: what the functions do is counted, each figure beside its
arithmetic."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as map_function
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention import flex_attention as flex
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.torch_private import HigherOrderOperator
from flopratio.trace.reconcile import reconcile

pytestmark = pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")

ROWS = 8
LINEAR = 2 * ROWS * 4 * 4  # a batch of 8 through a layer of 4 to 4


def profiled(model: nn.Module | None, step: Callable[[], Any]) -> fr.Ledger:
    with fr.Profiler(model) as profiler:
        step()
    return profiler.ledger


def split(ledger: fr.Ledger) -> tuple[int, int, int, int]:
    total = ledger.totals
    return total.forward, total.grad_input, total.grad_weight, total.recompute


class Two(nn.Module):
    """A branch of two layers, one of none."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def branch(self, x: torch.Tensor) -> Any:
        return self.second(self.first(x).tanh())

    def forward(self, x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > -1e9, self.branch, lambda x: x * 2, (x,))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(ROWS, 4)


class TestCond:
    def test_training(self, x: torch.Tensor) -> None:
        """Its backward runs both products again, though that of the second is of no use to it."""
        model = Two()
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (2 * LINEAR, LINEAR, 2 * LINEAR, 2 * LINEAR)
        assert ledger.reconciled is True
        assert ledger.uncounted_ops == {}
        assert all(layer.name in ("", "first", "second", "(step)") for layer in ledger.layers())

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_inference(self, x: torch.Tensor, context: Callable[[], Any]) -> None:
        model = Two()
        with context(), fr.Profiler(model) as profiler:
            model(x)
        assert profiler.ledger.totals.forward == 2 * LINEAR
        assert profiler.ledger.uncounted_ops == {}

    def test_only_the_branch_that_runs(self, x: torch.Tensor) -> None:
        model = Two()
        with torch.no_grad():
            ledger = profiled(
                model, lambda: torch.cond(x.sum() > 1e9, model.branch, model.first, (x,))
            )
        assert ledger.totals.forward == LINEAR

    def test_on_fake_tensors_the_first_branch_is_taken_and_that_is_said(
        self, x: torch.Tensor
    ) -> None:
        ledger = fr.count(Two(), x)
        assert split(ledger) == (2 * LINEAR, LINEAR, 2 * LINEAR, 2 * LINEAR)
        assert ledger.mismatches == []
        (name,) = ledger.uncounted_ops
        assert name == "higher_order.cond (a value tells which function runs, or how often)"

    def test_weights_get_their_gradients(self, x: torch.Tensor) -> None:
        model = Two()
        model(x).sum().backward()
        before = [parameter.grad for parameter in model.parameters()]
        model.zero_grad()
        profiled(model, lambda: model(x).sum().backward())
        for gradient, parameter in zip(before, model.parameters(), strict=True):
            assert gradient is not None
            assert parameter.grad is not None
            assert torch.equal(gradient, parameter.grad)

    def test_one_in_another(self, x: torch.Tensor) -> None:
        model = Two()

        def outer(x: torch.Tensor) -> Any:
            return torch.cond(x.max() > 1e9, model.first, model.branch, (x,))

        ledger = profiled(
            model, lambda: torch.cond(x.sum() > -1e9, outer, lambda x: x * 2, (x,)).sum()
        )
        assert ledger.totals.forward == 2 * LINEAR

    def test_checkpointed(self, x: torch.Tensor) -> None:
        """The checkpoint runs the branch once more, and then its backward does."""
        model = Two()
        ledger = profiled(model, lambda: checkpoint(model, x, use_reentrant=False).sum().backward())
        assert split(ledger) == (2 * LINEAR, LINEAR, 2 * LINEAR, 4 * LINEAR)
        assert ledger.reconciled is True

    def test_two_profilers(self, x: torch.Tensor) -> None:
        model = Two()
        with fr.Profiler(model) as outer:
            inner = profiled(model, lambda: model(x).sum().backward())
        assert outer.ledger.totals.forward == inner.totals.forward == 2 * LINEAR

    def test_after_a_compiled_one(self, x: torch.Tensor) -> None:
        model = Two()
        compiled = torch.compile(model, backend="eager")
        ledger = profiled(model, lambda: compiled(x).sum().backward())
        assert ledger.totals.forward == 2 * LINEAR

    def test_an_error_in_a_branch_leaves_all_as_it_was(self, x: torch.Tensor) -> None:
        before = torch.compile, HigherOrderOperator.dispatch, nn.Module.__call__
        with pytest.raises(Exception, match="dim"), fr.Profiler():
            torch.cond(x.sum() > -1e9, lambda x: x @ x, lambda x: x @ x, (x,))
        assert before == (torch.compile, HigherOrderOperator.dispatch, nn.Module.__call__)
        assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


class Loop(nn.Module):
    """Three times one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        def body(index: torch.Tensor, x: torch.Tensor) -> Any:
            return index + 1, self.layer(x).tanh()

        return while_loop(lambda index, _: index < 3, body, (torch.tensor(0), x))[1]


class Scan(Loop):
    """A recurrent layer over steps [T, rows, 4]."""

    def forward(self, x: torch.Tensor) -> Any:
        def step(state: torch.Tensor, x: torch.Tensor) -> Any:
            state = (self.layer(state) + x).tanh()
            return state, state.clone()

        return scan(step, torch.zeros(ROWS, 4), x)[1]


class Map(Loop):
    """The layer, step by step."""

    def forward(self, x: torch.Tensor) -> Any:
        return map_function(self.layer, x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch imports for it
class TestLoops:
    def test_while_in_inference(self, x: torch.Tensor) -> None:
        model = Loop()
        with torch.no_grad():
            ledger = profiled(model, lambda: model(x))
        assert ledger.totals.forward == 3 * LINEAR

    @pytest.mark.skipif(
        not hasattr(torch.ops.higher_order, "while_loop_stack_output"),
        reason="this torch has no backward of it",
    )
    def test_while(self, x: torch.Tensor) -> None:
        """The first round's input is data, whose gradient is computed all the same."""
        model = Loop()
        for ledger in (
            profiled(model, lambda: model(x).sum().backward()),
            fr.count(model, x, loss="sum"),
        ):
            forward, grad_input, grad_weight, recompute = split(ledger)
            assert (forward, grad_input, grad_weight) == (3 * LINEAR, 2 * LINEAR, 3 * LINEAR)
            assert recompute % LINEAR == 0
            assert ledger.mismatches == []

    def test_scan(self) -> None:
        """Older torch runs the first of the five steps once more, for its shapes."""
        model, x = Scan(), torch.randn(5, ROWS, 4)
        real = profiled(model, lambda: model(x).sum().backward())
        counted = fr.count(model, x, loss="sum")
        assert real.totals.forward in (5 * LINEAR, 6 * LINEAR)
        assert split(real) == split(counted)
        assert model.layer.weight.grad is not None

    def test_map(self) -> None:
        model, x = Map(), torch.randn(5, ROWS, 4)
        for ledger in (
            profiled(model, lambda: model(x).sum().backward()),
            fr.count(model, x, loss="sum"),
        ):
            assert split(ledger)[:3] == (5 * LINEAR, 0, 5 * LINEAR)
            assert ledger.reconciled is True

    def test_associative_scan(self) -> None:
        """The running products of 4 numbers in a row: at least 3 multiplications, in any order."""
        x = torch.randn(4, 3)
        ledger = profiled(
            None, lambda: associative_scan(torch.mul, x, dim=0, combine_mode="generic")
        )
        assert ledger.totals.elementwise_forward >= 3 * 3
        assert ledger.uncounted_ops == {}


BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 3, 16, 32, 8
SCORES = BATCH * HEADS * QUERIES * KEYS
ATTENTION = 2 * 2 * SCORES * WIDTH


class Flex(nn.Module):
    """Attention; with a learnt bias a head and distance."""

    def __init__(self, *, biased: bool = False, mask: Any = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(HEADS)) if biased else None
        self.mask = mask

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
        bias = self.bias

        def score_mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
            return score + bias[head] * (query - key)  # type: ignore[index]

        chosen = None if bias is None else score_mod
        return flex.flex_attention(query, key, value, chosen, self.mask)


def operands(length: int = QUERIES, keys: int = KEYS) -> tuple[torch.Tensor, ...]:
    return tuple(
        torch.randn(BATCH, HEADS, size, WIDTH, requires_grad=True) for size in (length, keys, keys)
    )


@pytest.fixture
def backward_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses it, though it can."""
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)


def elementwise(ledger: fr.Ledger, op: str) -> int:
    return sum(row.elementwise for row in ledger.rows if row.op == f"higher_order.{op}")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
class TestFlexAttention:
    @pytest.mark.usefixtures("backward_on_the_cpu")
    def test_training(self) -> None:
        model, inputs = Flex(), operands()
        ledger = profiled(model, lambda: model(*inputs).sum().backward())
        # Q K.T once more in backward is half of forward.
        assert split(ledger) == (ATTENTION, 2 * ATTENTION, 0, ATTENTION // 2)
        assert ledger.reconciled is True
        # Scale and softmax 6 a score, log-sum-exp 2 a row.
        assert elementwise(ledger, "flex_attention") == 6 * SCORES + 2 * SCORES // KEYS

    @pytest.mark.usefixtures("backward_on_the_cpu")
    def test_a_function_of_the_score(self) -> None:
        """A difference, a product and a sum a score."""
        plain, biased, inputs = Flex(), Flex(biased=True), operands()
        before = profiled(plain, lambda: plain(*inputs).sum().backward())
        ledger = profiled(biased, lambda: biased(*inputs).sum().backward())
        assert split(ledger) == split(before)
        assert ledger.reconciled is True
        assert pickle.loads(pickle.dumps(ledger)).rows == ledger.rows
        more = elementwise(ledger, "flex_attention") - elementwise(before, "flex_attention")
        assert more == 3 * SCORES
        assert biased.bias is not None
        assert biased.bias.grad is not None

    @pytest.mark.usefixtures("backward_on_the_cpu")
    def test_masked_blocks_count_in_full(self) -> None:
        def causal(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return query >= key

        mask = flex.create_block_mask(causal, None, None, 256, 256, device="cpu")
        model, inputs = Flex(mask=mask), operands(256, 256)
        ledger = profiled(model, lambda: model(*inputs).sum().backward())
        scores = BATCH * HEADS * 256 * 256
        assert ledger.totals.forward == 2 * 2 * scores * WIDTH
        # A comparison a score.
        assert elementwise(ledger, "flex_attention") == 7 * scores + 2 * scores // 256
        assert ledger.uncounted_ops == {}
        # Of 2 by 2 blocks of 128 the upper right one is masked.
        (note,) = ledger.notes
        assert "leaves 3 of 4 blocks (75.0%); all are counted" in note

    @pytest.mark.parametrize("biased", [False, True])
    def test_on_fake_tensors_it_trains_as_on_cuda(self, biased: bool) -> None:
        ledger = fr.count(Flex(biased=biased), operands())
        assert split(ledger) == (ATTENTION, 2 * ATTENTION, 0, ATTENTION // 2)
        assert ledger.reconciled is True
        assert ledger.convention["attention"] == "flex"

    @pytest.mark.usefixtures("backward_on_the_cpu")
    def test_inference(self) -> None:
        model, inputs = Flex(biased=True), operands()
        with torch.no_grad():
            ledger = profiled(model, lambda: model(*inputs))
        assert ledger.totals.forward == ATTENTION

    @pytest.mark.usefixtures("backward_on_the_cpu")
    def test_a_function_that_reads_values_is_named(self) -> None:
        model, inputs = Flex(), operands()
        recorded: list[Any] = []

        def score_mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
            recorded.append(None)
            if len(recorded) > 1:
                raise ValueError
            return score

        with torch.no_grad(), fr.Profiler(model) as profiler:
            operator = torch.ops.higher_order.flex_attention
            mask = flex._create_empty_block_mask(inputs[0], inputs[1]).as_tuple()
            operator(*inputs, score_mod, mask, 1.0, {})
        assert profiler.ledger.totals.forward == ATTENTION
        (name,) = profiler.ledger.uncounted_ops
        assert name.startswith("higher_order.flex_attention (")


@torch.library.custom_op("flopratio_tests::product", mutates_args=())
def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


@torch.library.custom_op("flopratio_tests::trained", mutates_args=())
def trained(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


for _operator in (product, trained):
    _operator.register_fake(lambda x, weight: x.new_empty(x.shape[0], weight.shape[1]))


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, gradient: torch.Tensor) -> Any:
    x, weight = ctx.saved_tensors
    return gradient @ weight.T, x.T @ gradient


trained.register_autograd(_gradients, setup_context=_keep)


class Custom(nn.Module):
    """A layer, and a user's operator after it."""

    def __init__(self, *, trains: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.trains = trains

    def forward(self, x: torch.Tensor) -> Any:
        return (trained if self.trains else product)(self.layer(x), self.weight)


def test_a_pickled_recording_gives_the_same_ledger(x: torch.Tensor) -> None:
    model = Two()
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
    again = pickle.loads(pickle.dumps(profiler.recording))
    assert reconcile(again).rows == profiler.ledger.rows


class TestOperatorsOfUsers:
    @pytest.mark.parametrize("trains", [False, True])
    def test_inference(self, x: torch.Tensor, trains: bool) -> None:
        model = Custom(trains=trains)
        name = f"flopratio_tests.{'trained' if trains else 'product'}"
        for ledger in (
            fr.count(model, x, inference=True),
            inference_of(model, x),
        ):
            assert ledger.totals.forward == LINEAR
            assert list(ledger.uncounted_ops) == [name]

    def test_training(self, x: torch.Tensor) -> None:
        model = Custom(trains=True)
        for ledger in (
            fr.count(model, x, loss="sum"),
            profiled(model, lambda: model(x).sum().backward()),
        ):
            assert ledger.totals.forward == LINEAR
            assert list(ledger.uncounted_ops) == ["flopratio_tests.trained"]
            assert ledger.reconciled is not True
        assert model.weight.grad is not None

    def test_a_higher_order_operator_without_functions_is_named(self, x: torch.Tensor) -> None:
        class Opaque(HigherOrderOperator):
            def __init__(self) -> None:
                super().__init__("flopratio_tests_opaque")

            def __call__(self, x: torch.Tensor) -> Any:
                return super().__call__(x)

        opaque = Opaque()
        opaque.py_impl(torch._C.DispatchKey.CompositeExplicitAutograd)(lambda x: x @ x.T)
        opaque.py_impl(torch._C.DispatchKey.Autograd)(
            lambda x: (
                opaque.py_kernels[torch._C.DispatchKey.CompositeExplicitAutograd](x)
                if torch._C._len_torch_dispatch_stack() == 0
                else below_autograd(opaque, x)
            )
        )
        ledger = profiled(None, lambda: opaque(x))
        assert list(ledger.uncounted_ops) == ["higher_order.flopratio_tests_opaque"]


def below_autograd(operator: Any, x: torch.Tensor) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(x)


def inference_of(model: nn.Module, x: torch.Tensor) -> fr.Ledger:
    with torch.no_grad():
        return profiled(model, lambda: model(x))
