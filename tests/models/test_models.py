"""MODEL specs: what they build, with which inputs, and what is said when they can't."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from flopratio.errors import UsageError
from flopratio.models import Example, ModelError, StepMode, explain_failure, load
from flopratio.step.losses import loss_of

TINY_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def train_step(example: Example) -> float:
    """One forward, loss and backward; the share of the parameters that get a gradient."""
    with example.context():
        loss_of(example.module(*example.args, **example.kwargs)).backward()
    parameters = list(example.module.parameters())
    return sum(p.grad is not None for p in parameters) / len(parameters)


def parameter_count(example: Example) -> int:
    return sum(p.numel() for p in example.module.parameters())


@pytest.fixture
def models_py(tmp_path: Path) -> Path:
    """A file of factories, as users write them."""
    path = tmp_path / "my_models.py"
    path.write_text(
        """
import torch
from torch import nn

def linear(width=8):
    return nn.Linear(width, 3)

def with_inputs(width=8, batch=4):
    return nn.Linear(width, 3), torch.randn(batch, width)

def with_keywords():
    class Scale(nn.Linear):
        def forward(self, x, *, scale):
            return super().forward(x) * scale
    return Scale(4, 4), {"x": torch.randn(2, 4), "scale": torch.ones(1)}

def convolutional():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(2))

def recurrent():
    return nn.LSTM(6, 5, num_layers=2, batch_first=True)

def tied():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    return module

def frozen_trunk():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    return module

def lazy():
    return nn.LazyLinear(3), torch.randn(2, 7)

class CountsTokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
    def forward(self, ids):
        return self.embed(ids[:, : int((ids > 0).sum(1).max())])

def counts_tokens():
    return CountsTokens(), torch.tensor([[3, 1, 0, 0], [2, 0, 0, 0]])

class Thresholds(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y

def thresholds():
    return Thresholds(4, 4)

def two_hidden(input=784, hidden=6):
    return nn.Sequential(nn.Linear(input, hidden), nn.ReLU(), nn.Linear(hidden, 3))

class Reshapes(nn.Sequential):
    def forward(self, x):
        return super().forward(x).reshape(7, -1)

def reshapes():
    return Reshapes(nn.Linear(4, 4)), torch.randn(2, 4)

def annotated(width: int = 3, rate: "float" = 0.5, bias: bool = True, name: str = ""):
    return nn.Linear(4, width, bias=bias)


def reshapes_a_guess():
    return Reshapes(nn.Linear(4, 4))

def for_digits():
    return nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(864, 10))

def solves():
    module = nn.Linear(4, 3)
    solution = torch.linalg.lstsq(module.weight, torch.eye(3)).solution
    module.register_buffer("inverse", solution.detach())
    return module

def solves_what_was_drawn():
    module = nn.Linear(4, 4)
    drawn = torch.empty(4, 4).normal_()
    if not torch.isfinite(drawn).all() or drawn.abs().sum() == 0:
        raise ValueError("nothing was drawn")
    module.weight.data = torch.linalg.lstsq(drawn, torch.eye(4)).solution
    return module

def pair_in_a_list():
    class Pair(nn.Linear):
        def forward(self, pair):
            return super().forward(torch.cat(pair))
    return Pair(4, 4), [torch.randn(2, 4), torch.randn(3, 4)]

def compiled():
    return torch.compile(nn.Linear(2, 2))

def compiled_in_place():
    module = nn.Sequential(nn.Linear(2, 2))
    module.compile()
    return module

