"""PaLM (Chowdhery et al. 2022): attention and a gated feed-forward network side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

VOCABULARY = 256_000


class Block(nn.Module):
    """Attention and a gated feed-forward network side by side; all queries' heads share one head of
    keys and values. (The rotation of queries and keys by their positions is no product.)"""

    def __init__(self, width: int, heads: int, head_width: int, rematerialize: bool) -> None:
        super().__init__()
        self.heads = heads
        self.rematerialize = rematerialize
        self.norm = nn.LayerNorm(width, bias=False)
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key = nn.Linear(width, head_width, bias=False)
        self.value = nn.Linear(width, head_width, bias=False)
        self.projection = nn.Linear(heads * head_width, width, bias=False)
        self.gate = nn.Linear(width, 4 * width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query[B, H, S, D], key[B, 1, S, D], value[B, 1, S, D]"""
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        return scores.softmax(-1) @ value

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        normal = self.norm(x)
        query = self.query(normal).view(batch, length, self.heads, -1).transpose(1, 2)
        operands = query, self.key(normal)[:, None], self.value(normal)[:, None]
        if self.rematerialize:
            out = checkpoint(self.attend, *operands, use_reentrant=True, preserve_rng_state=False)
        else:
            out = self.attend(*operands)
        attended = self.projection(out.transpose(1, 2).reshape(batch, length, -1))
        gated = functional.silu(self.gate(normal)) * self.up(normal)
        return x + attended + self.down(gated)


class PaLM(nn.Module):
    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        head_width: int,
        vocabulary: int,
        rematerialize: bool = False,
    ) -> None:
        super().__init__()
        shape = width, heads, head_width, rematerialize
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(Block(*shape) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    @classmethod
    def of_row(
        cls, row: Mapping[str, str], rematerialize: bool = False, layers: int | None = None
    ) -> PaLM:
        """The model of a row of the table of sizes, with as many layers as it has unless given."""
        sizes = (int(row[column]) for column in ("d_model", "heads", "d_head"))
        layers = int(row["layers"]) if layers is None else layers
        return cls(layers, *sizes, VOCABULARY, rematerialize)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embedding(tokens))))
