"""What every test can count on."""

import pytest


@pytest.fixture(autouse=True)
def no_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as into a pipe, whatever runs the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)
