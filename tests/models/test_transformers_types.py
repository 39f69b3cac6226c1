"""Types of transformers whose defaults don't fit each other, whose inputs are no text or image, or
which are a part of another model; and what is said of those that can't be counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from flopratio.models import ModelError, load
from flopratio.models.example import Request
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.models.transformers_config import make_config
from flopratio.models.transformers_defaults import DEFAULTS, INPUTS
from tests.zoo.trial import attempt

import_torchvision()  # which transformers imports
transformers = pytest.importorskip("transformers")

SMALL = {"num_hidden_layers": 1}


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        # A default configuration that contradicts itself, or leaves a size open.
        ("esm", SMALL),
        ("glm4v_text", SMALL),
        # Inputs by the documentation of forward, or by the table.
        ("decision_transformer", {}),
        ("time_series_transformer", {}),
        ("qwen2_5_omni_audio_encoder", {"encoder_layers": 1}),
        # A part that no auto class lists.
        ("sam_mask_decoder", {}),
        ("blip_text_model", SMALL),
    ],
)
def test_counts_exactly(spec: str, settings: dict[str, Any]) -> None:
    trial = attempt(f"hf:{spec}", **{"batch": 2, **settings})
    assert (trial.status, trial.reason) == ("exact", "")
    assert trial.forward > 0


def config_of(model_type: str, **settings: object) -> Any:
    """The configuration that a type has with these KEYs."""
    request = Request(f"hf:{model_type}", model_type, settings, None)
    return make_config(request, transformers, DEFAULTS.get(model_type, {}))[0]


class TestSizesThatFit:
    def test_are_assumed_where_nothing_else_is_said(self) -> None:
        assert config_of("esm").vocab_size == 33
        assert config_of("esm", vocab_size=40).vocab_size == 40

    def test_are_told(self) -> None:
        assert load("hf:esm", {**SMALL, "pad_token_id": 2}).settings == {
            **{"vocab_size": 33, "pad_token_id": 2, "mask_token_id": 32},
            **{"num_hidden_layers": 1, "batch": 2, "seq": 128},
        }

    def test_of_a_part_apply_in_the_whole(self) -> None:
        """glm4v's text is a glm4v_text, whose rotary positions turn half of each head."""
        text = config_of("glm4v").text_config
        assert text.rope_parameters["partial_rotary_factor"] == 0.5

    def test_of_a_part_give_way_to_those_of_the_whole(self) -> None:
        assert config_of("timm_backbone").backbone == "resnet50"
        assert config_of("omdet-turbo").backbone_config.backbone != "resnet50"

    def test_of_a_part_of_a_part(self) -> None:
        key = "vision_config.backbone_config.architecture"
        assert config_of("edgetam").vision_config.backbone_config.architecture == "repvit_m1"
        other = config_of("edgetam", **{key: "repvit_m2"})
        assert other.vision_config.backbone_config.architecture == "repvit_m2"

    def test_are_not_assumed_of_a_file(self, tmp_path: Path) -> None:
        text = {"model_type": "glm4v_moe_text", "head_dim": 64}
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"model_type": "glm4v_moe", "text_config": text}))
        assert config_of("glm4v_moe").text_config.head_dim == 128
        assert config_of(str(path)).text_config.head_dim == 64

    def test_stay_as_they_are(self) -> None:
        before = repr(DEFAULTS)
        config_of("dbrx")
        config_of("glm4v_text").rope_parameters["rope_theta"] = 1
        assert repr(DEFAULTS) == before

    def test_lists_of_layers_are_cut(self) -> None:
        assert config_of("deepseek_ocr2_text", **SMALL).mlp_layer_types == ["dense"]


class TestInputsAsKeys:
    def test_have_the_shape_that_is_said(self) -> None:
        example = load("hf:qwen2_5_omni_bigvgan", {"mel_spectrogram": (3, 80, 16)})
        assert example.kwargs["mel_spectrogram"].shape == (3, 80, 16)
        assert example.settings["mel_spectrogram"] == "3x80x16"

    def test_grow_with_the_batch(self) -> None:
        for batch in (2, 5):
            example = load("hf:vibevoice_diffusion", {"batch": batch, **SMALL})
            assert example.kwargs["timesteps"].shape == (batch,)

    def test_say_their_dtype_and_values(self) -> None:
        inputs = {"duration_labels": "2x8:int64=3", "spectrogram_labels": "2x24x80"}
        example = load("hf:fastspeech2_conformer", {"seq": 8, **inputs})
        assert example.kwargs["duration_labels"].tolist() == [[3] * 8] * 2
        assert example.kwargs["pitch_labels"].shape == (2, 8, 1)  # as it is assumed

    def test_may_be_numbers_and_lists(self) -> None:
        example = load("hf:sam2_mask_decoder", {"multimask_output": False})
        assert example.kwargs["multimask_output"] is False
        assert [f.shape for f in example.kwargs["high_resolution_features"]] == [
            (2, 32, 256, 256),
            (2, 64, 128, 128),
        ]

    def test_take_the_dtype_of_the_model(self) -> None:
        example = load("hf:vibevoice_diffusion", SMALL, dtype="bf16")
        assert example.kwargs["condition"].dtype == torch.bfloat16

    def test_give_way_to_input(self) -> None:
        example = load("hf:granite_speech_encoder", {"input": "3x50x160", "num_layers": 1})
        assert example.kwargs["hidden_states"].shape == (3, 50, 160)


def test_inputs_are_searched_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAG asks for documents only once it has read the question, and for their scores after."""
    monkeypatch.delitem(cast("dict[str, Any]", INPUTS), "rag")
    example = load("hf:rag", {"seq": 8})
    assert {"context_input_ids", "context_attention_mask", "doc_scores"} <= example.kwargs.keys()
    assert example.kwargs["doc_scores"].shape == (2, 5)


class TestWhatCannotBeCounted:
    @pytest.mark.parametrize(
        ("spec", "sentence"),
        [
            ("hf:bark", "has no forward: count its parts, hf:encodec, or write a factory"),
            ("hf:emu3_vqgan", "a factory of a module whose forward calls one of its methods (enc"),
            ("hf:t5_gemma_module", "is a part of hf:t5gemma, without a model of its own"),
            ("hf:sam2_video", "reads inference_session of type Sam2VideoInferenceSession, which"),
            ("hf:layoutxlm", "can't be counted: its models are those of hf:layoutlmv2"),
        ],
    )
    def test_says_what_to_do_instead(self, spec: str, sentence: str) -> None:
        with pytest.raises(ModelError) as caught:
            load(spec, {})
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def incomplete(**_: object) -> None:
            raise ImportError("DinatModel requires the natten library but it was not found")

        monkeypatch.setattr(transformers.ViTForImageClassification, "_from_config", incomplete)
        with pytest.raises(ModelError) as caught:
            load("hf:vit", {})
        assert str(caught.value) == "hf:vit needs the package natten: pip install natten"

    def test_unknown_sizes_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(cast("dict[str, Any]", INPUTS), "sam_mask_decoder")
        with pytest.raises(ModelError, match=r"image_embeddings=2x\.\.\. .* multimask_output=true"):
            load("hf:sam_mask_decoder", {})

    def test_an_input_that_it_does_not_read_is_refused(self) -> None:
        with pytest.raises(ModelError, match="hf:esm has no KEY 'pixel_valuse'"):
            load("hf:esm", {**SMALL, "pixel_valuse": (2, 3, 8, 8)})
        with pytest.raises(ModelError, match="mel_spectrogram=big is not a size"):
            load("hf:qwen2_5_omni_bigvgan", {"mel_spectrogram": "big"})
