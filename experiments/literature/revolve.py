"""Griewank & Walther 2000, Algorithm 799: a chain is reversed with few snapshots and the fewest
forward steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from torch import Tensor
from torch.utils.checkpoint import checkpoint


@cache
def fewest(steps: int, snapshots: int) -> tuple[int, int]:
    """The fewest forward steps to reverse a chain from its stored start, and how many to go before
    the next snapshot. The start is one of the snapshots; to record a step while it is reversed is
    not counted."""
    if steps == 1:
        return 0, 0
    nearest = 1 if snapshots > 1 else steps - 1  # with no other snapshot, to the last step
    return min(
        (ahead + fewest(steps - ahead, snapshots - 1)[0] + fewest(ahead, snapshots)[0], ahead)
        for ahead in range(nearest, steps)
    )


def scheduled(step: Callable[[Tensor], Tensor], x: Tensor, steps: int, snapshots: int) -> Tensor:
    """So many steps, of which only the start of each snapshot is kept."""
    if steps == 1:
        return step(x)
    _, ahead = fewest(steps, snapshots)
    first = partial(scheduled, step, steps=ahead, snapshots=snapshots)
    x = checkpoint(first, x, use_reentrant=False, preserve_rng_state=False)
    return scheduled(step, x, steps - ahead, snapshots - 1)
