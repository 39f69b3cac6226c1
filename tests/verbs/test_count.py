"""fr.count on modules: what is left behind, and what is refused in one sentence."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import flopratio as fr
from flopratio.errors import UsageError


def a_model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3))


def test_the_module_is_left_as_it_was() -> None:
    model, x = a_model(), torch.randn(4, 8)
    model[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    fr.count(model, x, loss="sum", optimizer="adam", freeze="3", input_grad=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not x.requires_grad


class Drops(nn.Module):
    """Layers of 2 * 3 * 4 * 4 = 96 FLOP on a batch of 3; about half of them are left out."""

    def __init__(self, draw: Callable[[], float], layers: int = 8) -> None:
        super().__init__()
        self.draw = draw
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(layers)
        )
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self.layers:
            if self.draw() < 0.5:
                x = layer(x)
        return self.head(x)


DRAWS = {
    "torch": lambda: torch.rand([]).item(),
    "python": random.random,
    "numpy": lambda: np.random.rand(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_model_that_draws_its_way_goes_the_same_one_each_time(draw: Any) -> None:
    model, x = Drops(draw), torch.randn(3, 4)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    forwards = [fr.count(model, x).totals.forward for _ in range(4)]
    assert len(set(forwards)) == 1
    assert 48 < forwards[0] < 48 + 8 * 96  # some layers were left out, and some were not
    first, second = (fr.fit(model, x, memory="20kB") for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()


def test_what_is_computed_again_draws_again_what_it_drew() -> None:
    """Half of the blocks' layers run; were other ones to run in backward, autograd would tell."""
    model = nn.Sequential(Drops(DRAWS["torch"]), nn.Linear(2, 2))
    x = torch.randn(3, 4)
    plain, again = fr.count(model, x), fr.count(model, x, checkpoint="0")
    assert again.totals.backward == plain.totals.backward
    assert again.reconciled


def test_fake_tensors_are_left_as_they_were() -> None:
    with FakeTensorMode():
        model, x = a_model(), torch.randn(4, 8)
    ledger = fr.count(model, x, loss="sum", optimizer="adam", input_grad=True)
    real = fr.count(a_model(), torch.randn(4, 8), loss="sum", optimizer="adam", input_grad=True)
    assert ledger.rows == real.rows
    assert (x.requires_grad, x.grad) == (False, None)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"input": x}])
def test_inputs_may_be_a_tensor_a_tuple_or_a_dict(wrap: Any) -> None:
    ledger = fr.count(nn.Linear(8, 3), wrap(torch.empty(4, 8)), loss="sum")
    assert (ledger.totals.forward, ledger.totals.backward) == (192, 192)


class Images(nn.Module):
    """Takes one list of images, as detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 3)

    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        assert isinstance(images, list)
        return torch.stack([self.body(image[None]).sum() for image in images])


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"images": x}])
def test_a_list_is_one_input(wrap: Any) -> None:
    images = [torch.empty(3, 8, 8), torch.empty(3, 10, 8)]
    ledger = fr.count(Images(), wrap(images))
    assert ledger.totals.forward == 2 * (3 * 3 * 3) * 2 * (6 * 6 + 8 * 6)


def test_inference_is_in_eval_mode_and_forward_only() -> None:
    ledger = fr.count(nn.Sequential(a_model()), torch.empty(1, 8), inference=True)
    assert (ledger.totals.forward, ledger.totals.backward) == (2 * 8 * 6 + 2 * 6 * 3, 0)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_statistics_of_group_norm_have_the_weights_dtype(target: str) -> None:
    """On either device, see native_group_norm in aten/src/ATen/native/group_norm.cpp."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    ledger = fr.count(model, torch.empty(5, 3, 8, 8), loss="sum", dtype="bfloat16", target=target)
    (row,) = [row for row in ledger.rows if row.op == "aten.native_group_norm"]
    result, statistics = 5 * 4 * 8 * 8, 2 * 5 * 2
    assert row.bytes_written == 2 * (result + statistics)


def test_a_ledger_prints_as_one_line() -> None:
    text = repr(fr.count(nn.Linear(8, 3), torch.empty(4, 8), loss="sum"))
    assert text.startswith("Ledger(Linear: forward 192 FLOP, backward 192")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("model", "batch", "options", "sentence"),
    [
        (3, torch.empty(4, 8), {}, "a module or the name of a model, not int"),
        (nn.Linear, torch.empty(4, 8), {}, "the class Linear: make one"),
        ("mlp", torch.empty(4, 8), {}, "makes its own inputs"),
        ("mpl", 4, {}, "did you mean 'mlp'"),
        (nn.Linear(8, 3), None, {}, "give the module an example batch"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"depth": 3}, "has its sizes"),
        (nn.Linear(8, 3), torch.empty(4, 9), {}, "failed on input 0 of 4x9"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"optimizer": "adm"}, "did you mean 'adam'"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"optimizer": object()}, "by name"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"loss": lambda y: y}, "should be a scalar"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"freeze": "nothing*"}, "matches no module"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"freeze": "*"}, "leaves nothing to train"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"causal": "third"}, "one of full, half"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"checkpoint": "nothing*"}, "matches no module"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"accumulate": 0}, "at least 1"),
        (nn.Linear(8, 3), torch.empty(4, 8), {"amp": "fp8"}, "one of bf16, fp16"),
    ],
)
def test_bad_input_is_one_sentence(
    model: Any, batch: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        fr.count(model, batch, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn"])
def test_a_dtype_that_a_built_in_network_can_not_be_made_in(dtype: str) -> None:
    with pytest.raises(UsageError, match=f"mlp can't be made in {dtype}: dtype should be one of"):
        fr.count("mlp", 8, dtype=dtype)
