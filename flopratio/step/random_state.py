"""Random numbers of a step that nobody is to notice: the same in every call, and taken from none of
the caller's generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

SEED = 0


@contextmanager
def own_random_state(seed: int = SEED) -> Iterator[None]:
    """Torch's, Python's and NumPy's global generators start from a seed, and are as before
    afterwards.

    A model that draws numbers to choose its way (stochastic depth, a layer that is dropped) goes
    the same way each time. Generators of the model's own are copied with it.
    """
    with ExitStack() as exits:
        exits.callback(random.setstate, random.getstate())
        random.seed(seed)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            exits.callback(numpy.random.set_state, numpy.random.get_state())
            numpy.random.seed(seed)
        exits.callback(torch.set_rng_state, torch.get_rng_state())
        # Not torch.manual_seed: it has CUDA seeded too, whenever that is first used.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            exits.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
            torch.cuda.manual_seed_all(seed)
        yield