class Converts(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.dtype = dtype
    def forward(self, x):
        self.inner = self.inner.to(self.dtype)
        return self.inner(x.to(self.dtype)).float()

def converts_to_itself():
    return Converts(torch.float32), torch.randn(2, 4)

def converts_to_another():
    return Converts(torch.bfloat16), torch.randn(2, 4)

def two_inputs():
    return nn.Bilinear(3, 3, 2)

def number():
    return 3

def module_and_text():
    return nn.Linear(2, 2), "text"

def empty_batch():
    return nn.Linear(2, 2), torch.randn(0, 2)

def misfit():
    return nn.Linear(4, 4), torch.randn(2, 5)

def needs_width(width):
    return nn.Linear(width, 1)

def broken():
    raise RuntimeError("no such shelf")
"""
    )
    return path


class TestAnExample:
    def test_has_no_values_only_shapes(self) -> None:
        example = load("torchvision:resnet18", {})
        tensors = [*example.module.parameters(), *example.module.buffers(), *example.args]
        assert all(isinstance(tensor, FakeTensor) for tensor in tensors)
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
        assert all(isinstance(p, nn.Parameter) for p in example.module.parameters())

    def test_is_in_training_mode_and_takes_a_step(self) -> None:
        example = load("torchvision:resnet18", {"batch": 4})
        assert example.module.training
        assert train_step(example) == 1.0

    def test_has_the_parameters_of_the_published_model(self) -> None:
        assert parameter_count(load("torchvision:resnet50", {})) == 25_557_032
        assert parameter_count(load("timm:vit_base_patch16_224", {})) == 86_567_656
        assert parameter_count(load("hf:gpt2", {})) == 124_439_808  # the tied head counted once

    def test_tells_the_settings_with_the_defaults_used(self) -> None:
        assert load("torchvision:resnet18", {}).settings == {"batch": 2, "image": 224}
        example = load("hf:llama", {"seq": 32, **TINY_LLAMA})
        assert example.settings == {"batch": 2, "seq": 32, **TINY_LLAMA}
        assert example.tokens == 2 * 32

    def test_can_be_real(self) -> None:
        example = load("hf:llama", {"batch": 1, "seq": 8, **TINY_LLAMA}, real=True)
        assert example.mode is None
        loss = loss_of(example.module(**example.kwargs))
        assert 3.0 < loss.item() < 7.0  # about ln(100) before training

    @pytest.mark.parametrize("name", ["bf16", "bfloat16"])
    def test_has_the_dtype_asked_for(self, name: str) -> None:
        for spec in ("torchvision:resnet18", "hf:vit"):
            example = load(spec, {}, dtype=name)
            images = example.args[0] if example.args else example.kwargs["pixel_values"]
            assert images.dtype == torch.bfloat16
            assert {p.dtype for p in example.module.parameters()} == {torch.bfloat16}

    def test_is_not_built_with_an_unknown_dtype(self) -> None:
        with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
            load("torchvision:resnet18", {}, dtype="blfoat16")


class TestTorchvision:
    @pytest.mark.parametrize(
        ("name", "kind", "shape"),
        [
            ("resnet18", "classifier", (2, 3, 224, 224)),
            ("inception_v3", "classifier", (2, 3, 299, 299)),
            ("regnet_y_400mf", "classifier", (2, 3, 224, 224)),  # reads values in its constructor
            ("vit_b_32", "classifier", (2, 3, 224, 224)),
            ("r3d_18", "classifier", (2, 3, 16, 112, 112)),
            ("lraspp_mobilenet_v3_large", "segmentation", (2, 3, 520, 520)),
            ("raft_small", "module", (2, 3, 224, 224)),
        ],
    )
    def test_inputs_have_the_size_that_the_model_is_made_for(
        self, name: str, kind: str, shape: tuple[int, ...]
    ) -> None:
        example = load(f"torchvision:{name}", {})
        assert example.kind == kind
        assert example.args[0].shape == shape
        assert train_step(example) == 1.0

    @pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn"])
    def test_detection_trains_on_boxes(self, name: str) -> None:
        example = load(f"torchvision:{name}", {})
        (images,), targets = example.args, example.kwargs["targets"]
        assert example.kind == "detection"
        assert len(images) == len(targets) == 2
        assert train_step(example) > 0.9  # batch normalisation of the backbone is frozen

    def test_region_proposals_fill_the_sample_of_the_second_stage(self) -> None:
        example = load("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", {"batch": 3})
        rows: list[int] = []
        predictor = example.module.get_submodule("roi_heads.box_predictor")
        predictor.register_forward_hook(lambda _, args, __: rows.append(args[0].size(0)))
        train_step(example)
        assert rows == [3 * 512]

    def test_an_image_size_reaches_the_constructor_that_asks_for_it(self) -> None:
        example = load("torchvision:vit_b_32", {"image": 96})
        assert example.module.get_parameter("encoder.pos_embedding").shape == (1, 9 + 1, 768)
        assert load("torchvision:resnet18", {"image": "64x96"}).args[0].shape == (2, 3, 64, 96)

    def test_other_keys_reach_the_constructor(self) -> None:
        example = load("torchvision:resnet18", {"num_classes": 7})
        assert example.module.get_parameter("fc.weight").shape == (7, 512)

    def test_input_says_the_whole_shape(self) -> None:
        example = load("torchvision:resnet18", {"input": "5x3x64x64"})
        assert example.args[0].shape == (5, 3, 64, 64)
        assert example.settings["batch"] == 5


class TestTimm:
    @pytest.mark.parametrize(
        ("name", "size"),
        [("efficientnet_b0", 224), ("swin_tiny_patch4_window7_224", 224), ("nfnet_f0", 192)],
    )
    def test_images_have_the_size_of_its_configuration(self, name: str, size: int) -> None:
        example = load(f"timm:{name}", {})
        assert example.args[0].shape == (2, 3, size, size)
        assert train_step(example) == 1.0

    def test_sizes_and_other_keys_reach_the_constructor(self) -> None:
        example = load("timm:vit_tiny_patch16_224", {"image": 64, "in_chans": 1, "depth": 2})
        assert example.args[0].shape == (2, 1, 64, 64)
        assert train_step(example) == 1.0


class TestTransformers:
    @pytest.mark.parametrize(
        ("model_type", "kind"),
        [
            ("gpt2", "causal-lm"),
            ("bert", "causal-lm"),
            ("mixtral", "causal-lm"),
            ("distilbert", "masked-lm"),
            ("t5", "seq2seq"),
            ("clip_text_model", "encoder"),
            ("clip", "encoder"),
            ("vit", "vision"),
            ("detr", "vision"),
            ("wav2vec2", "speech"),
        ],
    )
    # transformers looks at the addresses of experts' weights, with torch before 2.11.
    @pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
    def test_the_first_head_of_a_type_trains(self, model_type: str, kind: str) -> None:
        example = load(f"hf:{model_type}", {"batch": 1})
        assert example.kind == kind
        assert (example.tokens is not None) == (kind not in ("vision", "speech"))
        assert train_step(example) > 0.9

    def test_language_models_return_their_loss(self) -> None:
        for spec, head in (
            ("hf:gpt2", "causal-lm"),
            ("hf:bert", "masked-lm"),
            ("hf:t5", "seq2seq"),
        ):
            example = load(spec, {"batch": 1, "seq": 16, "head": head})
            assert example.module(**example.kwargs).loss.requires_grad

    def test_the_package_keeps_quiet_about_how_it_was_built(self) -> None:
        """GPT-2 tells at its first loss that it takes the usual one, in Python too."""
        import transformers

        said: list[str] = []
        log = logging.getLogger("transformers")
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        verbosity = transformers.logging.get_verbosity()
        log.addHandler(handler)
        try:
            transformers.logging.set_verbosity_warning()
            example = load("hf:gpt2", {"batch": 1, "seq": 8, "n_layer": 1})
            once = transformers.utils.logging.warning_once
            once.cache_clear()  # what is said once may have been said
            train_step(example)
            assert said == []
            assert transformers.logging.get_verbosity() == transformers.logging.WARNING
            once.cache_clear()
            example.module(**example.kwargs)  # somebody's own forward
            assert any("loss_type" in message for message in said)
        finally:
            transformers.logging.set_verbosity(verbosity)
            log.removeHandler(handler)

    def test_head_chooses_another(self) -> None:
        assert load("hf:bert", {"head": "masked-lm"}).kind == "masked-lm"
        assert load("hf:bert", {"head": "encoder"}).kind == "encoder"
        for head in ("BertForSequenceClassification", "AutoModelForSequenceClassification"):
            example = load("hf:bert", {"head": head})
            assert type(example.module).__name__ == "BertForSequenceClassification"
        with pytest.raises(ModelError, match="has no head 'seq2seq': it has causal-lm, masked-lm"):
            load("hf:bert", {"head": "seq2seq"})
        for value, said in ((2, "2"), (True, "true"), ((2, 3), "2x3")):
            with pytest.raises(ModelError, match=f"has no head '{said}': it has"):
                load("hf:bert", {"head": value})

    def test_keys_are_set_on_the_configuration(self) -> None:
        example = load("hf:gpt2", {"hidden_size": 48, "num_hidden_layers": 1, "n_head": 4})
        assert example.module.get_parameter("transformer.h.0.mlp.c_fc.weight").shape == (48, 192)

    def test_keys_of_a_part_of_the_configuration_are_found(self) -> None:
        sizes = {"hidden_size": 64, "num_hidden_layers": 1, "vision_config.num_hidden_layers": 1}
        example = load("hf:llava", sizes)
        config: Any = example.module.config
        assert config.text_config.hidden_size == 64
        assert config.text_config.num_hidden_layers == 1
        assert config.vision_config.num_hidden_layers == 1

    def test_a_local_configuration_is_a_model(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"model_type": "llama", **TINY_LLAMA, "dtype": "bfloat16"}))
        for spec in (f"hf:{path}", f"hf:{tmp_path}"):
            example = load(spec, {"num_hidden_layers": 1, "seq": 16})
            assert len(example.module.get_submodule("model.layers")) == 1  # type: ignore[arg-type]
            assert example.module.get_parameter("lm_head.weight").dtype == torch.bfloat16

    def test_tied_weights_stay_one(self) -> None:
        module = load("hf:gpt2", {}).module
        assert module.get_parameter("lm_head.weight") is module.get_parameter(
            "transformer.wte.weight"
        )

    def test_a_part_of_other_models_is_a_model_too(self) -> None:
        small = {"batch": 1, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        example = load("hf:altclip_vision_model", small)
        assert (type(example.module).__name__, example.kind) == ("AltCLIPVisionModel", "vision")
        assert train_step(example) > 0.9

    def test_a_head_of_a_part_gets_the_configuration_of_the_part(self) -> None:
        small = {"decoder.hidden_size": 64, "decoder.ffn_dim": 64, "decoder.num_hidden_layers": 1}
        example = load("hf:musicgen", {"batch": 3, "seq": 5, **small})
        assert type(example.module).__name__ == "MusicgenForCausalLM"
        codebooks = example.module.config.num_codebooks
        assert example.kwargs["input_ids"].shape == (3 * codebooks, 5)  # a text for each
        assert train_step(example) > 0.7  # all but attention to an encoder, which is not there

    def test_a_task_without_a_kind_is_a_head_as_well(self) -> None:
        example = load("hf:depth_anything", {"batch": 1})
        assert type(example.module).__name__ == "DepthAnythingForDepthEstimation"

    def test_heads_without_groups_have_keys_and_values_of_their_own(self) -> None:
        small = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
        for spec in ("hf:nemotron", "hf:ministral"):
            module = load(spec, {"batch": 1, **small}).module
            config: Any = module.config
            heads = config.num_key_value_heads
            assert config.head_dim == 16
            keys = module.get_parameter("model.layers.0.self_attn.k_proj.weight")
            assert keys.shape == (heads * 16, 64)
            assert spec != "hf:nemotron" or heads == 4

    def test_a_router_sends_tokens_to_all_experts(self) -> None:
        """The expert of a token is its largest score, which has no value here: they take turns."""
        small = {"d_model": 32, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2}
        sparse = {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
        settings = {"batch": 2, "seq": 16, "num_experts": 8, **small, **sparse}
        example = load("hf:switch_transformers", settings)
        train_step(example)
        experts = {
            name: parameter.grad is not None
            for name, parameter in example.module.named_parameters()
            if "experts" in name
        }
        assert len(experts) > 1
        assert all(experts.values())

    def test_images_in_patches_come_with_their_shapes(self) -> None:
        small = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        example = load("hf:siglip2_vision_model", {"batch": 2, "image": 64, **small})
        assert example.kwargs["pixel_values"].shape == (2, 4 * 4, 3 * 16 * 16)
        assert example.kwargs["spatial_shapes"].tolist() == [[4, 4], [4, 4]]
        assert train_step(example) > 0.6  # all but the pooling head, which the loss does not read

    def test_layers_are_not_dropped_at_random(self) -> None:
        example = load("hf:wav2vec2", {})
        config: Any = example.module.config
        assert config.layerdrop == 0.0

    def test_a_model_of_four_hundred_billion_parameters_takes_no_memory(self) -> None:
        example = load(
            "hf:llama",
            {
                "hidden_size": 16384,
                "num_hidden_layers": 126,
                "intermediate_size": 53248,
                "num_attention_heads": 128,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
            },
        )
        assert parameter_count(example) == 405_853_388_800

    def test_more_tokens_than_positions_are_refused_as_in_a_real_step(self) -> None:
        example = load("hf:gpt2", {"batch": 1, "seq": 1025})
        with pytest.raises(IndexError) as caught:
            train_step(example)
        sentence = str(explain_failure(caught.value, example))
        assert "row 1024 is out of range of an embedding of 1024 rows" in sentence
        assert "input_ids of 1x1025" in sentence


class TestFactories:
    def test_of_a_file_with_inputs(self, models_py: Path) -> None:
        example = load(f"{models_py}:with_inputs", {"width": 16, "batch": 3})
        assert example.args[0].shape == (3, 16)
        assert isinstance(example.args[0], FakeTensor)
        assert train_step(example) == 1.0

    def test_of_a_module_on_the_path(self) -> None:
        example = load("torch.nn:Linear", {"in_features": 4, "out_features": 2, "batch": 5})
        assert example.args[0].shape == (5, 4)

    def test_of_a_file_in_the_working_directory(
        self, models_py: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(models_py.parent)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
        assert load("my_models:linear", {}).args[0].shape == (2, 8)
        assert "my_models" not in sys.modules
        sys.path.append("")  # what can be imported anyhow is, and is one with what is counted
        import my_models  # type: ignore[import-not-found]

        assert type(load("my_models:counts_tokens", {}).module) is my_models.CountsTokens
        assert sys.modules.pop("my_models") is my_models

    @pytest.mark.parametrize(
        ("factory", "settings", "shape"),
        [
            ("linear", {}, (2, 8)),
            ("linear", {"seq": 5}, (2, 5, 8)),
            ("convolutional", {"image": 32}, (2, 1, 32, 32)),
            ("recurrent", {"batch": 3, "seq": 7}, (3, 7, 6)),
            ("linear", {"input": "6x8"}, (6, 8)),
            ("linear", {"input": "6x8", "batch": 3}, (3, 8)),
            ("with_inputs", {"input": (6, 8), "batch": 3}, (3, 8)),
            ("two_hidden", {"input": 12, "batch": 5}, (5, 12)),
            ("solves", {}, (2, 4)),
            ("solves_what_was_drawn", {}, (2, 4)),
            ("lazy", {}, (2, 7)),
        ],
    )
    def test_inputs_are_guessed_from_the_first_layer(
        self, models_py: Path, factory: str, settings: dict[str, object], shape: tuple[int, ...]
    ) -> None:
        example = load(f"{models_py}:{factory}", settings)
        assert example.args[0].shape == shape
        assert train_step(example) == 1.0

    def test_several_inputs_and_their_dtypes_can_be_said(self, models_py: Path) -> None:
        example = load(f"{models_py}:two_inputs", {"input": "4x3,4x3:float32"})
        assert [x.shape for x in example.args] == [(4, 3), (4, 3)]
        example = load("torch.nn:Embedding", {"num_embeddings": 5, "embedding_dim": 2})
        assert example.args[0].dtype == torch.int64

    def test_the_batch_takes_the_place_of_the_first_side_of_inputs_that_have_it(
        self, models_py: Path
    ) -> None:
        settings = {"input": "4x3,4x3", "batch": 6}
        example = load(f"{models_py}:two_inputs", settings)
        assert [x.shape for x in example.args] == [(6, 3), (6, 3)]
        assert example.settings == {"input": "6x3,6x3", "batch": 6}
        example = load(f"{models_py}:two_inputs", {"input": "1x3,1x3:float32", "batch": 6})
        assert [x.shape for x in example.args] == [(6, 3), (6, 3)]
        assert load("torchvision:resnet18", {"input": "5x3x64x64", "batch": 7}).args[0].size(0) == 7

    def test_a_list_is_one_input(self, models_py: Path) -> None:
        (pair,) = load(f"{models_py}:pair_in_a_list", {}).args
        assert [x.shape for x in pair] == [(2, 4), (3, 4)]

    def test_keyword_inputs(self, models_py: Path) -> None:
        example = load(f"{models_py}:with_keywords", {})
        assert set(example.kwargs) == {"x", "scale"}

    def test_shared_and_frozen_parameters_stay_so(self, models_py: Path) -> None:
        tied = load(f"{models_py}:tied", {}).module
        assert tied.get_parameter("0.weight") is tied.get_parameter("1.weight")
        frozen = load(f"{models_py}:frozen_trunk", {})
        assert [p.requires_grad for p in frozen.module.parameters()] == [False, False, True, True]

    @pytest.mark.parametrize("factory", ["converts_to_itself", "converts_to_another"])
    def test_a_forward_may_convert_its_modules(self, models_py: Path, factory: str) -> None:
        convert = nn.Module._apply
        assert train_step(load(f"{models_py}:{factory}", {})) == 1.0
        assert nn.Module._apply is convert

    def test_values_computed_from_integers_may_be_read(self, models_py: Path) -> None:
        example = load(f"{models_py}:counts_tokens", {})
        assert not example.enter_mode
        assert example.module(*example.args).shape == (2, 2, 4)


class TestTheLoss:
    def test_is_the_one_of_the_output_if_it_has_one(self) -> None:
        own = torch.ones((), requires_grad=True)
        assert loss_of(SimpleNamespace(loss=own, logits=torch.ones(2, 3))) is own
        assert loss_of({"loss": own, "logits": torch.ones(2, 3)}) is own
        assert loss_of(own) is own

    def test_is_the_sum_of_the_losses_of_detection(self) -> None:
        losses = {"classes": torch.tensor(2.0, requires_grad=True), "boxes": torch.tensor(3.0)}
        assert loss_of({**losses, "boxes": losses["boxes"].requires_grad_()}).item() == 5.0

    @pytest.mark.parametrize("shape", [(4, 10), (4, 10, 3, 3)])
    def test_is_the_cross_entropy_of_classes(self, shape: tuple[int, ...]) -> None:
        logits = torch.zeros(shape, requires_grad=True)
        assert loss_of(logits).item() == pytest.approx(math.log(10))

    def test_is_the_sum_of_any_other_shape(self) -> None:
        assert loss_of(torch.ones(2, 3, 4, requires_grad=True)).item() == 24.0

    def test_reads_auxiliary_classifiers_and_the_first_of_a_tuple(self) -> None:
        logits = torch.zeros(4, 10, requires_grad=True)
        assert loss_of({"out": logits, "aux": logits}).item() == pytest.approx(2 * math.log(10))
        assert loss_of((logits, torch.ones(3, requires_grad=True))).item() == pytest.approx(
            math.log(10)
        )

    def test_can_be_chosen(self) -> None:
        output = torch.full((2, 3), 2.0, requires_grad=True)
        assert loss_of(output, "mse").item() == 4.0
        assert loss_of(output, "sum").item() == 12.0
        assert loss_of(output, "cross_entropy").item() == pytest.approx(math.log(3))

    def test_is_refused_in_one_sentence(self) -> None:
        with pytest.raises(UsageError, match="nothing requires a gradient"):
            loss_of(torch.ones(2, 3))
        with pytest.raises(UsageError, match="should be one of auto, cross_entropy, mse, sum"):
            loss_of(torch.ones(2, 3), "hinge")
        with pytest.raises(UsageError, match=r"\[N, C, ...\], not 3"):
            loss_of(torch.ones(3, requires_grad=True), "cross_entropy")


class TestDtypes:
    """A product of operands of unlike dtypes fails on fake tensors as it does on real ones."""

    @pytest.mark.parametrize(
        ("product", "shapes"),
        [
            (torch.mm, [(2, 3), (3, 4)]),
            (torch.mv, [(2, 3), (3,)]),
            (torch.bmm, [(5, 2, 3), (5, 3, 4)]),
            (torch.addmm, [(4,), (2, 3), (3, 4)]),
            (torch.baddbmm, [(5, 2, 4), (5, 2, 3), (5, 3, 4)]),
        ],
    )
    def test_torch_says_it_itself(
        self, product: Callable[..., torch.Tensor], shapes: list[tuple[int, ...]]
    ) -> None:
        def run(*dtypes: torch.dtype) -> torch.Tensor:
            pairs = zip(shapes, dtypes, strict=True)
            return product(*(torch.zeros(shape, dtype=dtype) for shape, dtype in pairs))

        alike = [torch.float32] * len(shapes)
        for position in range(len(shapes)):
            unlike = [*alike]
            unlike[position] = torch.float16
            with pytest.raises(RuntimeError) as really:
                run(*unlike)
            with StepMode(), pytest.raises(RuntimeError) as faked:
                run(*unlike)
            assert str(faked.value) == str(really.value)
        with StepMode():
            assert run(*alike).shape == run(*alike).shape

    def test_a_layer_of_another_dtype_than_its_input_is_refused(self, models_py: Path) -> None:
        with models_py.open("a") as file:
            file.write(
                "\ndef half():\n"
                "    return nn.Linear(4, 4, dtype=torch.float16), torch.zeros(2, 4)\n"
            )
        with pytest.raises(ModelError, match="mat1 and mat2 must have the same dtype"):
            load(f"{models_py}:half", {})


class TestBadInput:
    @pytest.mark.parametrize(
        ("spec", "settings", "sentence"),
        [
            (
                "torchvision:resnet51",
                {},
                "torchvision has no model 'resnet51': did you mean 'resnet50'",
            ),
            ("timm:resnet51", {}, "timm has no model 'resnet51': did you mean 'resnet5"),
            ("hf:gtp2", {}, "nothing is downloaded: did you mean 'gpt2'"),
            ("hf:meta/llama", {}, "neither a model type of transformers nor a local config.json"),
            ("resnet18", {}, "'resnet18' is no MODEL: write torchvision:NAME"),
            ("no.such:thing", {}, "there is no module 'no.such'"),
            ("torch:rand", {}, "is no Python function or class"),
            ("torch.nn:Linaer", {}, "did you mean 'Linear'"),
            ("nowhere.py:f", {}, "there is no file nowhere.py"),
            ("torchvision:resnet18", {"depth": 3}, "torchvision:resnet18 has no KEY 'depth'"),
            ("torchvision:resnet18", {"num_clases": 3}, "did you mean 'num_classes'"),
            ("timm:vit_tiny_patch16_224", {"dept": 3}, "did you mean 'depth'"),
            ("hf:llama", {"hiden_size": 64}, "did you mean 'hidden_size'"),
            ("hf:llama", {"image": 64}, "hf:llama has no KEY 'image'"),
            # Of all that was tried, what came farthest.
            ("hf:rag", {"seq": 8, "doc_scores": (2, 4)}, "doc_scores of 2x4"),
            ("hf:superpoint", {"image": 64}, "reads the value of a tensor at modeling_superpoint"),
            ("torchvision:resnet18", {"seq": 64}, "has no KEY 'seq'"),
            (
                "hf:llama",
                {"hidden_size": 65},
                "The hidden size (65) is not a multiple of the number",
            ),
            ("torchvision:resnet18", {"batch": 0}, "batch=0 is not a positive whole number"),
            ("torchvision:resnet18", {"image": "big"}, "image=big is not a size"),
            ("torchvision:resnet18", {"input": "2x16"}, "write input=2x3x224x224"),
        ],
    )
    def test_is_answered_in_one_sentence(
        self, spec: str, settings: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(ModelError) as caught:
            load(spec, settings)
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("factory", "settings", "sentence"),
        [
            ("number", {}, "returned int: return an nn.Module or a pair"),
            ("module_and_text", {}, "returned str as its example inputs: return a tensor"),
            ("empty_batch", {}, "returned an empty example input of 0x2"),
            ("liner", {}, "has no 'liner': did you mean 'linear'"),
            ("linear", {"widht": 3}, "has no KEY 'widht': did you mean 'width'"),
            ("needs_width", {}, "needs the argument 'width': write width=VALUE"),
            ("broken", {}, "RuntimeError: no such shelf at my_models.py:"),
            ("two_inputs", {}, "forward(input1, input2), can't be guessed: return (module,"),
            ("compiled", {}, "is compiled: return the module without torch.compile"),
            ("compiled_in_place", {}, "is compiled: return the module without torch.compile"),
            ("lazy", {"batch": 3}, "makes its own inputs and takes no 'batch'"),
            ("misfit", {}, "the model failed on input 0 of 2x5"),
            ("misfit", {}, "its first layer, Linear reads ...x4"),
            ("reshapes_a_guess", {}, "the model failed on the guessed input 2x4: RuntimeError"),
            (
                "reshapes_a_guess",
                {},
                "return (module, example_inputs) from the factory, or write input=SHAPE",
            ),
            ("for_digits", {"batch": 8}, "the model failed on the guessed input 8x1x224x224: "),
            ("for_digits", {"batch": 8}, "or write input=8x1x28x28, with which it runs"),
            ("two_inputs", {}, "or write input=SHAPE,SHAPE"),
            ("reshapes_a_guess", {"image": 32}, "or say all of its input, input=2x4"),
            ("with_inputs", {"seq": 3}, "or say others, such as input=4x8"),
            ("with_keywords", {"seq": 3}, "or say others, such as input=SHAPE,SHAPE"),
            ("annotated", {"width": "abc"}, "width=abc is no whole number, and"),
            ("annotated", {"width": 1.5}, "annotated takes width: int"),
            ("annotated", {"rate": (8, 3)}, "rate=8x3 is no number"),
            ("annotated", {"bias": "yes"}, "bias=yes is neither true nor false"),
            ("linear", {"input": "2x8", "seq": 3}, "seq=3 and input=2x8 both say what the model"),
            ("thresholds", {}, "or put fr.Profiler around a step on real CPU tensors"),
            ("thresholds", {}, "reads the value of a tensor at my_models.py:"),
            ("thresholds", {}, "(return y if y.sum() > 0 else -y)"),
        ],
    )
    def test_of_factories_names_the_cure(
        self, models_py: Path, factory: str, settings: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(ModelError) as caught:
            load(f"{models_py}:{factory}", settings)
        assert sentence in str(caught.value)

    def test_values_of_the_annotated_kind_are_taken(self, models_py: Path) -> None:
        settings: dict[str, object] = {"width": 5, "rate": 1, "bias": False, "name": "abc"}
        example = load(f"{models_py}:annotated", settings)
        assert (example.module.out_features, example.module.bias) == (5, None)

    def test_only_a_failure_of_the_first_layer_tells_what_that_reads(self, models_py: Path) -> None:
        with pytest.raises(ModelError, match=r"invalid for input of size 8 .*\)$"):
            load(f"{models_py}:reshapes", {})

    @pytest.mark.parametrize(
        ("spec", "settings", "sentence"),
        [
            ("hf:gpt2", {"input": "4x8", "seq": 16, "n_layer": 1}, "seq=16 and input=4x8 both"),
            ("torchvision:resnet18", {"input": "2x3x64x64", "image": 32}, "image=32 and input=2x3"),
            ("timm:resnet18", {"input": (2, 3, 64, 64), "image": 32}, "image=32 and input=2x3x64x"),
        ],
    )
    def test_two_sizes_of_one_input_are_refused(
        self, spec: str, settings: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(ModelError, match=sentence):
            load(spec, settings)

    @pytest.mark.parametrize("spec", ["{}", "{}:"])
    def test_of_a_file_alone_names_its_factories(self, tmp_path: Path, spec: str) -> None:
        path = tmp_path / "parts.py"
        path.write_text(
            "from torch import nn\nfrom torch.nn import Linear\n"
            "class Net(nn.Module): ...\nclass Sizes: ...\n"
            "def make(): ...\ndef _help(): ...\nWIDTH = 8\n"
        )
        with pytest.raises(ModelError) as caught:
            load(spec.format(path), {})
        assert str(caught.value) == (
            f"name its factory, as in {path}:NAME: there are {path}:Net, {path}:make"
        )
        path.write_text("WIDTH = 8\n")
        with pytest.raises(ModelError, match="defines no function or nn"):
            load(spec.format(path), {})

    @pytest.mark.parametrize("package", ["timm", "transformers"])
    def test_a_missing_package_names_the_extra(
        self, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        prefix = {"timm": "timm:resnet18", "transformers": "hf:gpt2"}[package]
        with pytest.raises(ModelError, match=r"pip install 'flopratio\[models\]'"):
            load(prefix, {})

    def test_is_a_usage_error(self) -> None:
        assert issubclass(ModelError, UsageError)
