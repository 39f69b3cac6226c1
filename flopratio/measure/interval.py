"""A median and how sure it is, by order statistics: whatever the values' distribution is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A median and its 95% confidence interval; of few values it is less sure, see
    :func:`confidence_of`."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Distribution-free, from order statistics.

        1. How many of n values lie below the true median is binomial(n, 1/2).
        2. So the k-th smallest and the k-th largest enclose it with probability
           1 - 2 P(binomial < k).
        3. The interval is that of the largest k with 95% or more. Below 6 values there is none:
           then it is the smallest and the largest value.
        """
        ordered = sorted(values)
        count = len(ordered)
        k, outside = 1, 2 / 2**count
        while outside + 2 * math.comb(count, k) / 2**count <= 1 - CONFIDENCE:
            outside += 2 * math.comb(count, k) / 2**count
            k += 1
        return cls(statistics.median(ordered), ordered[k - 1], ordered[-k])


def confidence_of(count: int) -> float:
    """How sure the interval of so many values is, at least: 95%, of fewer than 6 as sure as the
    smallest and the largest of them enclose the median, ``1 - 2^(1 - n)`` (75% of 3)."""
    return min(CONFIDENCE, 1 - 2.0 ** (1 - count))
