"""What every test can count on."""

import os

import pytest

pytest_plugins = ["pytester"]

# The tests run in a process a core: threads of their own would be in each other's way. Before
# anything imports torch, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def no_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as into a pipe, whatever runs the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)
