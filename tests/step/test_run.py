"""The one runner: what it does on real tensors and on fake ones, and what it leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from torch import nn

from flopratio.errors import UsageError
from flopratio.models import Inputs
from flopratio.models.built import example_of
from flopratio.networks.library import describe
from flopratio.step.network import network_step
from flopratio.step.options import StepOptions
from flopratio.step.run import Step
from flopratio.torch_private import FakeTensor


class Witness:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def layer(self, name: str, kind: str = "") -> Iterator[None]:
        self.seen.append(f"layer {name}")
        yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.seen.append("paused")
        yield
        self.seen.append("resumed")


class Everything(nn.Module):
    """What could be left changed: modes, gradients, ``requires_grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
        self.body[1].eval()
        self.head = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.grad_mode = torch.is_grad_enabled()
        self.in_training = [module.training for module in self.modules()]
        return self.head(self.body(x))


def step_of(module: nn.Module, **options: Any) -> Step:
    return Step.of_module(module, torch.ones(2, 4), StepOptions(**options))


def state_of(module: nn.Module, x: torch.Tensor) -> list[Any]:
    leaves = [*module.parameters(), x]
    return [
        [id(leaf.grad) for leaf in leaves],
        [leaf.requires_grad for leaf in leaves],
        [submodule.training for submodule in module.modules()],
        [vars(submodule).get("forward") for submodule in module.modules()],
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.backends.cuda.flash_sdp_enabled(),
    ]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"optimizer": "adam", "freeze": "body.0", "input_grad": True},
    {"checkpoint": "body", "amp": "bf16", "accumulate": 2},
    {"checkpoint": "auto", "attention": "math"},
    {"inference": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("fails", [False, True])
def test_the_module_and_its_inputs_are_left_as_they_were(
    options: dict[str, Any], fails: bool
) -> None:
    module = Everything()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step = step_of(module, loss="sum", **options)
    (x,) = step.inputs.tensors
    before = state_of(module, x)
    with suppress(KeyError), step.prepared() as prepared:
        prepared.run()
        assert state_of(module, x) != before
        if fails:
            raise KeyError
    assert state_of(module, x) == before


def test_the_step_is_the_one_that_a_loop_of_ones_own_takes() -> None:
    """GIVEN momentum, THEN two steps move parameters as two of a plain loop do, the first being the
    one that is not watched."""
    torch.manual_seed(0)
    module, twin = nn.Linear(4, 3), nn.Linear(4, 3)
    twin.load_state_dict(module.state_dict())
    step = step_of(module, loss="mse", optimizer="momentum")
    with step.prepared(lr=0.1) as prepared:
        loss = prepared.run()
    own = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    expected = twin(torch.ones(2, 4)).square().mean()
    expected.backward()
    own.step()
    own.step()
    assert torch.equal(loss, expected)
    for parameter, other in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, other)


def test_micro_batches_come_before_one_update() -> None:
    module = Everything()
    updates: list[float] = []
    with step_of(module, loss="sum", optimizer="sgd", accumulate=3).prepared() as prepared:
        assert prepared.optimizer is not None
        prepared.optimizer.register_step_post_hook(
            lambda *_: updates.append(float(module.head.bias.grad.sum()))
        )
        prepared.run()
        assert module.calls == 3
        assert updates == [3 * 2 * 3] * 2  # micro-batches, examples, outputs
        prepared.clear()
        prepared.run()
    assert len(updates) == 3  # its state is there


def test_the_observer_is_told_of_the_loss_and_of_what_is_not_of_the_step() -> None:
    witness = Witness()
    with step_of(Everything(), loss="sum", optimizer="adam").prepared(witness) as prepared:
        prepared.run()
    assert witness.seen == ["layer loss", "paused", "resumed"]
    witness = Witness()
    with step_of(Everything(), loss="sum", checkpoint="body").prepared(witness) as prepared:
        prepared.run()
    assert witness.seen == ["layer body", "layer loss", "layer body"]


