"""Two ledgers, compared operator by operator."""

from flopratio.ledger import Ledger, Mismatch, Row
from flopratio.verbs.compare import compare


def row(layer: str, op: str, flops: int, elementwise: int = 0) -> Row:
    return Row(layer, "Linear", op, "", "forward", flops, elementwise, 0, 0)


def test_equal_work_in_other_rows_is_no_difference() -> None:
    one = Ledger([row("a", "aten.mm", 6, 2), row("a", "aten.t", 0)])
    other = Ledger([row("a", "aten.mm", 4), row("a", "aten.mm", 0, 4)])
    assert compare(one, other) == []


def test_what_either_lacks_is_told() -> None:
    analytic = Ledger([row("a", "aten.mm", 6), row("b", "aten.mm", 6)])
    executed = Ledger([row("a", "aten.mm", 6), row("b", "aten.mm", 5), row("c", "aten.relu", 0, 1)])
    assert compare(analytic, executed) == [
        Mismatch("b", "forward", 6, 5, ("aten.mm",)),
        Mismatch("c", "forward", 0, 1, ("aten.relu",)),
    ]
