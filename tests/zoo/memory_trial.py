"""One model of a zoo, and the memory of its steps: are saved bytes affine in the batch, are they
those of the formulas, and does training take more than inference?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from flopratio.ledger import Ledger
from flopratio.verbs.count import count


@dataclass(frozen=True)
class MemoryTrial:
    """What three steps of a model kept.

    Args:
        saved: bytes saved for the backward, at each batch.
        first_difference: where the formulas and autograd's hooks part ways first; empty if nowhere.
        training, inference: peak bytes, at each batch.
    """

    saved: tuple[int, ...]
    first_difference: str
    training: tuple[int, ...]
    inference: tuple[int, ...]

    @property
    def affine(self) -> bool:
        """Whether equal steps in the batch save equally many bytes more."""
        steps = {after - before for before, after in zip(self.saved, self.saved[1:], strict=False)}
        return len(steps) == 1

    @property
    def training_above_inference(self) -> bool:
        return all(more > less for more, less in zip(self.training, self.inference, strict=True))


def attempt_memory(spec: str, batches: tuple[int, ...] = (2, 3, 4), **settings: Any) -> MemoryTrial:
    """Count a model's step at several batch sizes, an equal distance apart."""
    warnings.simplefilter("ignore")
    ledgers: list[Ledger] = [count(spec, batch, **settings) for batch in batches]
    differences = [str(each) for ledger in ledgers for each in ledger.saved_mismatches]
    return MemoryTrial(
        tuple(ledger.memory.saved_activations for ledger in ledgers),
        differences[0] if differences else "",
        tuple(ledger.memory.peak for ledger in ledgers),
        tuple(ledger.memory.inference_peak for ledger in ledgers),
    )
