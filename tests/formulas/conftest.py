"""The mark of an oracle: a test that counts in loops what a formula says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.formulas.counting import ever_counted


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "oracle: loops that count, which share nothing with formulas"
    )


@pytest.fixture(autouse=True)
def an_oracle_counts(request: pytest.FixtureRequest) -> Iterator[None]:
    before = ever_counted()
    yield
    if request.node.get_closest_marker("oracle"):
        assert ever_counted() > before, "marked as an oracle, but counted nothing"
