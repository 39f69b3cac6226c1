"""The models of Chinchilla's table A4 (Hoffmann et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from experiments.literature.gpt import GPT, Sizes

CONTEXT, VOCABULARY = 2048, 32000


class RelativePositions(nn.Module):
    """Parameters of a block that its count leaves out: keys of the positions, and two biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.empty(width, width))
        self.content_bias = nn.Parameter(torch.empty(width))
        self.position_bias = nn.Parameter(torch.empty(width))


def chinchilla(row: Mapping[str, str]) -> GPT:
    layers, width, hidden, heads, head_width = (
        int(row[column]) for column in ("layers", "d_model", "ffw", "heads", "kv")
    )
    sizes = Sizes(layers, width, heads, VOCABULARY, CONTEXT, head_width, hidden)
    with torch.device("meta"):
        model = GPT(sizes)
        for block in model.blocks:
            block.relative_positions = RelativePositions(width)
    return model
