"""Steps that end because memory does."""

import pytest

from flopratio.ledger import ROOT, SAVED, Mismatch
from flopratio.step.out_of_memory import OutOfMemoryError


@pytest.mark.parametrize(
    ("phase", "layer", "where"),
    [
        ("forward", "layer1.0", "forward of layer1.0"),
        ("backward", "layer1.0", "backward at or after layer1.0"),
        ("update", None, "update"),
        ("forward", "", "forward of (model)"),
    ],
)
def test_where_memory_ran_out_is_told(phase: str, layer: str | None, where: str) -> None:
    assert str(OutOfMemoryError(phase, layer)).startswith(f"memory ran out in {where}: ")


def test_the_root_has_one_name_where_people_read_it() -> None:
    assert str(Mismatch("", "forward", 1, 2)).startswith(f"{ROOT} forward: 1 by the law")
    assert str(Mismatch("", SAVED, 1, 2)).startswith(f"{ROOT} saves 1 bytes")
