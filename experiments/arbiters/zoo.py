"""Models that people train, small: each with an example batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flopratio.models.torchvision_operators import torchvision_importable

BATCH, SEQ, VOCABULARY = 2, 32, 128

Made = tuple[nn.Module, Tensor]
"""A model and its batch."""


def images(size: int) -> Tensor:
    return torch.zeros(BATCH, 3, size, size)


def by_torchvision(name: str, size: int = 64) -> Made:
    with torchvision_importable():
        import torchvision

    return torchvision.models.get_model(name, weights=None), images(size)


def by_timm(name: str, size: int = 224) -> Made:
    with torchvision_importable():
        import timm

    return timm.create_model(name), images(size)


def by_transformers(name: str, **sizes: Any) -> Made:
    """A language model of two layers; of the kind that guesses masked tokens, if it does."""
    with torchvision_importable():
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    config = AutoConfig.for_model(name, vocab_size=VOCABULARY, **sizes)
    kind = AutoModelForMaskedLM if name in MASKED else AutoModelForCausalLM
    return kind.from_config(config), torch.zeros(BATCH, SEQ, dtype=torch.long)


MASKED = {"bert", "roberta", "distilbert", "albert", "electra"}

LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
BERT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

MODELS: Mapping[str, Callable[[], Made]] = {
    **{
        f"torchvision:{name}": partial(by_torchvision, name)
        for name in (
            "alexnet",
            "vgg11",
            "resnet18",
            "resnext50_32x4d",
            "squeezenet1_1",
            "mobilenet_v3_small",
            "shufflenet_v2_x0_5",
            "efficientnet_b0",
            "regnet_y_400mf",
            "convnext_tiny",
            "swin_t",
        )
    },
    **{
        f"timm:{name}": partial(by_timm, name)
        for name in (
            "vit_tiny_patch16_224",
            "convnext_atto",
            "resmlp_12_224",
            "levit_128s",
            "poolformer_s12",
            "ghostnet_050",
            "mobilevit_xxs",
            "repvgg_a0",
        )
    },
    **{
        f"transformers:{name}": partial(by_transformers, name, **sizes)
        for name, sizes in {
            "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
            "gpt_neox": BERT,
            "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
            "distilbert": {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4},
            "opt": {
                "hidden_size": 64,
                "ffn_dim": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "word_embed_proj_dim": 64,
            },
            "llama": LLAMA,
            "mistral": LLAMA,
            "qwen2": LLAMA,
            "bert": BERT,
            "roberta": BERT,
            "albert": {**BERT, "embedding_size": 32},
            "electra": {**BERT, "embedding_size": 32},
        }.items()
    },
}


def cross_entropy(output: Any) -> Tensor:
    """The loss of a classifier's or a language model's output, against class 0."""
    scores = getattr(output, "logits", output)
    scores = scores.flatten(0, -2)
    return functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
