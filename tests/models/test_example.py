"""Examples: what a training step reads, and what a forward alone does."""

from __future__ import annotations

import pytest

import flopratio as fr
from flopratio.models import load

TINY = {"n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 1000, "batch": 2, "seq": 16}


def test_a_forward_alone_has_no_labels() -> None:
    example = load("hf:gpt2", TINY)
    assert {*example.inputs.kwargs} == {"input_ids", "labels"}
    assert {*example.inference_inputs.kwargs} == {"input_ids"}


def test_a_decoder_is_given_tokens_in_the_place_of_labels() -> None:
    settings = {"num_layers": 1, "d_model": 32, "d_ff": 64, "num_heads": 2, "vocab_size": 100}
    example = load("hf:t5", settings)
    inputs = example.inference_inputs.kwargs
    assert "labels" not in inputs
    assert inputs["decoder_input_ids"].shape == example.kwargs["labels"].shape
    alone = fr.count("hf:t5", inference=True, **settings)
    assert alone.totals.forward == fr.count("hf:t5", **settings).totals.forward


def test_detection_has_no_targets_in_inference() -> None:
    example = load("torchvision:ssdlite320_mobilenet_v3_large", {})
    assert "targets" in example.inputs.kwargs
    assert len(example.inference_inputs.args[0]) == 2
    assert not example.inference_inputs.kwargs


def test_the_inputs_of_ones_own_model_are_all_its_own() -> None:
    example = load("torch.nn:Linear", {"in_features": 3, "out_features": 2})
    assert example.inference_inputs == example.inputs


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_inference_of_a_language_model_runs_no_loss(target: str) -> None:
    """The logits [2, 16, 1000] are the largest tensor; a loss has its own copies of them."""
    trained = fr.count("hf:gpt2", target=target, **TINY)
    alone = fr.count("hf:gpt2", inference=True, target=target, **TINY)
    assert not [row for row in alone.rows if "nll_loss" in row.op or "log_softmax" in row.op]
    assert alone.totals.forward == trained.totals.forward
    assert alone.memory["peak"] == trained.memory["inference_peak"]
    logits = 4 * 2 * 16 * 1000
    resident = alone.memory["parameters"] + alone.memory["buffers"] + alone.memory["inputs"]
    assert resident + logits <= alone.memory["peak"] < resident + 2 * logits
