"""When Python collects garbage, which takes long where a process has many objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Python collects garbage after 700 new objects otherwise."""


@contextmanager
def few_collections() -> Iterator[None]:
    """Modules and traces are many objects, and hardly any of them garbage."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def leave_it_to_the_end() -> None:
    """A process that ends gives all back at once. Python looks through its objects for garbage
    before, which takes up to a second where transformers is imported."""
    gc.freeze()
