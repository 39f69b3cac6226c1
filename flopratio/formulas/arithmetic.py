"""What one operation on two numbers costs, in FLOP of real numbers, where either may be complex.

With x = a + bi and y = c + di:

- x + y is an addition of either part, 2; of a complex and a real number 1.
- x y = (ac - bd) + (ad + bc) i: 4 multiplications, 2 additions, 6; by a real number 2.
- x / y = ((ac + bd) + (bc - ad) i) / (c c + d d): 6 for the numerator, 3 for the denominator, 2
  divisions, 11; by a real number 2. Of a real number by a complex one the numerator is ac, -(ad),
  3 with the sign: 8.
- abs(x) = sqrt(a a + b b): 2 multiplications, an addition, a root, 4.

Of real numbers each is 1.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import Tensor


def is_complex(value: Any) -> bool:
    """Whether an operand, a tensor or a number, is complex."""
    return value.is_complex if isinstance(value, Tensor) else isinstance(value, complex)


def addition(self: Any, other: Any) -> int:
    """FLOP of self + other; of self - other as many."""
    return 2 if is_complex(self) and is_complex(other) else 1


def multiplication(self: Any, other: Any) -> int:
    """FLOP of self * other."""
    return {0: 1, 1: 2, 2: 6}[is_complex(self) + is_complex(other)]


def division(self: Any, other: Any) -> int:
    """FLOP of self / other."""
    if is_complex(other):
        return 11 if is_complex(self) else 8
    return 2 if is_complex(self) else 1


def modulus(self: Any) -> int:
    """FLOP of abs(self)."""
    return 4 if is_complex(self) else 1


def squared_modulus(self: Any) -> int:
    """FLOP of abs(self) ** 2, which needs no root: a a + b b."""
    return 3 if is_complex(self) else 1
