"""Steps on real tensors: MODELs that are initialised, modules as they are, and devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flopratio.errors import UsageError
from flopratio.step.options import StepOptions
from flopratio.step.random_state import own_random_state
from flopratio.step.real import module_step, parse_device, spec_step
from flopratio.torch_private import buffers, parameters

CPU = torch.device("cpu")
LLAMA = {
    "batch": 2,
    "seq": 64,
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 50,
}
SPECS: dict[str, dict[str, Any]] = {
    "mlp": {"batch": 2, "depth": 1, "width": 4},
    "torchvision:shufflenet_v2_x0_5": {"batch": 2, "image": 32},
    "hf:llama": LLAMA,
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_initialised_and_runs(spec: str) -> None:
    with own_random_state():
        step = spec_step(spec, SPECS[spec], StepOptions(), CPU)
        with step.prepared() as prepared:
            loss = prepared.run()
    tensors = [*parameters(step.module), *buffers(step.module), *step.inputs.tensors]
    assert all(tensor.device == CPU and not tensor.is_meta for tensor in tensors)
    assert torch.isfinite(loss)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def test_the_same_seed_makes_the_same_step() -> None:
    def made() -> list[torch.Tensor]:
        with own_random_state():
            step = spec_step("hf:llama", LLAMA, StepOptions(), CPU)
        return [*parameters(step.module), *step.inputs.tensors]

    assert all(map(torch.equal, made(), made()))


def test_tokens_and_labels_are_drawn_from_the_whole_vocabulary() -> None:
    with own_random_state():
        inputs = spec_step("hf:llama", LLAMA, StepOptions(), CPU).inputs.kwargs
    for tokens in (inputs["input_ids"], inputs["labels"]):
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < LLAMA["vocab_size"]
        assert len(tokens.unique()) > 20
        assert not torch.isin(tokens, torch.tensor([1, 2])).any()  # begin and end of a text


def test_the_numbers_of_an_embedding_are_drawn_from_its_rows(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words.py").write_text(
        "from torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    with own_random_state():
        step = spec_step("words.py:make", {"batch": 8, "seq": 16}, StepOptions(), CPU)
    assert step.inputs.args[0].unique().tolist() == list(range(7))


def test_lazy_layers_get_their_sizes_from_the_input(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazily.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.LazyLinear(3))\n"
    )
    monkeypatch.chdir(tmp_path)
    step = spec_step("lazily.py:make", {"input": "2x5"}, StepOptions(), CPU)
    assert step.module[0].weight.shape == (3, 5)  # type: ignore[index]


def test_a_dtype_is_that_of_parameters_and_inputs() -> None:
    for spec in ("mlp", "torchvision:shufflenet_v2_x0_5"):
        step = spec_step(spec, SPECS[spec], StepOptions(dtype="float64"), CPU)
        assert {p.dtype for p in parameters(step.module)} == {torch.float64}
        assert step.inputs.args[0].dtype == torch.float64


def test_a_module_is_taken_as_it_is() -> None:
    module, x = nn.Linear(3, 2), torch.ones(4, 3)
    step = module_step(module, x, StepOptions(), CPU)
    assert step.module is module
    assert step.inputs.args[0] is x


@pytest.mark.parametrize(
    ("module", "batch", "options", "says"),
    [
        (nn.Linear(3, 2, device="meta"), torch.ones(4, 3), {}, "module has tensors without values"),
        (nn.Linear(3, 2), torch.ones(4, 3, device="meta"), {}, "batch has tensors without values"),
        (nn.Linear(3, 2), torch.ones(4, 3), {"dtype": "bfloat16"}, "tensors of float32"),
    ],
)
def test_a_module_that_does_not_fit(module: Any, batch: Any, options: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        module_step(module, batch, StepOptions(**options), CPU)


def test_a_module_elsewhere_than_asked() -> None:
    with pytest.raises(UsageError, match=r"module has tensors on cpu.*device='cpu'"):
        module_step(nn.Linear(3, 2), torch.ones(4, 3), StepOptions(), torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("name", "cuda", "count", "says"),
    [
        ("gpu", "12.8", 1, "device=gpu should be one of cpu, cuda: did you mean 'cuda'"),
        ("gpu:1", "12.8", 2, "one of cpu, cuda: did you mean 'cuda'"),
        ("mps", "12.8", 1, "device=mps should be one of cpu, cuda"),
        (3.5, "12.8", 1, "device=3.5 should be one of cpu, cuda"),
        ("cuda", None, 0, "built without CUDA"),
        ("cuda", "12.8", 0, "no CUDA device"),
        ("cuda:3", "12.8", 2, "there are 2 here"),
    ],
)
def test_a_device_that_is_not_there(
    name: Any, cuda: str | None, count: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    with pytest.raises(UsageError, match=says):
        parse_device(name)


def test_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert parse_device("cpu") == torch.device("cpu")
    assert parse_device("cuda") == torch.device("cuda", 1)
    assert parse_device(torch.device("cuda", 0)) == torch.device("cuda", 0)
