"""Small models that several steps share."""

from __future__ import annotations

import torch
from torch import nn

ROWS, WIDTH, HIDDEN, CLASSES = 4, 6, 8, 3
"""Of :func:`mlp`: rows of a batch, width of the input, of the hidden layer, number of classes."""

FIRST = 2 * ROWS * WIDTH * HIDDEN
"""FLOP of its first layer."""
LAST = 2 * ROWS * HIDDEN * CLASSES
"""FLOP of its last layer."""

ONE_STEP = {"forward": FIRST + LAST, "grad_input": LAST, "grad_weight": FIRST + LAST}
"""The law for a plain step: the input asks for no gradient."""


def times(factor: int, figures: dict[str, int]) -> dict[str, int]:
    """Figures of so many equal steps."""
    return {name: factor * figure for name, figure in figures.items()}


def mlp(width: int = WIDTH, hidden: int = HIDDEN, classes: int = CLASSES) -> nn.Sequential:
    """Two linear layers and a ReLU."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def batch(rows: int = ROWS, width: int = WIDTH, classes: int = CLASSES) -> tuple[torch.Tensor, ...]:
    """Inputs and labels."""
    return torch.randn(rows, width), torch.randint(classes, (rows,))
