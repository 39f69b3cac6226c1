"""The models of texts, by factories whose keywords are the KEYs of closed forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.literature.gpt import Block, Sizes, tokens, weightless
from experiments.literature.palm import PaLM


def gpt(
    batch: int = 2,
    seq: int = 8,
    layers: int = 2,
    width: int = 16,
    vocabulary: int = 32,
    *,
    bias: bool = True,
    recompute: bool = False,
) -> tuple[nn.Module, Tensor]:
    """A language model as GPT-2 and Megatron-LM have it, with two heads."""
    sizes = Sizes(layers, width, 2, vocabulary, seq, bias=bias, recompute=recompute)
    return weightless(sizes), tokens(batch, seq)


def layer(s: int = 16, b: int = 2, a: int = 2, q: int = 4) -> tuple[nn.Module, Tensor]:
    """A layer of the inside of a network in 16 bits, with dropout: its input asks for a gradient.

    s: sequence, b: batch, a: heads of the width q.
    """
    with torch.device("meta"):
        block = Block(Sizes(1, a * q, a, vocabulary=0, context=s, dropout=0.1)).bfloat16()
        return block, torch.empty(b, s, a * q, dtype=torch.bfloat16, requires_grad=True)


def palm(
    batch: int = 2,
    seq: int = 8,
    layers: int = 2,
    width: int = 24,
    heads: int = 3,
    q: int = 4,
    vocabulary: int = 32,
) -> tuple[nn.Module, Tensor]:
    """PaLM, its heads of the width q."""
    with torch.device("meta"):
        return PaLM(layers, width, heads, q, vocabulary), tokens(batch, seq)
