"""Small networks of torch's own layers, for what the zoos' models do otherwise: attention and RMS
norm by torch's functions, cuDNN's LSTM, a U-Net."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

Made = tuple[nn.Module, tuple[Tensor, ...]]
"""A module and its inputs."""


class Attention(nn.Module):
    """Causal self-attention, perhaps with fewer heads of keys than of queries."""

    def __init__(self, width: int, heads: int, key_heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads, width // heads
        self.query = nn.Linear(width, heads * self.size, bias=bias)
        self.key = nn.Linear(width, key_heads * self.size, bias=bias)
        self.value = nn.Linear(width, key_heads * self.size, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            layer(x).view(batch, seq, heads, self.size).transpose(1, 2)
            for layer, heads in (
                (self.query, self.heads),
                (self.key, self.key_heads),
                (self.value, self.key_heads),
            )
        )
        grouped = self.heads != self.key_heads
        attended = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=grouped
        )
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, seq, width))
        return out


class GatedMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * width // 3 // 16 * 16
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, attention: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(width), attention
        self.mlp_norm, self.mlp = norm(width), mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class LanguageModel(nn.Module):
    """Tokens [B, T] to logits [B * T, V]."""

    def __init__(self, vocabulary: int, width: int, blocks: list[nn.Module], norm: nn.Module):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embedding(tokens)))
        logits: Tensor = self.head(x).flatten(0, 1)
        return logits


def gpt(
    batch: int = 2, seq: int = 64, width: int = 128, depth: int = 2, vocabulary: int = 512
) -> Made:
    """Layer norms, biases, GELU, as many heads of keys as of queries."""
    heads = width // 64
    blocks: list[nn.Module] = [
        Block(
            nn.LayerNorm,
            width,
            Attention(width, heads, heads, bias=True),
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
        )
        for _ in range(depth)
    ]
    model = LanguageModel(vocabulary, width, blocks, nn.LayerNorm(width))
    return model, (torch.randint(vocabulary, (batch, seq)),)


def llama(
    batch: int = 2, seq: int = 64, width: int = 256, depth: int = 2, vocabulary: int = 512
) -> Made:
    """RMS norms, no biases, a gated MLP, a head of keys for each four of queries (or two)."""
    heads = width // 64
    key_heads = max(heads // 4, 1)
    blocks: list[nn.Module] = [
        Block(nn.RMSNorm, width, Attention(width, heads, key_heads, bias=False), GatedMLP(width))
        for _ in range(depth)
    ]
    model = LanguageModel(vocabulary, width, blocks, nn.RMSNorm(width))
    return model, (torch.randint(vocabulary, (batch, seq)),)


class Recurrent(nn.Module):
    """Tokens [B, T] to logits [B * T, V], by an LSTM."""

    def __init__(self, vocabulary: int, width: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, depth, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.head(hidden).flatten(0, 1)
        return logits


def lstm(
    batch: int = 2, seq: int = 16, width: int = 64, depth: int = 2, vocabulary: int = 512
) -> Made:
    """All layers of it are one operator of cuDNN's."""
    return Recurrent(vocabulary, width, depth), (torch.randint(vocabulary, (batch, seq)),)


def _twice(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Images [B, 3, H, W] to classes [B, C, H, W]: down, and up again beside what was there."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.first = _twice(3, width)
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), _twice(above, below))
            for above, below in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(below, above, 2, stride=2) for above, below in pairwise(widths)
        )
        self.joined = nn.ModuleList(_twice(2 * above, above) for above in widths[:-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up, joined in zip(reversed(self.up), reversed(self.joined), strict=True):
            x = joined(torch.cat([levels.pop(), up(x)], dim=1))
        out: Tensor = self.head(x)
        return out


def unet(
    batch: int = 2, image: int = 32, width: int = 8, depth: int = 2, classes: int = 10
) -> Made:
    """As of Ronneberger et al. (2015), with padding and batch norm."""
    return UNet(width, depth, classes), (torch.randn(batch, 3, image, image),)
