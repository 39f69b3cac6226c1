"""The cases of a project: which steps are checked, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flopratio.step.written import WrittenStep
from flopratio.verbs.check.expectation import Expectation

LOCK = "flopratio.lock.json"
"""The lock's name; it lies beside the file of the cases."""

TIME_TOLERANCE = 0.1
"""By how much intervals of a ratio of times may part, unless a project says otherwise."""


@dataclass(frozen=True)
class Case:
    """A step that is checked.

    Args:
        line: where it stands in its file, from 1; None where that isn't known.
    """

    name: str
    step: WrittenStep
    expectations: tuple[Expectation, ...] = ()
    line: int | None = None

    @property
    def needs(self) -> set[str]:
        """The other cases that it is compared with."""
        return set().union(*(each.cases for each in self.expectations))


@dataclass(frozen=True)
class Suite:
    """All cases of a project.

    Args:
        path: their file. Relative paths in a step start in its directory.
        cases: by name, in their order.
        time_tolerance: by how much intervals of a ratio of times may part, as a share.
    """

    path: Path
    cases: Mapping[str, Case]
    time_tolerance: float = TIME_TOLERANCE

    @property
    def lock(self) -> Path:
        return self.path.parent / LOCK
