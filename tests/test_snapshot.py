"""The snapshot of a step: its integers, and its way through documents."""

import json
import subprocess
import sys

import pytest

from flopratio.errors import UsageError
from flopratio.ledger import Ledger, Row
from flopratio.memory import Memory
from flopratio.snapshot import Snapshot


@pytest.fixture
def ledger():
    return Ledger(
        [
            Row("fc", "Linear", "aten.addmm", "", "forward", flops=10, elementwise=2),
            Row("act", "ReLU", "aten.relu", "", "forward", elementwise=3, saved_bytes=8),
            Row("fc", "Linear", "aten.mm", "AddmmBackward0", "grad_weight", flops=10),
            Row("fc", "Linear", "aten.add_", "", "update", elementwise=4),
        ],
        model="toy",
        settings={"batch": 2, "input": (8, 3)},
        parameters={"": 0, "fc": 6, "act": 0, "unused": 5},
        types={"": "Toy", "fc": "Linear", "act": "ReLU", "unused": "Linear"},
        versions={"torch": "2.13.0"},
        convention={"causal": "full"},
        memory=Memory(
            {"peak": 99, "peak_phase": "backward", "inference_peak": None, "temporaries": 5}
        ),
        uncounted_ops={"b.op": 1, "a.op": 2},
    )


def test_a_ledgers_integers(ledger):
    snapshot = Snapshot.of(ledger)
    assert list(snapshot.layers) == ["fc", "act", "unused"]
    assert snapshot.layers["fc"].type == "Linear"
    fc = {column: n for column, n in snapshot.layers["fc"].counts.items() if n}
    assert fc == {
        "forward": 10, "grad_weight": 10, "update": 4, "elementwise_forward": 2, "parameters": 6
    }  # fmt: skip
    assert snapshot.totals["parameters"] == 11
    assert snapshot.totals["saved_bytes"] == 8
    assert snapshot.memory["peak"] == 99
    assert snapshot.memory["inference_peak"] is None
    assert "temporaries" not in snapshot.memory  # which are the peak without all others
    assert list(snapshot.uncounted_ops) == ["a.op", "b.op"]


def test_the_same_of_a_saved_ledger(ledger):
    document = json.loads(ledger.to_json())
    assert Snapshot.from_document(document) == Snapshot.of(ledger)
    assert list(Snapshot.from_document(document).uncounted_ops) == ["a.op", "b.op"]
    del document["rows"]  # as `count --json` prints it
    assert Snapshot.from_document(document) == Snapshot.of(ledger)
    assert Snapshot.of(Ledger.from_json(ledger.to_json())) == Snapshot.of(ledger)


def test_its_own_document(ledger):
    snapshot = Snapshot.of(ledger)
    document = snapshot.to_document()
    assert document["layers"]["unused"] == {"type": "Linear", "parameters": 5}
    again = Snapshot.from_document(json.loads(json.dumps(document)))
    assert again == snapshot
    assert list(again.layers) == list(snapshot.layers)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "names no schema"),
        ({"schema": "flopratio.ledger/2"}, r"its schema is flopratio\.ledger/2"),
        ({"schema": "flopratio.ledger/1"}, "'layers' is missing"),
        ({"schema": "flopratio.snapshot/1"}, "'model' is missing"),
        ({"schema": "flopratio.ledger/1", "layers": 3}, "a part of it is wrong"),
    ],
)
def test_other_documents(document, sentence):
    with pytest.raises(UsageError, match=sentence):
        Snapshot.from_document(document)


def test_no_torch_is_needed():
    code = "import flopratio.snapshot, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
