"""Medians and how sure they are."""

from __future__ import annotations

import pytest

from flopratio.measure.interval import Interval, confidence_of


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([5.0], 5, 5),
        ([3.0, 1.0, 2.0], 1, 3),
        (range(1, 7), 1, 6),  # 1 - 2 / 2**6 = 0.969
        (range(1, 9), 1, 8),  # the second: 1 - 2 * (1 + 8) / 2**8 = 0.930, too little
        (range(1, 10), 2, 8),  # the second: 1 - 2 * (1 + 9) / 2**9 = 0.961
        (range(1, 21), 6, 15),  # the sixth: 0.959, the seventh 0.885
    ],
)
def test_interval_is_the_narrowest_pair_of_order_statistics_with_95_percent(values, low, high):
    interval = Interval.of(values)
    assert (interval.low, interval.high) == (low, high)
    assert interval.low <= interval.median <= interval.high


@pytest.mark.parametrize(
    ("count", "confidence"),
    [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375), (6, 0.95), (20, 0.95)],
)
def test_of_few_values_it_is_less_sure(count, confidence):
    assert confidence_of(count) == confidence
