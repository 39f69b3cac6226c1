"""The layers of the built-in networks that ``torch.nn`` does not have, as modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Add(nn.Module):
    """The sum of two results: where a residual connection ends."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Multiply(nn.Module):
    """Their product: a gate."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class LearnedPositions(nn.Module):
    """Adds a row of a trained table to each position of x[B, L, D].

    Args:
        positions: L.
        width: D.
    """

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(positions, width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


class SinusoidalPositions(nn.Module):
    """The same with sines and cosines of the position, at frequencies that fall from 1 to 1 /
    10,000 (Vaswani et al. 2017, section 3.5)."""

    table: Tensor

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        angle = _angles(positions, -(-width // 2))
        table = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :width]
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Attention(nn.Module):
    """The attention of each position of query[B, L, H D] to those of key and value[B, L, K D].

    Args:
        heads: H.
        kv_heads: K; each serves H / K of the query's.
        head_width: D.
        causal: whether a position sees no later ones.
        rotary: the number of positions, if query and key are turned by theirs (Su et al., RoFormer,
            2021).
    """

    cosine: Tensor
    sine: Tensor

    def __init__(
        self, heads: int, kv_heads: int, head_width: int, causal: bool, rotary: int | None = None
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.causal, self.rotary = causal, rotary
        if rotary is not None:
            angle = _angles(rotary, head_width // 2)
            cosine, sine = angle.cos(), angle.sin()
            # Of the first half of a head the other is taken away; its sign is in the table.
            for name, halves in (("cosine", (cosine, cosine)), ("sine", (-sine, sine))):
                self.register_buffer(name, torch.cat(halves, dim=-1), persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = self._by_head(query, self.heads)
        key, value = self._by_head(key, self.kv_heads), self._by_head(value, self.kv_heads)
        if self.rotary is not None:
            query, key = self._rotated(query), self._rotated(key)
        out: Tensor = functional.scaled_dot_product_attention(
            query, key, value, is_causal=self.causal, enable_gqa=self.heads != self.kv_heads
        )
        return out.transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor, number: int) -> Tensor:
        """x[B, L, H D] as [B, H, L, D]."""
        by_head: Tensor = x.unflatten(-1, (number, self.head_width))
        return by_head.transpose(1, 2)

    def _rotated(self, x: Tensor) -> Tensor:
        return x * self.cosine + x.roll(self.head_width // 2, -1) * self.sine


def _angles(positions: int, frequencies: int) -> Tensor:
    """position * frequency, in the default dtype."""
    exponents = torch.arange(frequencies) / frequencies
    frequency = torch.exp(-math.log(10_000) * exponents)
    return torch.outer(torch.arange(positions).to(frequency.dtype), frequency)
