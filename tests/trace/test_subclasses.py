"""Tensor subclasses: what they call is counted, each figure beside its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.testing._internal.logging_tensor import LoggingTensor
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.trace.subclasses import inner_tensors, takes_itself_apart


def profiled(model: nn.Module | None, step: Callable[[], Any]) -> fr.Ledger:
    with fr.Profiler(model) as profiler:
        step()
    return profiler.ledger


def split(ledger: fr.Ledger) -> tuple[int, int, int, int]:
    total = ledger.totals
    return total.forward, total.grad_input, total.grad_weight, total.recompute


def by_name(ledger: fr.Ledger) -> dict[str, Any]:
    return {layer.name: layer for layer in ledger.layers()}


class Widened(nn.Module):
    """256 -> 512 -> 256 -> 10."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(256, 512)
        self.down = nn.Linear(512, 256)
        self.head = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(functional.relu(self.down(functional.relu(self.up(x)))))


ROWS, RANKS = 16, 8
UP = DOWN = 2 * ROWS * 256 * 512 // RANKS  # 524,288: a rank has 64 of the 512
HEAD = 2 * ROWS * 256 * 10  # 81,920: each rank has all of it


@pytest.fixture
def mesh() -> Iterator[Any]:
    """Eight ranks, of which this process is the first; the others are not there."""
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=RANKS)
    try:
        yield distributed.device_mesh.init_device_mesh("cpu", (RANKS,))
    finally:
        distributed.destroy_process_group()


def tensor_parallel(mesh: Any) -> nn.Module:
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    return parallelize_module(Widened(), mesh, plan)


