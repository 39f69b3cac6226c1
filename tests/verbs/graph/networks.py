"""Small networks whose graphs have all that makes a graph hard to draw."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class Block(nn.Module):
    """A residual block that writes in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + x)


def residual() -> tuple[nn.Module, torch.Tensor]:
    """Two blocks, one of which runs twice; a branch; and a head."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3)
            self.first, self.second = Block(4), Block(4)
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
            self.head = nn.Sequential(
                OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(4, 3))
            )

        def forward(self, x):
            x = self.stem(x)
            y = self.first(self.second(self.first(x)))
            return self.head(y * self.gate(x))

    return Residual(), torch.empty(2, 3, 8, 8)


def encoder() -> tuple[nn.Module, torch.Tensor]:
    """A transformer's layer, with a mask made of constants, and a head tied to the embedding."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 8)
            self.positions = nn.Embedding(5, 8)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)
            )

        def forward(self, ids):
            x = self.embedding(ids) + self.positions(torch.arange(ids.shape[1]))
            mask = torch.triu(torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool), 1)
            for layer in self.layers:
                x = layer(x, src_mask=mask)
            return x @ self.embedding.weight.T

    return Encoder(), torch.zeros(3, 5, dtype=torch.int64)


def recurrent() -> tuple[nn.Module, torch.Tensor]:
    """Two layers that do everything in one operator each, and a statistic that nobody reads."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(6, 5, num_layers=2, batch_first=True)
            self.out = nn.Linear(5, 2)
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, x):
            x, _ = self.cell(x)
            self.mean.mul_(0.9).add_(x.detach().mean())
            return self.out(x[:, -1])

    return Recurrent(), torch.empty(2, 4, 6)
