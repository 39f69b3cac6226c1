"""Weight decay as people have it: in the update of an optimizer, or as a term of the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from flopratio.errors import UsageError

if TYPE_CHECKING:
    import torch

LOSS = "loss"
"""``loss:0.01``: a term of the loss. The way stands before the number, as in ``auto:4``."""


class WeightDecay(NamedTuple):
    """One of the two; the other is None.

    Args:
        update: the ``weight_decay`` that the optimizer is given; None leaves it its own.
        loss: the factor of the term of the loss; see :func:`with_penalty`.
    """

    update: float | None = None
    loss: float | None = None


def read_weight_decay(written: str | float | None) -> WeightDecay:
    """What ``0.01`` or ``loss:0.01`` asks for.

    Raises:
        UsageError: it is neither.
    """
    if written is None:
        return WeightDecay()
    text = str(written)
    way, colon, number = text.rpartition(":")
    try:
        factor = math.nan if isinstance(written, bool) else float(number)
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf or (way, colon) not in (("", ""), (LOSS, ":")):
        raise UsageError(
            f"weight_decay={text} should be a number of at least 0, such as 0.01, or a term of the "
            f"loss with that factor, {LOSS}:0.01"
        )
    return WeightDecay(loss=factor) if way else WeightDecay(update=factor)


def with_penalty(
    loss: torch.Tensor, weights: Iterable[torch.Tensor], factor: float
) -> torch.Tensor:
    """The loss plus ``factor / 2`` times the sum of the squares of all weights, whose gradient is
    the one that ``SGD(weight_decay=factor)`` adds in its update. As the textbooks write it, weight
    by weight; its FLOP are those of the formula ``L2Penalty``."""
    for weight in weights:
        loss = loss + weight.pow(2).sum() * (factor / 2)
    return loss
