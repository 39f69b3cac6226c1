"""A small model as its source, and edits of it as people make them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch

import flopratio as fr
from flopratio.snapshot import Snapshot

SOURCE = """
import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.activation = nn.GELU()
        self.down = nn.Linear(2 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.activation(self.up(self.norm2(x))))


class Net(nn.Module):
    def __init__(self, width=8, heads=2, depth=2):
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.second(self.first(x))
        x = x * torch.sigmoid(self.gate(x))
        return self.head(self.norm(x))
"""

BATCH = (3, 4, 6)


class Edit(NamedTuple):
    """An edit of the model, or of how its step is run.

    Args:
        lines: old -> new text of the source; the old ones occur once.
        before, after: options of the step.
        layers: the layers of which something should be told, their numbers as ``*``.
        before_lines: an edit that the model has before.
    """

    lines: Mapping[str, str]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    layers: frozenset[str]
    before_lines: Mapping[str, str]


def edited(lines: Mapping[str, str]) -> type[torch.nn.Module]:
    """The model's class after an edit."""
    source = SOURCE
    for old, new in lines.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    names: dict[str, Any] = {"__name__": "edited"}
    exec(compile(source, "model.py", "exec"), names)
    model: type[torch.nn.Module] = names["Net"]
    return model


def snapshot(lines: Mapping[str, str], options: Mapping[str, Any], batch: Any = None) -> Snapshot:
    """The step of the model after an edit."""
    if batch is None:
        batch = torch.zeros(BATCH)
    return Snapshot.of(fr.count(edited(lines)(), batch, loss="sum", **options))


@cache
def original(
    options: tuple[tuple[str, Any], ...] = (), lines: tuple[tuple[str, str], ...] = ()
) -> Snapshot:
    """The step of the model as it is."""
    return snapshot(dict(lines), dict(options))