class TestDTensor:
    def test_tensor_parallel_is_what_one_rank_does(self, mesh: Any) -> None:
        model = tensor_parallel(mesh)
        x = torch.randn(ROWS, 256)
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert UP + DOWN + HEAD == 1_130_496
        assert split(ledger) == (1_130_496, DOWN + HEAD, 1_130_496, 0)
        assert ledger.mismatches == []
        layers = by_name(ledger)
        assert (layers["up"].ratio, layers["down"].ratio, layers["head"].ratio) == (1, 2, 2)

    def test_the_first_call_is_as_the_second(self, mesh: Any) -> None:
        """The first one works out how its operators are sharded, on fake tensors."""
        model = tensor_parallel(mesh)
        x = torch.randn(ROWS + 1, 256)  # of no other test

        def step() -> None:
            model.zero_grad()
            model(x).sum().backward()

        first, second = (profiled(model, step) for _ in range(2))
        assert len(first.rows) == len(second.rows)
        assert split(first) == split(second)

    def test_parameters_saved_bytes_and_gradients_of_one_rank(self, mesh: Any) -> None:
        model = tensor_parallel(mesh)
        x = torch.randn(ROWS, 256)
        ledger = profiled(model, lambda: model(x).sum().backward())
        up, down, head = 256 * 64 + 64, 64 * 256 + 256, 256 * 10 + 10
        assert [layer.parameters for layer in ledger.layers() if layer.parameters] == [
            *(up, down, head)
        ]
        assert ledger.memory["parameters"] == 4 * (up + down + head)
        assert ledger.memory["gradients"] == 4 * (up + down + head)
        # x; the output of the first ReLU, of this rank; that of the second.
        assert ledger.memory["saved_activations"] == 4 * ROWS * (256 + 64 + 256)
        assert ledger.saved_mismatches == []

    def test_gradients_are_as_without(self, mesh: Any) -> None:
        model = tensor_parallel(mesh)
        x = torch.randn(ROWS, 256)
        model(x).sum().backward()
        before = [parameter.grad for parameter in model.parameters()]
        model.zero_grad()
        profiled(model, lambda: model(x).sum().backward())
        for gradient, parameter in zip(before, model.parameters(), strict=True):
            # Their values are not compared: what the other ranks would send is not there.
            assert type(gradient) is type(parameter.grad)
            first, second = (inner_tensors(t)[0] for t in (gradient, parameter.grad))
            assert first.shape == second.shape

    def test_update(self, mesh: Any) -> None:
        model = tensor_parallel(mesh)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
        x = torch.randn(ROWS, 256)

        def step() -> None:
            model(x).sum().backward()
            optimizer.step()

        ledger = profiled(model, step)
        assert ledger.totals.update == 2 * sum(layer.parameters for layer in ledger.layers())

    @pytest.mark.parametrize("optimizer", ["none", "adamw"])
    def test_count(self, mesh: Any, optimizer: str) -> None:
        ledger = fr.count(tensor_parallel(mesh), torch.randn(ROWS, 256), optimizer=optimizer)
        assert split(ledger) == (1_130_496, DOWN + HEAD, 1_130_496, 0)
        assert ledger.mismatches == []

    def test_sequence_parallel_gathers_what_it_multiplies(self, mesh: Any) -> None:
        from torch.distributed.tensor import Replicate, Shard
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            PrepareModuleInput,
            RowwiseParallel,
            SequenceParallel,
            parallelize_module,
        )

        model = nn.Sequential(nn.LayerNorm(256), Widened())
        gathered = PrepareModuleInput(
            input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)
        )
        plan = {
            "0": SequenceParallel(),
            "1": gathered,
            "1.up": ColwiseParallel(),
            "1.down": RowwiseParallel(),
        }
        parallelize_module(model, mesh, plan)
        x = torch.randn(2, ROWS, 256)  # this rank's share of 2 sequences of 8 * 16
        ledger = profiled(model, lambda: model(x).sum().backward())
        rows = 2 * RANKS * ROWS
        layers = by_name(ledger)
        assert layers["1.up"].forward == 2 * rows * 256 * 64
        assert layers["1.head"].forward == 2 * rows * 256 * 10
        assert ledger.mismatches == []

    def test_work_that_every_rank_repeats_is_no_law(self, mesh: Any) -> None:
        """x [16, 64] @ w [64, 128], of which each rank has 8 rows: forward is a product over these
        8, and the gradient of w one over all the 64 on each rank."""
        from torch.distributed.tensor import Replicate, Shard, distribute_tensor

        weight = nn.Parameter(distribute_tensor(torch.randn(64, 128), mesh, [Shard(0)]))
        x = distribute_tensor(torch.randn(16, 64), mesh, [Replicate()])

        def step() -> None:
            (x @ weight).redistribute(mesh, [Replicate()]).to_local().sum().backward()

        ledger = profiled(None, step)
        assert split(ledger) == (2 * 16 * 8 * 128, 0, 2 * 16 * 64 * 128, 0)
        assert ledger.reconciled is False

    def test_fully_sharded_data_parallel(self, mesh: Any) -> None:
        fully_shard = pytest.importorskip("torch.distributed.fsdp").fully_shard
        model = Widened()
        for layer in (model.up, model.down, model.head, model):
            fully_shard(layer, mesh=mesh)
        x = torch.randn(ROWS, 256)
        ledger = profiled(model, lambda: model(x).sum().backward())
        # Each rank gathers all weights: eight times UP and DOWN.
        up = down = 8 * UP
        assert split(ledger) == (up + down + HEAD, down + HEAD, up + down + HEAD, 0)
        assert ledger.mismatches == []
        layers = by_name(ledger)
        assert (layers["up"].ratio, layers["down"].ratio, layers["head"].ratio) == (1, 2, 2)
        assert layers["up"].parameters == (256 * 512 + 512) // RANKS

    def test_parallel_loss(self, mesh: Any) -> None:
        from torch.distributed.tensor import Shard
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            loss_parallel,
            parallelize_module,
        )

        style = ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)
        head = parallelize_module(nn.Linear(64, 128), mesh, style)
        x, target = torch.randn(16, 64), torch.randint(128, (16,))

        def step() -> None:
            with loss_parallel():
                functional.cross_entropy(head(x), target).backward()

        ledger = profiled(head, step)
        assert split(ledger) == (2 * 16 * 64 * 16, 0, 2 * 16 * 64 * 16, 0)


