"""A language model as GPT-2 and Megatron-LM have it, small enough to be read beside a table.

B sequences of S tokens each; per layer, with the width D, H heads and A = H * head_width:

    x[B, S, D] -> queries, keys, values [B, H, S, A / H] -> scores[B, H, S, S] -> [B, S, A] -> D
    x[B, S, D] -> [B, S, hidden] -> D

The products of attention are separate operators, so that each has its own row in the ledger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model.

    Args:
        context: the longest sequence.
        head_width: by default ``width / heads``.
        hidden: units of the feed-forward network, by default ``4 * width``.
        bias: whether linear layers and norms have one.
        dropout: its probability, of attention's probabilities and before each residual addition.
        recompute: whether each block forgets its activations and is run again in backward.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int
    head_width: int = 0
    hidden: int = 0
    bias: bool = True
    dropout: float = 0
    recompute: bool = False

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_width if self.head_width else self.width

    @property
    def hidden_width(self) -> int:
        return self.hidden or 4 * self.width


class Dropout(nn.Module):
    """As on CUDA, where it is one operator that keeps a mask of one byte an element."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, self.p, True)[0] if self.p else x


class Attention(nn.Module):
    """Causal self-attention."""

    mask: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        inner = sizes.attention_width
        self.qkv = nn.Linear(sizes.width, 3 * inner, sizes.bias)
        self.projection = nn.Linear(inner, sizes.width, sizes.bias)
        self.dropout = Dropout(sizes.dropout)
        future = torch.full((sizes.context, sizes.context), -torch.inf).triu(1)
        self.register_buffer("mask", future)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        scores = scores + self.mask[:length, :length]
        out = self.dropout(scores.softmax(-1)) @ value
        return self.projection(out.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.first = nn.Linear(sizes.width, sizes.hidden_width, sizes.bias)
        self.second = nn.Linear(sizes.hidden_width, sizes.width, sizes.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(functional.gelu(self.first(x)))


class Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.width, bias=sizes.bias)
        self.attention = Attention(sizes)
        self.feed_forward_norm = nn.LayerNorm(sizes.width, bias=sizes.bias)
        self.feed_forward = FeedForward(sizes)
        self.dropout = Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Embedding(nn.Module):
    """Of the tokens and of their positions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Embedding(sizes.context, sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[-1], device=tokens.device)
        return self.tokens(tokens) + self.positions(positions)


class GPT(nn.Module):
    """The logits of the next token at each position. The head's weight is the embedding's."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.recompute = sizes.recompute
        self.embedding = Embedding(sizes)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, bias=sizes.bias)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        self.head.weight = self.embedding.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            if self.recompute:
                x = checkpoint(block, x, use_reentrant=True, preserve_rng_state=False)
            else:
                x = block(x)
        return self.head(self.norm(x))


def weightless(sizes: Sizes) -> GPT:
    """The model on the meta device: shapes alone."""
    with torch.device("meta"):
        return GPT(sizes)


def tokens(batch: int, length: int) -> Tensor:
    """A batch of sequences on the meta device."""
    return torch.zeros((batch, length), dtype=torch.int64, device="meta")
