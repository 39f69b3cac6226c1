"""Any step under the Profiler: phases, layers and operands, each figure beside its arithmetic."""

import pickle
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.nn import functional
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.trace import patches

# The products of these tests: a batch of 8 rows, widths of 4 to 6.
ROWS = 8


def profiled(model: nn.Module | None, step: Callable[[], Any]) -> fr.Ledger:
    """The ledger of a step, which the law must agree with."""
    with fr.Profiler(model) as profiler:
        step()
    ledger = profiler.ledger
    assert ledger.mismatches == []
    assert ledger.uncounted_ops == {}
    return ledger


def split(ledger: fr.Ledger) -> tuple[int, int, int, int]:
    total = ledger.totals
    return total.forward, total.grad_input, total.grad_weight, total.recompute


def by_name(ledger: fr.Ledger) -> dict[str, Any]:
    return {layer.name: layer for layer in ledger.layers()}


class Two(nn.Module):
    """Two linear layers, 4 -> 6 -> 6, with a functional ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.relu(self.first(x)))


FIRST = 2 * ROWS * 4 * 6
SECOND = 2 * ROWS * 6 * 6


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(ROWS, 4)


class TestTheLaw:
    """F for each operand that requires a gradient."""

    def test_first_layer_one_to_one_second_two_to_one(self, x: torch.Tensor) -> None:
        model = Two()
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (FIRST + SECOND, SECOND, FIRST + SECOND, 0)
        layers = by_name(ledger)
        assert (layers["first"].ratio, layers["second"].ratio) == (1.0, 2.0)

    def test_an_input_that_requires_a_gradient_makes_it_two_to_one(self, x: torch.Tensor) -> None:
        model = Two()
        x.requires_grad_()
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert by_name(ledger)["first"].ratio == 2.0

    def test_a_functional_product_of_leaf_tensors(self) -> None:
        x, w = torch.randn(4, 5, requires_grad=True), torch.randn(5, 6)
        # 2 * 4 * 5 * 6 = 240; only x asks for a gradient, and nobody says that it is an input.
        assert split(profiled(None, lambda: (x @ w).sum().backward())) == (240, 0, 240, 0)

    def test_frozen_parameters_pass_the_input_gradient_only(self, x: torch.Tensor) -> None:
        model = Two()
        model.second.requires_grad_(False)
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (FIRST + SECOND, SECOND, FIRST, 0)

    def test_a_frozen_prefix_costs_nothing_backward(self, x: torch.Tensor) -> None:
        model = Two()
        model.first.requires_grad_(False)
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (FIRST + SECOND, 0, SECOND, 0)

    def test_detach_cuts(self, x: torch.Tensor) -> None:
        model = Two()

        def step() -> None:
            model.second(model.first(x).detach()).sum().backward()

        assert split(profiled(model, step)) == (FIRST + SECOND, 0, SECOND, 0)

    def test_a_branch_that_never_reaches_the_loss(self, x: torch.Tensor) -> None:
        model = Two()

        def step() -> None:
            hidden = model.first(x)
            model.second(hidden)
            hidden.sum().backward()

        assert split(profiled(model, step)) == (FIRST + SECOND, 0, FIRST, 0)

    def test_forward_under_no_grad(self, x: torch.Tensor) -> None:
        model = Two()

        def step() -> None:
            with torch.no_grad():
                hidden = model.first(x)
            model.second(hidden).sum().backward()

        assert split(profiled(model, step)) == (FIRST + SECOND, 0, SECOND, 0)

    def test_no_grad_products_after_a_recorded_one_are_not_its_own(self, x: torch.Tensor) -> None:
        model = Two()

        def step() -> None:
            hidden = model.first(x)
            with torch.no_grad():
                model.second(hidden)
            hidden.sum().backward()

        assert split(profiled(model, step)) == (FIRST + SECOND, 0, FIRST, 0)

    def test_inference_has_forward_only(self, x: torch.Tensor) -> None:
        model = Two()
        with fr.Profiler(model) as profiler, torch.inference_mode():
            model(x)
        assert split(profiler.ledger) == (FIRST + SECOND, 0, 0, 0)

    def test_a_product_of_weights_is_a_gradient_of_weights(self, x: torch.Tensor) -> None:
        """A low-rank adapter merged into the weight: x @ (W + A @ B)."""
        w = nn.Parameter(torch.randn(4, 6), requires_grad=False)
        a, b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 6))
        ledger = profiled(None, lambda: (x @ (w + a @ b)).sum().backward())
        merge, apply = 2 * 4 * 2 * 6, 2 * ROWS * 4 * 6
        assert split(ledger) == (merge + apply, 0, 2 * merge + apply, 0)

    def test_an_adapter_beside_a_frozen_layer(self, x: torch.Tensor) -> None:
        class Adapted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.frozen = nn.Linear(4, 6).requires_grad_(False)
                self.down = nn.Linear(4, 2, bias=False)
                self.up = nn.Linear(2, 6, bias=False)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.frozen(x) + self.up(self.down(x))

        model = Adapted()
        ledger = profiled(model, lambda: model(x).sum().backward())
        down, up = 2 * ROWS * 4 * 2, 2 * ROWS * 2 * 6
        assert split(ledger) == (FIRST + down + up, up, down + up, 0)


class TestAttribution:
    """Which layer a backward operator belongs to."""

    def test_functional_work_belongs_to_the_module_that_called_it(self, x: torch.Tensor) -> None:
        model = Two()
        layers = by_name(profiled(model, lambda: model(x).sum().backward()))
        assert layers[""].elementwise_forward == ROWS * 6  # the ReLU
        assert layers[""].elementwise_backward == ROWS * 6

    def test_a_module_called_twice_has_one_row_of_figures(self) -> None:
        layer = nn.Linear(6, 6)
        model = nn.Sequential(layer, nn.ReLU(), layer)
        x = torch.randn(ROWS, 6)
        ledger = profiled(model, lambda: model(x).sum().backward())
        figures = by_name(ledger)["0"]
        assert (figures.forward, figures.grad_input) == (2 * SECOND, SECOND)
        assert figures.grad_weight == 2 * SECOND
        assert figures.parameters == 42

    def test_tied_parameters_count_once(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed = nn.Embedding(10, 6)
                self.head = nn.Linear(6, 10, bias=False)
                self.head.weight = self.embed.weight

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                return self.head(self.embed(ids))

        model, ids = Tied(), torch.zeros(ROWS, dtype=torch.long)
        ledger = profiled(model, lambda: model(ids).sum().backward())
        head = by_name(ledger)["head"]
        assert head.ratio == 2.0  # its input comes from the embedding, which trains
        assert ledger.totals.parameters == 60

    def test_every_backward_row_names_its_autograd_node(self, x: torch.Tensor) -> None:
        model = Two()
        ledger = profiled(model, lambda: model(x).sum().backward())
        products = [row for row in ledger.rows if row.op == "aten.mm"]
        assert {row.autograd for row in products} == {"AddmmBackward0"}
        # The first layer has one product, the second two: input, then weight.
        assert [(row.layer, row.phase) for row in products] == [
            ("second", "grad_input"),
            ("second", "grad_weight"),
            ("first", "grad_weight"),
        ]
        assert "TBackward0" in {row.autograd for row in ledger.rows}

    def test_an_in_place_operator_whose_old_value_is_cloned(self) -> None:
        model = nn.Sequential(nn.Linear(4, 6), nn.SiLU(inplace=True))
        x = torch.randn(ROWS, 4)
        ledger = profiled(model, lambda: model(x).sum().backward())
        backward = [row for row in ledger.rows if row.op == "aten.silu_backward"]
        assert [row.layer for row in backward] == ["1"]

    def test_custom_functions(self) -> None:
        class Product(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(a, b)
                return a @ b

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                a, b = ctx.saved_tensors
                return grad @ b.t(), a.t() @ grad

        a, b = torch.randn(5, 5, requires_grad=True), nn.Parameter(torch.randn(5, 5))
        ledger = profiled(None, lambda: Product.apply(a, b).sum().backward())
        # 3 products of 2 * 5 * 5 * 5 = 250.
        assert split(ledger) == (250, 250, 250, 0)

    def test_einsum_views_and_in_place_operators(self) -> None:
        w = nn.Parameter(torch.randn(3, 4, 5))
        x = torch.randn(2, 3, 4)

        def step() -> None:
            y = torch.einsum("bhi,hio->bho", x, w)
            y.reshape(-1)[:10].mul(2).relu_().sum().backward()

        product = 2 * 2 * 3 * 4 * 5
        assert split(profiled(None, step)) == (product, 0, product, 0)

    def test_gradients_that_are_added_up_belong_to_where_they_come_from(self) -> None:
        layer = nn.Linear(6, 6, bias=False)
        x = torch.randn(ROWS, 6, requires_grad=True)
        ledger = profiled(layer, lambda: (layer(x) + layer(layer(x))).sum().backward())
        sums = [row for row in ledger.rows if row.op == "aten.add" and row.autograd]
        assert {row.layer for row in sums} == {""}


class TestWholeSteps:
    def test_accumulated_micro_batches_and_the_update(self, x: torch.Tensor) -> None:
        model = Two()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

        def step() -> None:
            for _ in range(3):
                model(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

        ledger = profiled(model, step)
        assert ledger.totals.forward == 3 * (FIRST + SECOND)
        parameters = sum(p.numel() for p in model.parameters())
        assert ledger.totals.update == 2 * parameters
        accumulated = [row for row in ledger.rows if row.autograd == "AccumulateGrad"]
        # Two further micro-batches add their gradients to the first one's.
        assert sum(row.elementwise for row in accumulated) == 2 * parameters

    def test_an_update_that_makes_tensors_from_numbers(self, x: torch.Tensor) -> None:
        class WithNoise(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                torch.eye(3)
                super().step(closure)

        model = Two()
        optimizer = WithNoise(model.parameters())

        def step() -> None:
            model(x).sum().backward()
            optimizer.step()

        ledger = profiled(model, step)
        assert ledger.totals.update == 2 * sum(p.numel() for p in model.parameters())

    def test_gradient_clipping_is_update(self, x: torch.Tensor) -> None:
        model = Two()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

        def step() -> None:
            model(x).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
            optimizer.step()

        ledger = profiled(model, step)
        parameters = sum(p.numel() for p in model.parameters())
        # Beyond SGD: the norm (square and add: 2) and the scaling (1), and some scalars.
        assert ledger.totals.update > 5 * parameters
        assert {row.phase for row in ledger.rows if "norm" in row.op} == {"update"}

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_products_of_a_checkpoint_belong_to_the_module_that_calls_it(
        self, reentrant: bool, x: torch.Tensor
    ) -> None:
        class Checkpointed(Two):
            def attend(self, x: torch.Tensor) -> torch.Tensor:
                x = self.second(x)
                return functional.scaled_dot_product_attention(x, x, x)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return checkpoint(self.attend, self.first(x), use_reentrant=reentrant)

        model = Checkpointed()
        ledger = profiled(model, lambda: model(x).sum().backward())
        attention = 2 * 2 * ROWS * ROWS * 6  # Q K^T and P V
        assert by_name(ledger)[""].grad_input == 2 * attention

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_checkpointing_leaves_the_model_flops_and_shows_recompute(
        self, reentrant: bool
    ) -> None:
        class Checkpointed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first = nn.Linear(4, 6)
                self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return checkpoint(self.block, self.first(x), use_reentrant=reentrant)

        model, x = Checkpointed(), torch.randn(ROWS, 4)
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (
            FIRST + 2 * SECOND,
            2 * SECOND,
            FIRST + 2 * SECOND,
            2 * SECOND,  # the block again
        )
        assert by_name(ledger)["block.2"].recompute == SECOND

    def test_autocast_splits_as_without(self, x: torch.Tensor) -> None:
        model = Two()

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(x).sum()
            loss.backward()

        assert split(profiled(model, step)) == (FIRST + SECOND, SECOND, FIRST + SECOND, 0)

    def test_second_order_gradients(self) -> None:
        """One linear layer and tanh: 1 forward product, 3 in the two backwards (FACTS)."""
        w = nn.Parameter(torch.randn(4, 6))
        x = torch.randn(ROWS, 4, requires_grad=True)

        def step() -> None:
            y = torch.tanh(x @ w).sum()
            (grad,) = torch.autograd.grad(y, x, create_graph=True)
            grad.pow(2).sum().backward()

        with fr.Profiler() as profiler:
            step()
        total = profiler.ledger.totals
        assert total.forward == FIRST
        assert total.recompute == 0
        # The first backward: grad_x. The second, through it: the two operands of that product, and
        # w (and x, a leaf) of the forward one.
        assert total.backward == 5 * FIRST

    def test_a_fused_lstm_splits_as_its_cells_do(self) -> None:
        """5 steps of 2 examples, 4 gates of 16 units: 2 * 10 * 64 * (8 + 16) forward and for the
        weights; through the hidden state 2 * 8 * 64 * 16, but for the first step's constant. The
        kernel also computes the gradients of x and of that constant, which nobody asked for."""
        model, x = nn.LSTM(8, 16, batch_first=True), torch.randn(2, 5, 8)
        ledger = profiled(model, lambda: model(x)[0].sum().backward())
        assert split(ledger) == (30_720, 16_384, 30_720, 2 * 10 * 64 * 8 + 2 * 2 * 64 * 16)

    def test_convolutions_and_embeddings(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Conv2d(4, 4, 3, groups=4))
        x = torch.randn(2, 3, 8, 8)
        ledger = profiled(model, lambda: model(x).sum().backward())
        first, grouped = 2 * 2 * 6 * 6 * 4 * 3 * 9, 2 * 2 * 4 * 4 * 4 * 1 * 9
        assert split(ledger) == (first + grouped, grouped, first + grouped, 0)


class TestTheLedger:
    def test_within_the_block_it_is_of_what_has_run_so_far(self, x: torch.Tensor) -> None:
        model = Two()
        with fr.Profiler(model) as profiler:
            model(x).sum().backward()
            first = profiler.ledger
            model(x).sum().backward()
        assert profiler.ledger.totals.forward == 2 * first.totals.forward
        assert 0 < first.memory.peak <= profiler.ledger.memory.peak

    def test_it_goes_to_another_process(self, x: torch.Tensor) -> None:
        model = Two()
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert pickle.loads(pickle.dumps(ledger)) == ledger

    def test_it_is_a_dict_of_plain_values(self, x: torch.Tensor) -> None:
        model = Two()
        ledger = profiled(model, lambda: model(x).sum().backward())
        values = asdict(ledger)
        assert values["rows"] == ledger.rows
        assert values["memory"] == dict(ledger.memory)
        assert values["analytic"]["forward"] == FIRST + SECOND


REPLACED = (
    nn.Module,
    torch._C.ScriptFunction,
    torch._C.ScriptMethod,
    torch._dynamo.eval_frame,
    torch.autograd,
    torch.autograd.Function,
    torch.autograd.graph,
    torch.autograd.graph.saved_tensors_hooks,
    torch.autograd.forward_ad,
    torch.autograd.function.BackwardCFunction,
    torch.autograd.profiler,
    torch.utils.checkpoint,
    torch._ops.HigherOrderOperator,
    torch.fx.experimental.proxy_tensor._MakefxTracer,
    torch,
    ShardingPropagator,
)
"""Whose attributes the profiler replaces while it watches."""


class TestNothingIsLeftBehind:
    def state(self) -> dict[str, Any]:
        """All that a profiler changes while it watches, and all that a step must find as it was."""
        from torch.utils._python_dispatch import _get_current_dispatch_mode

        return {
            **{
                f"{owner.__name__}.{name}": value
                for owner in REPLACED
                for name, value in vars(owner).items()
                if callable(value) or isinstance(value, property | classmethod | staticmethod)
                if not name.startswith("__") or name in ("__call__", "__enter__", "__exit__")
            },
            "dispatch modes": _get_current_dispatch_mode(),
            "hooks on saved tensors": torch._C._autograd._top_saved_tensors_default_hooks(False),
            "hooks before updates": list(_global_optimizer_pre_hooks.values()),
            "hooks after updates": list(_global_optimizer_post_hooks.values()),
            "gradients": torch.is_grad_enabled(),
            "autocast": torch.is_autocast_enabled("cpu"),
            "compiler": torch._dynamo.eval_frame._stance.stance,
            "script compiler": torch._C._get_graph_executor_optimize(),
        }

    def test_the_state_is_all_that_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replaced: list[tuple[Any, str]] = []
        plain = patches.replaced

        def noted(owner: Any, name: str, replacement: Any) -> Any:
            replaced.append((owner, name))
            return plain(owner, name, replacement)

        monkeypatch.setattr(patches, "replaced", noted)
        before = self.state()
        with fr.Profiler(Two()):
            within = self.state()
        # What is inherited is not there before.
        changed = {name for name in within if within[name] != before.get(name)}
        assert {f"{owner.__name__}.{name}" for owner, name in replaced} <= changed
        assert changed - {f"{owner.__name__}.{name}" for owner, name in replaced} == {
            "dispatch modes",
            "hooks on saved tensors",
            "hooks before updates",
            "hooks after updates",
            "compiler",
            "script compiler",
        }

    def test_after_entering_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise ZeroDivisionError

        before = self.state()
        with monkeypatch.context() as patch:
            patch.setattr(patches, "function_transforms", refuse)
            with pytest.raises(ZeroDivisionError):
                fr.Profiler(Two()).__enter__()
        assert self.state() == before

    def test_modules_gradients_and_modes(self, x: torch.Tensor) -> None:
        model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.BatchNorm1d(6)).eval()
        model[0].weight.requires_grad_(False)
        model[0].bias.grad = torch.ones(6)
        before = [vars(module).keys() for module in model.modules()]
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        random = torch.get_rng_state()
        with fr.Profiler(model):
            model(x)
        assert torch.equal(torch.get_rng_state(), random)
        assert [vars(module).keys() for module in model.modules()] == before
        after = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
        assert after == hooks
        assert not any(module.training for module in model.modules())
        assert not model[0].weight.requires_grad
        assert torch.equal(model[0].bias.grad, torch.ones(6))
        assert all(torch.equal(buffers[name], buffer) for name, buffer in model.named_buffers())

    def test_after_a_step(self, x: torch.Tensor) -> None:
        before = self.state()
        model = Two()
        profiled(model, lambda: model(x).sum().backward())
        assert self.state() == before

    def test_after_an_exception(self, x: torch.Tensor) -> None:
        before = self.state()
        model = Two()

        def step() -> None:
            model(x).sum().backward()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            profiled(model, step)
        assert self.state() == before

    def test_after_steps_in_several_threads(self, x: torch.Tensor) -> None:
        import threading

        before = self.state()
        ledgers: list[fr.Ledger] = []

        def count() -> None:
            for _ in range(4):
                ledgers.append(fr.count(Two(), x, loss="sum", amp="bf16"))

        threads = [threading.Thread(target=count) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledgers) == 12
        assert all(ledger.memory == ledgers[0].memory for ledger in ledgers)
        assert self.state() == before

    def test_memory_is_released(self, x: torch.Tensor) -> None:
        import weakref

        model = Two()
        with fr.Profiler(model):
            out = model(x)
            alive = weakref.ref(out.untyped_storage())
            out.sum().backward()
            del out
        assert alive() is None


class TestFunctionsWithinFunctions:
    """A user's function may call another, and choose by values on the way: one node stands for all
    of it."""

    def test_products_before_and_after_a_function_within(self, x: torch.Tensor) -> None:
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
                return grad * 2 * ctx.saved_tensors[0]

        class Outer(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, weight)
                (x.detach() @ weight).argmax()  # a choice: no gradient comes back through it
                Square.apply(x)
                return x @ weight

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                x, weight = ctx.saved_tensors
                return grad @ weight.t(), x.t() @ grad

        model = Two()
        ledger = profiled(
            model, lambda: Outer.apply(model.first(x), model.second.weight).sum().backward()
        )
        assert split(ledger) == (FIRST + 2 * SECOND, SECOND, SECOND + FIRST, 0)


class TestModulesOutsideOfTheModel:
    """Named by their classes, what they hold by the paths in them; each instance is a layer."""

    def test_two_of_one_class_are_two_layers(self, x: torch.Tensor) -> None:
        first, second = nn.Linear(4, 6), nn.Linear(6, 6)
        layers = by_name(profiled(None, lambda: second(first(x)).sum().backward()))
        assert (layers["Linear"].ratio, layers["Linear#2"].ratio) == (1.0, 2.0)
        assert (layers["Linear"].forward, layers["Linear#2"].forward) == (FIRST, SECOND)
        assert (layers["Linear"].parameters, layers["Linear#2"].parameters) == (30, 42)

    def test_one_that_is_called_twice_is_one_layer(self) -> None:
        layer, x = nn.Linear(6, 6), torch.randn(ROWS, 6)
        layers = by_name(profiled(None, lambda: layer(layer(x)).sum().backward()))
        assert layers["Linear"].forward == 2 * SECOND
        assert "Linear#2" not in layers

    def test_what_they_hold_has_the_paths_in_them(self, x: torch.Tensor) -> None:
        generator, critic = Two(), nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        again = Two()

        def step() -> None:
            critic(generator(x)).sum().backward()
            again(x).sum().backward()

        ledger = profiled(None, step)
        layers = by_name(ledger)
        assert {name for name in layers if name != "(step)"} == {
            *("Two", "Two.first", "Two.second"),
            *("Sequential.0", "Sequential.1", "Sequential.2"),
            *("Two#2", "Two#2.first", "Two#2.second"),
        }
        assert layers["Two.second"].grad_input == SECOND
        assert ledger.totals.parameters == 2 * 72 + 2 * 42

    def test_those_that_a_module_calls_and_does_not_hold(self, x: torch.Tensor) -> None:
        class Lists(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = [nn.Linear(4, 6), nn.Linear(6, 6)]  # which hides them

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                for layer in self.layers:
                    x = nn.ReLU()(layer(x))  # a new one each time
                return x

        model = nn.Sequential(Lists())
        layers = by_name(profiled(model, lambda: model(x).sum().backward()))
        assert layers["0.Linear#2"].forward == SECOND
        # The modules that are made on the way don't live side by side: they are one layer.
        assert layers["0.ReLU"].elementwise_forward == 2 * ROWS * 6

    def test_a_name_of_the_model_stays_its_own(self, x: torch.Tensor) -> None:
        model, other = nn.ModuleDict({"Linear": nn.Linear(4, 6)}), nn.Linear(6, 6)
        layers = by_name(profiled(model, lambda: other(model["Linear"](x)).sum().backward()))
        assert (layers["Linear"].forward, layers["Linear#2"].forward) == (FIRST, SECOND)


class TestParameters:
    """What is trained: its gradients are grad_weight, and it is no saved activation."""

    def loss(self, x: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return ((x @ w).relu() @ v).sum()

    @pytest.fixture
    def w(self) -> torch.Tensor:
        return torch.randn(4, 6, requires_grad=True)

    @pytest.fixture
    def v(self) -> torch.Tensor:
        return torch.randn(6, 6, requires_grad=True)

    def test_every_leaf_where_there_is_no_module(
        self, x: torch.Tensor, w: torch.Tensor, v: torch.Tensor
    ) -> None:
        ledger = profiled(None, lambda: self.loss(x, w, v).backward())
        assert split(ledger) == (FIRST + SECOND, SECOND, FIRST + SECOND, 0)
        assert ledger.totals.parameters == 24 + 36
        memory = ledger.memory
        assert (memory.parameters, memory.gradients) == (4 * 60, 4 * 60)
        assert memory.inputs == 4 * ROWS * 4
        # x and the output of the ReLU.
        assert memory.saved_activations == 4 * ROWS * (4 + 6)

    def test_a_module_of_the_loss_is_none_that_tells(
        self, x: torch.Tensor, w: torch.Tensor
    ) -> None:
        target, criterion = torch.randn(ROWS, 6), nn.MSELoss()
        ledger = profiled(None, lambda: criterion(x @ w, target).backward())
        assert split(ledger) == (FIRST, 0, FIRST, 0)

    def test_those_that_are_named(self, w: torch.Tensor) -> None:
        x = torch.randn(ROWS, 4, requires_grad=True)
        with fr.Profiler(parameters=[w]) as profiler:
            (x @ w).sum().backward()
        assert split(profiler.ledger) == (FIRST, FIRST, FIRST, 0)
        assert profiler.ledger.totals.parameters == 24
        with fr.Profiler(parameters={"w": w}) as profiler:
            (x @ w).sum().backward()
        assert split(profiler.ledger) == (FIRST, FIRST, FIRST, 0)

    def test_beside_a_model(self, x: torch.Tensor) -> None:
        """A prompt that is trained in front of a model, by an optimizer or because it is said."""
        model, prompt = Two(), torch.randn(ROWS, 4, requires_grad=True)
        optimizer = torch.optim.SGD([prompt], lr=0.1, foreach=False)

        def backward() -> None:
            model(x + prompt).sum().backward()

        def step() -> None:
            backward()
            optimizer.step()

        as_input = profiled(model, backward)
        assert split(as_input) == (FIRST + SECOND, FIRST + SECOND, FIRST + SECOND, 0)
        assert as_input.totals.parameters == 72
        sums = [row for row in profiled(model, backward).rows if row.autograd == "AccumulateGrad"]
        assert "grad_input" in {row.phase for row in sums}
        held = profiled(model, step)
        assert held.totals.parameters == 72 + ROWS * 4
        assert held.totals.update == 2 * ROWS * 4
        sums = [row for row in held.rows if row.autograd == "AccumulateGrad"]
        assert {row.phase for row in sums} == {"grad_weight"}

    def test_those_of_an_optimizer_that_steps(self, w: torch.Tensor) -> None:
        x = torch.randn(ROWS, 4, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1, foreach=False)

        def step() -> None:
            (x @ w).sum().backward()
            optimizer.step()

        ledger = profiled(None, step)
        assert split(ledger) == (FIRST, FIRST, FIRST, 0)
        assert (ledger.totals.parameters, ledger.totals.update) == (24, 2 * 24)
        assert ledger.memory.parameters == 4 * 24

    def test_inputs_of_a_model_stay_inputs(self) -> None:
        model, x = Two(), torch.randn(ROWS, 4, requires_grad=True)
        expected = (FIRST + SECOND, FIRST + SECOND, FIRST + SECOND, 0)
        assert split(profiled(model, lambda: model(x).sum().backward())) == expected
        assert split(profiled(None, lambda: model(x).sum().backward())) == expected

    def test_leaves_that_autograd_grad_is_asked_for(
        self, x: torch.Tensor, w: torch.Tensor, v: torch.Tensor
    ) -> None:
        ledger = profiled(None, lambda: torch.autograd.grad(self.loss(x, w, v), [w, v]))
        assert split(ledger) == (FIRST + SECOND, SECOND, FIRST + SECOND, 0)

    def test_leaves_that_are_made_in_the_block(self, x: torch.Tensor) -> None:
        def step() -> None:
            w = torch.randn(4, 6, requires_grad=True)
            (x @ w).sum().backward()

        ledger = profiled(None, step)
        assert split(ledger) == (FIRST, 0, FIRST, 0)
        assert ledger.memory.parameters == 4 * 24

    @pytest.mark.parametrize("wrong", [torch.zeros(3), [1], "w", 3, {"w": 1}])
    def test_what_is_no_list_of_tensors_is_told(self, wrong: Any) -> None:
        with pytest.raises(fr.UsageError, match=r"should be tensors, as in \[W, b\], not"):
            fr.Profiler(parameters=wrong)


class TestLazyModules:
    """Their parameters are made in the forward that is watched."""

    def lazy(self) -> nn.Sequential:
        return nn.Sequential(
            nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        )

    def step(self, model: nn.Module, x: torch.Tensor) -> None:
        model(x).sum().backward()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.step()

    @pytest.mark.parametrize("told", [True, False])
    def test_the_first_step_is_as_the_second(self, told: bool) -> None:
        x = torch.randn(2, 3, 8, 8)
        model = self.lazy()
        profiler = fr.Profiler(model if told else None)
        with profiler:
            self.step(model, x)
        first = profiler.ledger
        model.zero_grad()
        with fr.Profiler(model if told else None) as again:
            self.step(model, x)
        second = again.ledger
        assert first.reconciled is True
        assert first.parameters == second.parameters
        assert sum(first.parameters.values()) == 4 * 27 + 4 + 2 * 4 + 144 * 3 + 3
        assert first.totals.backward == second.totals.backward
        assert first.totals.update == second.totals.update
        assert first.totals.saved_bytes == second.totals.saved_bytes
        assert first.saved_mismatches == []
        figures = ("forward", "grad_input", "grad_weight", "saved_bytes")
        for one, other in zip(first.layers(), second.layers(), strict=True):
            assert all(getattr(one, name) == getattr(other, name) for name in figures)
        owned = sum(p.numel() * p.itemsize for p in model.parameters())
        assert first.memory["parameters"] == owned
        assert first.memory["buffers"] == sum(b.nbytes for b in model.buffers())

    def test_one_that_is_never_called_has_no_parameters(self) -> None:
        model = nn.ModuleList([nn.Linear(4, 3), nn.LazyLinear(3)])
        with fr.Profiler(model) as profiler:
            model[0](torch.randn(2, 4)).sum().backward()
        assert profiler.ledger.reconciled is True
        assert profiler.ledger.parameters["1"] == 0
        assert isinstance(model[1].weight, nn.UninitializedParameter)


# -- what the ledger says of itself ----------------------------------------------------------------


def test_the_ledger_tells_what_was_counted_and_how() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with fr.Profiler(model, target="cpu", causal="half") as p:
        model(torch.ones(2, 4)).sum().backward()
    assert p.ledger.model == "Sequential"
    assert p.ledger.convention == {
        "flop_per_mac": 2,
        "causal": "half",
        "target": "cpu",
        "attention": "none",
        "device": "cpu",
    }
    assert p.ledger.versions.keys() >= {"flopratio", "python", "torch"}


def test_tensors_without_values_are_on_no_device() -> None:
    model = nn.Linear(4, 3, device="meta")
    with fr.Profiler(model) as p:
        model(torch.ones(2, 4, device="meta")).sum().backward()
    assert p.ledger.convention["device"] == "fake"


def test_a_step_without_a_model_has_no_name() -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    with fr.Profiler() as p:
        (torch.ones(2, 3) @ weight).sum().backward()
    assert p.ledger.model == ""
    assert p.ledger.convention["device"] == "cpu"