def jagged() -> torch.Tensor:
    """Two sequences of 3 and 5."""
    return torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=torch.jagged)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 4))


# Of 3 + 5 rows.
FIRST, LAST = 2 * 8 * 8 * 16, 2 * 8 * 16 * 4


class TestNested:
    def test_jagged(self) -> None:
        model, x = mlp(), jagged()
        ledger = profiled(model, lambda: model(x).values().sum().backward())
        assert split(ledger) == (FIRST + LAST, LAST, FIRST + LAST, 0)
        assert ledger.reconciled is True
        assert ledger.uncounted_ops == {}
        assert ledger.saved_mismatches == []

    def test_jagged_on_fake_tensors(self) -> None:
        ledger = fr.count(mlp(), jagged(), loss=lambda output: output.values().sum())
        assert split(ledger) == (FIRST + LAST, LAST, FIRST + LAST, 0)
        assert ledger.reconciled is True

    def test_jagged_inference(self) -> None:
        model, x = mlp(), jagged()
        with fr.Profiler(model) as profiler, torch.inference_mode():
            model(x)
        assert profiler.ledger.totals.forward == FIRST + LAST

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_strided(self) -> None:
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        x = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)])
        ledger = profiled(model, lambda: model(x).to_padded_tensor(0.0).sum().backward())
        assert split(ledger) == (FIRST + LAST, LAST, FIRST + LAST, 0)
        assert ledger.reconciled is True
        assert ledger.uncounted_ops == {}
        assert ledger.saved_mismatches == []

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_an_encoder_with_padded_sequences(self, context: Callable[[], Any]) -> None:
        """It makes nested tensors of them. Of 4, 3 and 5 tokens the products with weights take 12
        rows; attention pads them to 5."""
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        model = nn.TransformerEncoder(layer, 2).eval()
        lengths = torch.tensor([4, 3, 5])
        padding = torch.arange(5) >= lengths[:, None]
        with context(), fr.Profiler(model) as profiler:
            model(torch.randn(3, 5, 16), src_key_padding_mask=padding)
        rows = 4 + 3 + 5
        weights = 2 * rows * 16 * (3 * 16 + 16 + 32 + 32)
        attention = 2 * 2 * 3 * 5 * 5 * 16
        assert profiler.ledger.totals.forward == 2 * (weights + attention)
        assert profiler.ledger.uncounted_ops == {}

    def test_an_encoder_on_fake_tensors(self) -> None:
        """Lengths are values: they stay padded, all 15 rows."""
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        model = nn.TransformerEncoder(layer, 1)
        batch = {"src": torch.randn(3, 5, 16), "src_key_padding_mask": torch.ones(3, 5).bool()}
        forward = 2 * 15 * 16 * (3 * 16 + 16 + 32 + 32) + 2 * 2 * 3 * 5 * 5 * 16
        trained = fr.count(model, batch)
        assert trained.totals.forward == forward
        assert trained.reconciled is True
        assert trained.memory["inference_peak"] > 0
        assert fr.count(model, batch, inference=True).totals.forward == forward

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_a_strided_one_can_not_be_fake(self) -> None:
        x = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)])
        with pytest.raises(fr.UsageError, match=r"layout=torch\.jagged"):
            fr.count(mlp(), x)


