"""The oracle: numbers that count their own arithmetic, so that a layer written in plain loops tells
what it costs. Shares nothing with the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

COUNT = {"flops": 0, "before": 0}


def reset() -> None:
    COUNT["before"] += COUNT["flops"]
    COUNT["flops"] = 0


def counted() -> int:
    """Arithmetic operations since :func:`reset`: each +, -, *, /, comparison and function call."""
    return COUNT["flops"]


def ever_counted() -> int:
    """Arithmetic operations since the tests began."""
    return COUNT["before"] + COUNT["flops"]


class Counted:
    """A float; every operation on it counts one FLOP. Negation of a result counts too."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = float(value)

    @staticmethod
    def _other(other: Any) -> float:
        return other.value if isinstance(other, Counted) else float(other)

    def _did(self, value: float) -> Counted:
        COUNT["flops"] += 1
        return Counted(value)

    def __add__(self, other: Any) -> Counted:
        return self._did(self.value + self._other(other))

    def __sub__(self, other: Any) -> Counted:
        return self._did(self.value - self._other(other))

    def __mul__(self, other: Any) -> Counted:
        return self._did(self.value * self._other(other))

    def __truediv__(self, other: Any) -> Counted:
        return self._did(self.value / self._other(other))

    def __radd__(self, other: Any) -> Counted:
        return self._did(self._other(other) + self.value)

    def __rsub__(self, other: Any) -> Counted:
        return self._did(self._other(other) - self.value)

    def __rmul__(self, other: Any) -> Counted:
        return self._did(self._other(other) * self.value)

    def __rtruediv__(self, other: Any) -> Counted:
        return self._did(self._other(other) / self.value)

    def __neg__(self) -> Counted:
        return self._did(-self.value)

    def __abs__(self) -> Counted:
        return self._did(abs(self.value))

    def __gt__(self, other: Any) -> bool:
        COUNT["flops"] += 1
        return self.value > self._other(other)

    def __lt__(self, other: Any) -> bool:
        COUNT["flops"] += 1
        return self.value < self._other(other)

    def apply(self, function: str) -> Counted:
        """One evaluation of a function of :mod:`math` (``exp``, ``log``, ``erf``, ``tanh``)."""
        return self._did(getattr(math, function)(self.value))

    def sqrt(self) -> Counted:
        return self.apply("sqrt")


def tensor(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """An object array of counted random numbers."""
    values = np.random.default_rng(seed).normal(size=shape)
    return np.vectorize(Counted, otypes=[object])(values)


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Accumulators: adding to one is the addition of a multiply-add."""
    array = np.empty(shape, dtype=object)
    for index in np.ndindex(*shape):
        array[index] = Counted(0.0)
    return array


def values(array: np.ndarray) -> np.ndarray:
    """The plain floats, to compare with torch."""
    return np.vectorize(lambda number: number.value, otypes=[float])(array)
