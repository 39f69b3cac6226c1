"""The verdict as a document."""

import json

from flopratio.report.check.document import to_json
from flopratio.verbs.check.times import TimeChange
from tests.report.check.small import verdict
from tests.verbs.check.small import small


def case(counts, **further):
    (found,) = json.loads(to_json(verdict(counts, **further)))["cases"]
    return found


def test_a_case_with_all_that_was_found():
    found = case(
        {"a": small(inner=50)},
        ratio=1.5,
        times={"a": TimeChange("cpu", (1.9, 2.0, 2.1), (2.4, 2.5, 2.6), 0.1)},
    )
    assert found["states"] == ["CHANGED", "FAILED"]
    counts_changed, *_ = [said for said in found["findings"] if "the counts are not" in said]
    assert counts_changed.endswith(found["cause"])
    assert len(found["findings"]) == 3
    assert found["violations"] == [
        {"name": "ratio", "expected": "= 1.5", "found": 2.0, "layers": [],
         "sentence": "ratio is 2, expected = 1.5"}
    ]  # fmt: skip
    assert found["difference"]["totals"] == {"forward": [200, 150]}
    assert found["time_ratio"] == {
        "machine": "cpu", "before": [1.9, 2.0, 2.1], "after": [2.4, 2.5, 2.6]
    }  # fmt: skip


def test_a_case_that_could_not_be_counted():
    found = case({"a": "it can't be built"}, times={})
    assert found["findings"] == [found["not_counted"]] == ["it can't be built"]
    assert found["snapshot"] is found["difference"] is found["time_ratio"] is None
