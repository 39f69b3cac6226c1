"""The largest of several polynomials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from flopratio.closed_form.polynomial import Polynomial


@dataclass(frozen=True)
class Largest:
    """The largest of several polynomials, whichever that is at some sizes.

    Args:
        forms: at least one.
    """

    forms: tuple[Polynomial, ...]

    @property
    def keys(self) -> frozenset[str]:
        """The KEYs that it depends on."""
        return frozenset().union(*(form.keys for form in self.forms))

    def __call__(self, values: Mapping[str, int]) -> Fraction:
        """The value, exactly."""
        return max(form(values) for form in self.forms)

    def substitute(self, values: Mapping[str, int]) -> Largest:
        """The same in the other KEYs, with values for some."""
        return Largest(tuple(dict.fromkeys(form.substitute(values) for form in self.forms)))

    def leading(self, values: Mapping[str, int]) -> Polynomial:
        """That which is the largest there; of several the first."""
        return max(self.forms, key=lambda form: form(values))

    def __str__(self) -> str:
        """As SymPy reads it."""
        written = ", ".join(map(str, self.forms))
        return written if len(self.forms) == 1 else f"Max({written})"
