"""What can be expected of a step, and how it is told where it does not hold."""

from dataclasses import replace

import pytest

from flopratio.errors import UsageError
from flopratio.verbs.check.expectation import QUANTITIES, read_expectation
from tests.verbs.check.small import small

# forward 200, backward 300 (first layer 100 of 100, inner 200 of 100), recompute 50, update 20,
# parameters 10, saved 40 bytes, peak 4 KiB.

CASES = ("toy", "other")


def violations(name, written, snapshot=None, **others):
    expectation = read_expectation(name, written, CASES)
    return expectation.violations(small() if snapshot is None else snapshot, others)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("ratio", 1.5),
        ("ratio", "1.5"),
        ("ratio", "= 1.5"),
        ("ratio", "== 1.5"),
        ("ratio", "!= 2"),
        ("ratio", [">= 1.4", "< 1.6"]),
        ("ratio", "1.49 +- 0.01"),
        ("ratio", "1.51 ± 0.01"),
        ("ratio[inner]", 2),
        ("ratio[in*]", 2),
        ("ratio[first]", 1),
        ("ratio[*]", [">= 1", "<= 2"]),  # the activation has no products, and no ratio
        ("first_layer_ratio", 1),
        ("ratio_with_update", 1.6),  # (300 + 20) / 200
        ("ratio_with_elementwise", "1.483 +- 0.001"),  # 307 / 207
        ("recompute_share", "<= 10%"),  # 50 / 550
        ("recompute_share", "> 9 %"),
        ("forward", 200),
        ("forward", "200 FLOP"),
        ("forward", "1 kFLOP"),  # a size in a unit is a limit
        ("forward", "<= 0.2 kFLOP"),
        ("forward", "< 12.4 GFLOPs"),
        ("forward[inner]", 100),
        ("backward", 300),
        ("model", 500),
        ("hardware", 550),
        ("update", 20),
        ("saved_bytes", 40),
        ("saved_bytes[first]", "= 40 B"),
        ("parameters", 10),
        ("parameters", "<= 1 million"),
        ("parameters", "< 1_000"),
        ("peak", "4 KiB"),
        ("peak", "<= 80 GiB"),
        ("peak", 4096),
        ("uncounted_ops", 0),
        ("reconciled", True),
    ],
)
def test_what_holds(name, written):
    assert violations(name, written) == []


@pytest.mark.parametrize(
    ("name", "written", "found"),
    [
        ("ratio", 2, 1.5),
        ("ratio", "1.51 +- 0.001", 1.5),
        ("forward", "< 0.2 kFLOP", 200),
        ("forward[inner]", "> 100", 100),
        ("recompute_share", "<= 9%", 1 / 11),
        ("peak", "< 4 KiB", 4096),
        ("parameters", "10 thousand", 10),
        ("reconciled", False, 1),
        ("uncounted_ops", 1, 0),
    ],
)
def test_what_does_not_hold(name, written, found):
    (violation,) = violations(name, written)
    assert violation.name == name
    assert float(violation.found) == pytest.approx(found)
    assert not violation.problem


def test_a_ratio_holds_in_each_layer_that_matches():
    (violation,) = violations("ratio[*]", 2)
    assert violation.layers == ("first",)
    assert violation.found == 1


def test_the_first_layer_is_the_first_that_has_products():
    one = small()
    order = {path: one.layers[path] for path in ("act", "first", "inner")}
    assert violations("first_layer_ratio", 1, replace(one, layers=order)) == []


def test_what_was_not_compared_is_not_reconciled():
    (violation,) = violations("reconciled", True, small(reconciled=None))
    assert violation.found == 0


def test_a_ratio_is_exact():
    third = small(inner=50)  # 300 of 150, and 200 of 50
    assert violations("ratio", 2, third) == []
    assert violations("ratio", 2.0000001, third) != []


def test_each_of_a_list_is_told():
    assert [one.expected for one in violations("ratio", ["> 2", "< 1", "> 1"])] == ["> 2", "< 1"]


def test_relation_to_another_case():
    twice = small(inner=300)  # forward 400
    assert violations("forward", "<= 0.5 * other", other=twice) == []
    assert violations("forward", "= other * 0.5", other=twice) == []
    assert violations("forward", "< other", other=twice) == []
    (violation,) = violations("forward", "< 0.5 * other", other=twice)
    assert violation.limit == 200
    assert violation.expected == "< 0.5 * other"


def test_relation_of_several_layers():
    (violation,) = violations("ratio[*]", "<= other", other=small())
    assert violation.problem == "of several layers there is no one to compare with"
    assert violations("ratio[inner]", "<= other", other=small()) == []


def test_relation_to_a_case_that_could_not_be_counted():
    (violation,) = violations("forward", "< other")
    assert violation.problem == "other could not be counted"


@pytest.mark.parametrize(
    ("name", "written", "problem"),
    [
        ("ratio[layer9.*]", 2, "layer9.* matches no layer: names are like"),
        ("ratio[act]", 2, "no layer that matches act has products"),
        ("inference_peak", "< 1 GiB", "there is no inference_peak"),
    ],
)
def test_what_cannot_be_judged_does_not_hold(name, written, problem):
    (violation,) = violations(name, written)
    assert violation.problem.startswith(problem)


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("ratoi", 2, "nothing called 'ratoi' to expect: did you mean 'ratio'?"),
        ("peak_memory", 2, "nothing called 'peak_memory'"),
        ("peak[layer1]", 2, "peak is of the whole step, and takes no pattern"),
        ("first_layer_ratio[a]", 2, "is of the whole step"),
        ("ratio", True, "ratio = True will not do: write 2,"),
        ("ratio", [], "ratio is an empty list"),
        ("ratio", {"min": 2}, "will not do"),
        ("ratio", ">=", "will not do"),
        ("ratio", float("nan"), "will not do"),
        ("ratio", "2 GiB", "counted otherwise than in 'GiB'"),
        ("forward", "12 GiB", "counted otherwise than in 'GiB'"),
        ("peak", "<= 80", "has no unit"),
        ("peak", "<= 80 GFLOP", "GFLOP in peak=80 GFLOP is no unit of memory"),
        ("peak", "< 0.5 * othr", "there is no case 'othr': did you mean 'other'?"),
        ("peak", "about 2", "nor the name of a case"),
        ("peak", "2 GiB +- 1 GiB", "nor the name of a case"),
        ("forward", "2 +- 1", "will not do"),
        ("reconciled", 1, "reconciled = 1 will not do: write true or false"),
    ],
)
def test_what_has_no_meaning(name, written, said):
    with pytest.raises(UsageError) as error:
        read_expectation(name, written, CASES)
    assert said in str(error.value)


def test_every_quantity_is_judged():
    for name in QUANTITIES:
        written = True if name == "reconciled" else 10**15
        assert len(violations(name, written)) == (name != "reconciled")