class Quantised(torch.Tensor):
    """A weight of 8-bit numbers and a factor a row, which is made a plain one when it is used."""

    @staticmethod
    def __new__(cls, numbers: torch.Tensor, scale: torch.Tensor) -> Any:
        wrapper = torch.Tensor._make_wrapper_subclass
        return wrapper(cls, numbers.shape, dtype=scale.dtype, device=scale.device)

    def __init__(self, numbers: torch.Tensor, scale: torch.Tensor) -> None:
        self.numbers, self.scale = numbers, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["numbers", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, inner: Any, *_: Any) -> Any:
        return cls(inner["numbers"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.t.default, torch.ops.aten.detach.default):
            return cls(func(args[0].numbers), func(args[0].scale))
        plain = [a.numbers * a.scale if isinstance(a, Quantised) else a for a in args]
        return func(*plain, **(kwargs or {}))


class Itself(torch.Tensor):
    """Its own data, with operators of its own."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs or {})


class Tagged(torch.Tensor):
    """With functions of its own, as images with labels have them."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


def quantised_layer(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    numbers = torch.randint(-5, 5, (outputs, inputs), dtype=torch.int8)
    weight = Quantised(numbers, torch.ones(outputs, 1))
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def two(*shape: int) -> TwoTensor:
    return TwoTensor(torch.randn(shape), torch.randn(shape))


class TestWrappers:
    def test_which_take_themselves_apart(self) -> None:
        kinds = (TwoTensor, LoggingTensor, Quantised, Itself)
        assert all(map(takes_itself_apart, kinds))
        assert not any(map(takes_itself_apart, (torch.Tensor, nn.Parameter, Tagged)))

    def test_what_they_hold(self) -> None:
        x = two(2, 3)
        assert [id(t) for t in inner_tensors(x)] == [id(x.a), id(x.b)]
        element = torch.randn(3)
        assert inner_tensors(LoggingTensor(element))[0] is element
        own = torch.randn(3).as_subclass(Itself)
        assert inner_tensors(own)[0] is own
        assert len(inner_tensors(TwoTensor(two(2), two(2)))) == 4

    def test_two_tensors_in_one_are_two_products(self) -> None:
        x, weight = two(5, 8), nn.Parameter(two(8, 4))
        ledger = profiled(None, lambda: (x @ weight).relu().sum().backward())
        assert split(ledger) == (2 * 320, 0, 2 * 320, 0)
        assert ledger.reconciled is True
        assert ledger.memory["parameters"] == ledger.memory["gradients"] == 2 * 4 * 8 * 4
        assert ledger.memory["saved_activations"] == 2 * 4 * (5 * 8 + 5 * 4)

    def test_four(self) -> None:
        x, weight = TwoTensor(two(5, 8), two(5, 8)), nn.Parameter(TwoTensor(two(8, 4), two(8, 4)))
        ledger = profiled(None, lambda: (x @ weight).relu().sum().backward())
        assert split(ledger) == (4 * 320, 0, 4 * 320, 0)

    def test_a_wrapper_that_names_no_parts(self) -> None:
        weight = LoggingTensor(torch.randn(8, 4), requires_grad=True)
        x, last = torch.randn(5, 8), torch.randn(4, 3)
        ledger = profiled(None, lambda: ((x @ weight).relu() @ last).sum().backward())
        # [5, 8] @ [8, 4] and [5, 4] @ [4, 3]; of the second only the input wants a gradient.
        assert ledger.totals.forward == 320 + 120
        assert ledger.totals.backward == 320 + 120
        assert ledger.reconciled is True
        assert weight.grad is not None

    def test_frozen_quantised_weights(self) -> None:
        model = nn.Sequential(quantised_layer(8, 16), nn.ReLU(), quantised_layer(16, 4))
        x = torch.randn(5, 8)
        first, second = 2 * 5 * 8 * 16, 2 * 5 * 16 * 4
        for ledger in (
            profiled(model, lambda: model(x).sum().backward()),
            fr.count(model, x, loss="sum"),
        ):
            assert split(ledger) == (first + second, second, 0, 0)
            assert ledger.reconciled is True
            # A byte a number, and 4 a factor and a bias.
            nbytes = 8 * 16 + 16 * 4 + 4 * 2 * (16 + 4)
            assert ledger.memory["parameters"] == nbytes

    def test_a_subclass_that_is_its_own_data(self) -> None:
        x = torch.randn(4, 3).as_subclass(Itself).requires_grad_()
        weight = torch.randn(3, 2)
        ledger = profiled(None, lambda: (x @ weight).exp().sum().backward())
        # [4, 3] @ [3, 2]; where there is no module, a leaf that wants a gradient is a parameter.
        assert split(ledger) == (48, 0, 48, 0)
        assert ledger.reconciled is True

    def test_functions_of_its_own(self) -> None:
        model, x = nn.Linear(3, 2), torch.randn(4, 3).as_subclass(Tagged)
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (48, 0, 48, 0)
        assert ledger.reconciled is True

    def test_images_with_labels(self) -> None:
        import_torchvision()
        from torchvision import tv_tensors

        model = nn.Conv2d(3, 4, 3)
        image = tv_tensors.Image(torch.randn(2, 3, 6, 6))
        ledger = profiled(model, lambda: model(image).sum().backward())
        product = 2 * 2 * 4 * 4 * 4 * 3 * 3 * 3
        assert split(ledger) == (product, 0, product, 0)

    @pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
    @pytest.mark.filterwarnings("ignore:It is not recommended to create a MaskedTensor")
    def test_masked(self) -> None:
        from torch.masked import masked_tensor

        x = masked_tensor(torch.randn(4, 3), torch.rand(4, 3) > 0.5, requires_grad=True)
        ledger = profiled(None, lambda: (x * 2).exp().sum().backward())
        assert ledger.mismatches == []
        assert ledger.totals.elementwise_forward >= 2 * 12
        assert x.grad is not None

    def test_parametrised_weights(self) -> None:
        class Symmetric(nn.Module):
            def forward(self, weight: torch.Tensor) -> torch.Tensor:
                return weight.triu() + weight.triu(1).T

        model, x = nn.Linear(3, 3), torch.randn(5, 3)
        parametrize.register_parametrization(model, "weight", Symmetric())
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (90, 0, 90, 0)
        assert ledger.reconciled is True

    def test_checkpointed(self) -> None:
        x, first, second = two(5, 8), nn.Parameter(two(8, 8)), nn.Parameter(two(8, 8))

        def block(x: torch.Tensor) -> Any:
            return ((x @ first).relu() @ second).relu()

        ledger = profiled(None, lambda: checkpoint(block, x, use_reentrant=False).sum().backward())
        product = 2 * (2 * 5 * 8 * 8)
        assert split(ledger) == (2 * product, product, 2 * product, 2 * product)
        assert ledger.reconciled is True

    def test_a_gradient_of_a_gradient(self) -> None:
        """As of plain tensors, twice."""
        x = torch.randn(5, 8)

        def step(weight: torch.Tensor) -> None:
            (gradient,) = torch.autograd.grad((x @ weight).tanh().sum(), weight, create_graph=True)
            (gradient * gradient).sum().backward()

        plain, wrapped = nn.Parameter(torch.randn(8, 8)), nn.Parameter(two(8, 8))
        once = profiled(None, lambda: step(plain))
        twice = profiled(None, lambda: step(wrapped))
        assert split(twice) == tuple(2 * figure for figure in split(once))
        assert twice.reconciled is True

    def test_one_of_two_gradients(self) -> None:
        x, weight = nn.Parameter(two(5, 8)), nn.Parameter(two(8, 4))
        ledger = profiled(None, lambda: torch.autograd.grad((x @ weight).sum(), [x]))
        assert (ledger.totals.forward, ledger.totals.backward) == (640, 640)
        assert ledger.reconciled is True

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_inference(self, context: Callable[[], Any]) -> None:
        model, x = quantised_layer(8, 4), torch.randn(5, 8)
        with context(), fr.Profiler(model) as profiler:
            model(x)
        assert profiler.ledger.totals.forward == 320

    def test_a_user_function_on_them(self) -> None:
        class Product(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, weight)
                return x @ weight

            @staticmethod
            def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
                x, weight = ctx.saved_tensors
                return gradients[0] @ weight.T, x.T @ gradients[0]

        x, weight = nn.Parameter(two(5, 8)), nn.Parameter(two(8, 4))
        ledger = profiled(None, lambda: Product.apply(x, weight).sum().backward())
        assert (ledger.totals.forward, ledger.totals.backward) == (640, 1280)
        assert ledger.reconciled is True