def test_an_inference_is_a_forward_in_eval_mode_without_a_graph() -> None:
    module = Everything()
    witness = Witness()
    step = step_of(module, inference=True)
    with step.prepared(witness) as prepared:
        output = prepared.run()
    assert output.shape == (2, 3)
    assert not output.requires_grad
    assert not module.grad_mode
    assert not any(module.in_training)
    assert witness.seen == []


def test_phases_can_run_apart_and_on_other_inputs() -> None:
    step = step_of(nn.Linear(4, 3, bias=False), loss="sum", optimizer="sgd")
    with step.prepared(lr=0.5) as prepared:
        loss = prepared.forward(Inputs((2 * torch.ones(5, 4),)))
        loss.backward()
        before = step.module.weight.detach().clone()
        prepared.update()
        assert torch.equal(step.module.weight, before - 0.5 * 10)
        assert prepared.output().shape == (2, 3)


@pytest.mark.parametrize(
    "batch", [torch.ones(2, 4), (torch.ones(2, 4),), {"input": torch.ones(2, 4)}]
)
def test_a_batch_may_be_a_tensor_a_tuple_or_a_dict(batch: Any) -> None:
    with Step.of_module(nn.Linear(4, 3), batch).prepared() as prepared:
        assert prepared.output().shape == (2, 3)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_built_in_networks_step(device: str | None) -> None:
    network = describe("mlp", depth=1, batch=2, width=3, input=4, loss="mse")
    step = network_step(network, StepOptions(dtype="float64"), device)
    with step.prepared() as prepared:
        loss = prepared.run()
        assert all(p.grad is not None for p in step.module.parameters())
    assert loss.dtype is torch.float64
    assert isinstance(loss, FakeTensor) is (device is None)
    assert step.names.keys() == {"loss"}
    assert torch.get_default_dtype() is torch.float32


def test_a_function_takes_the_place_of_a_networks_loss() -> None:
    network = describe("mlp", depth=1, batch=2, width=3, input=4)
    step = network_step(network, StepOptions(loss=lambda output: 0 * output.sum() + 7), "cpu")
    with step.prepared() as prepared:
        assert prepared.run().item() == 7


@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_fake_tensors_run_the_targets_kernels_and_real_ones_their_devices(target: str) -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    x = torch.ones(1, 2, 8, 8, requires_grad=True)
    options = StepOptions(target=target)
    nodes = []
    for step in (
        Step(example_of(Attention(), x), options),
        Step.of_module(Attention(), x, options),
    ):
        with step.prepared() as prepared:
            nodes.append(prepared.output().grad_fn.name())
    on_cpu = "ScaledDotProductFlashAttentionForCpuBackward0"
    assert nodes[1] == on_cpu
    assert (nodes[0] == on_cpu) is (target == "cpu")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"freeze": "nothing"}, "matches no module or parameter"),
        ({"freeze": "*"}, "leaves nothing to train"),
        ({"checkpoint": "nothing"}, "matches no module"),
        ({"loss": lambda output: output}, "should be a scalar, not of shape"),
        ({"loss": lambda output: 3}, "should be a scalar tensor, not int"),
        ({"loss": lambda output: output.detach().sum()}, "needs no gradient"),
        ({"loss": lambda output, target: output}, "put the target into a function of it"),
    ],
)
def test_what_can_not_run_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with (
        pytest.raises(UsageError, match=sentence) as caught,
        step_of(Everything(), **options).prepared() as prepared,
    ):
        prepared.run()
    assert "\n" not in str(caught.value)


def test_a_failing_forward_is_one_sentence_and_memory_that_runs_out_is_not() -> None:
    class Fails(nn.Module):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise self.error

    with (
        pytest.raises(UsageError, match="the model failed on input 0 of 2x4: ValueError: why"),
        step_of(Fails(ValueError("why"))).prepared() as prepared,
    ):
        prepared.run()
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        with (
            pytest.raises(type(error)),
            step_of(Fails(error)).prepared() as prepared,
        ):
            prepared.run()
