"""What changed between two snapshots: worked examples, and what holds of any two."""

from dataclasses import replace
from itertools import combinations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flopratio.ledger import COUNTS
from flopratio.snapshot import MEMORY, LayerCounts, Snapshot
from flopratio.verbs.diff import Change, _increasing, difference


def layer(type="Linear", **counts):
    return LayerCounts.of(type, counts)


def snapshot(layers, **further):
    """One whose totals are its layers' sums."""
    totals = {column: sum(one.counts[column] for one in layers.values()) for column in COUNTS}
    return Snapshot(totals=totals, layers=layers, memory=dict.fromkeys(MEMORY, 7), **further)


BLOCKS = {
    "a": layer(forward=10, grad_weight=10),
    "b": layer(forward=10, grad_input=10, grad_weight=10),
    "c": layer(forward=10, grad_input=10, grad_weight=10),
    "act": layer("ReLU", elementwise_forward=3),
    "head": layer(parameters=4),
}


def test_nothing():
    same = difference(snapshot(BLOCKS), snapshot(dict(BLOCKS)))
    assert same.equal
    assert same.unchanged == 5
    assert same.layers == ()


def test_a_figure():
    after = snapshot({**BLOCKS, "b": layer(forward=20, grad_weight=10)})
    found = difference(snapshot(BLOCKS), after)
    assert not found.equal
    assert found.changed == {"b": {"forward": Change(10, 20), "grad_input": Change(10, 0)}}
    assert found.totals == {"forward": Change(30, 40), "grad_input": Change(20, 10)}
    assert found.unchanged == 4
    assert found.layers == ("b",)


def test_the_largest_comes_first():
    changes = {
        "a": layer(forward=11, grad_weight=10),
        "b": layer(forward=10, grad_input=10, grad_weight=30),
        "act": layer("ReLU", elementwise_forward=4),
    }
    found = difference(snapshot(BLOCKS), snapshot({**BLOCKS, **changes}))
    # 20 of 50, 1 of 4, 1 of 31.
    assert [(move.sign, move.layer) for move in found.moves()] == [
        ("~", "b"), ("~", "act"), ("~", "a")
    ]  # fmt: skip


def test_a_figure_that_was_nothing_is_no_larger_than_its_new_total():
    changes = {
        "a": layer(forward=10, grad_weight=10, recompute=5),
        "b": layer(forward=100, grad_input=10, grad_weight=10),
        "c": layer(forward=10, grad_input=10, grad_weight=10, recompute=5),
    }
    found = difference(snapshot(BLOCKS), snapshot({**BLOCKS, **changes}))
    # 90 of 120, 5 of 10, 5 of 10.
    assert [move.layer for move in found.moves()] == ["b", "a", "c"]


def test_layers_that_come_and_go():
    after = {path: each for path, each in BLOCKS.items() if path != "act"}
    found = difference(snapshot(BLOCKS), snapshot({**after, "gelu": layer("GELU")}))
    assert found.only_before == ("act",)
    assert found.only_after == ("gelu",)
    assert found.renamed == ()
    assert [tuple(move) for move in found.moves()] == [
        ("-", "act", "ReLU", {"elementwise_forward": Change(3, 0)}),
        ("+", "gelu", "GELU", {}),
    ]


def test_a_rename():
    after = {("fc" if path == "b" else path): each for path, each in BLOCKS.items()}
    found = difference(snapshot(BLOCKS), snapshot(after))
    assert found.renamed == (("b", "fc"),)
    assert found.layers == ("fc",)
    assert not found.totals
    assert not found.moved
    assert not found.equal


def test_renames_of_equal_layers_keep_the_ends_of_their_paths():
    linear = layer(forward=1)
    before = {"model.0.q": linear, "model.0.k": linear, "model.1.q": linear}
    after = {"net.1.q": linear, "net.0.k": linear, "net.0.q": linear, "net.2.q": linear}
    found = difference(snapshot(before), snapshot(after))
    assert dict(found.renamed) == {
        "model.0.q": "net.0.q", "model.0.k": "net.0.k", "model.1.q": "net.1.q"
    }  # fmt: skip
    assert found.only_after == ("net.2.q",)


def test_a_layer_of_another_class_is_no_rename():
    found = difference(
        snapshot({"a": layer("ReLU", elementwise_forward=3)}),
        snapshot({"b": layer("Abs", elementwise_forward=3)}),
    )
    assert found.renamed == ()
    assert (found.only_before, found.only_after) == (("a",), ("b",))


def test_another_class_with_equal_integers():
    after = {**BLOCKS, "act": layer("Abs", elementwise_forward=3)}
    found = difference(snapshot(BLOCKS), snapshot(after))
    assert found.retyped == {"act": ("ReLU", "Abs")}
    assert found.layers == ("act",)
    assert not found.equal


def test_the_models_own_class_is_its_name():
    found = difference(snapshot({"": layer("Net")}), snapshot({"": layer("Renamed")}))
    assert found.equal


def test_two_equal_layers_in_another_order():
    after = {path: BLOCKS[path] for path in ("a", "c", "b", "act", "head")}
    found = difference(snapshot(BLOCKS), snapshot(after))
    assert not found.equal
    assert found.moved in ({"b": "c"}, {"c": "a"})
    assert not found.changed


def test_what_only_holds_parameters_has_no_place_in_the_order():
    after = {path: BLOCKS[path] for path in ("head", "a", "b", "c", "act")}
    assert difference(snapshot(BLOCKS), snapshot(after)).equal


def test_what_one_side_does_not_know_is_not_compared():
    before, after = snapshot(BLOCKS), snapshot(BLOCKS)
    found = difference(before, replace(after, memory={**after.memory, "peak": None}))
    assert found.equal
    found = difference(before, replace(after, memory={**after.memory, "peak": 8}))
    assert found.memory == {"peak": Change(7, 8)}
    assert not found.equal


def test_operators_without_a_formula_and_reconciliation():
    before = replace(snapshot(BLOCKS), reconciled=True)
    assert not difference(before, replace(before, reconciled=False)).equal
    assert not difference(before, replace(before, uncounted_ops={"an.op": 2})).equal
    after = replace(before, reconciled=False, uncounted_ops={"an.op": 2})
    found = difference(before, after)
    assert found.uncounted_ops == {"an.op": Change(0, 2)}
    assert found.reconciled == (True, False)
    assert not found.equal


def test_how_it_was_counted_is_told_and_no_difference():
    before = replace(snapshot(BLOCKS), versions={"torch": "2.11"}, settings={"dropout": 0.1})
    after = replace(snapshot(BLOCKS), versions={"torch": "2.13"}, convention={"causal": "half"})
    found = difference(before, after)
    assert found.equal
    assert found.versions_differ
    assert found.versions == {"torch": ("2.11", "2.13")}
    assert found.settings == {"dropout": (0.1, None)}
    assert found.convention == {"causal": (None, "half")}


# -- of any two ------------------------------------------------------------------------------------

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that others use too may take its time."""

PATHS = st.text("ab.", min_size=1, max_size=4)
LAYERS = st.builds(
    LayerCounts.of,
    st.sampled_from(("Linear", "ReLU")),
    st.dictionaries(st.sampled_from(COUNTS), st.integers(0, 2)),
)
SNAPSHOTS = st.dictionaries(PATHS, LAYERS, max_size=8).map(snapshot)


@PATIENT
@given(SNAPSHOTS)
def test_a_snapshot_is_equal_to_itself(one):
    again = Snapshot.from_document(one.to_document())
    found = difference(one, again)
    assert found.equal
    assert found.unchanged == len(one.layers)


@PATIENT
@given(SNAPSHOTS, SNAPSHOTS)
def test_every_layer_is_told_once(before, after):
    found = difference(before, after)
    old, new = [a for a, _ in found.renamed], [b for _, b in found.renamed]
    shared = set(before.layers) & set(after.layers)
    assert sorted([*found.only_before, *old, *shared]) == sorted(before.layers)
    assert sorted([*found.only_after, *new, *shared]) == sorted(after.layers)
    touched = shared & {*found.changed, *found.retyped, *found.moved}
    assert found.unchanged == len(shared - touched)


@PATIENT
@given(SNAPSHOTS, SNAPSHOTS)
def test_the_changes_lead_from_one_to_the_other(before, after):
    """The totals of before, and what is said of the layers, give the totals of after."""
    found = difference(before, after)
    for column in COUNTS:
        total = before.totals[column]
        total += sum(
            changes[column].delta for changes in found.changed.values() if column in changes
        )
        total -= sum(before.layers[path].counts[column] for path in found.only_before)
        total += sum(after.layers[path].counts[column] for path in found.only_after)
        assert total == after.totals[column]
        moved = found.totals.get(column, Change(0, 0))
        assert before.totals[column] + moved.delta == after.totals[column]


@PATIENT
@given(SNAPSHOTS, SNAPSHOTS)
def test_back_again(before, after):
    there, back = difference(before, after), difference(after, before)
    assert there.equal == back.equal
    assert {
        path: {c: change.delta for c, change in of.items()} for path, of in there.changed.items()
    } == {path: {c: -change.delta for c, change in of.items()} for path, of in back.changed.items()}
    assert there.only_before == back.only_after
    assert there.only_after == back.only_before


@PATIENT
@given(SNAPSHOTS, st.permutations(range(8)))
def test_another_order_alone(one, order):
    paths = list(one.layers)
    shuffled = {paths[i]: one.layers[paths[i]] for i in order if i < len(paths)}
    found = difference(one, replace(one, layers=shuffled))
    running = [
        path
        for path in paths
        if any(n for c, n in one.layers[path].counts.items() if c != "parameters")
    ]
    assert found.equal == (running == [path for path in shuffled if path in running])
    assert set(found.moved) < set(running) or not running


@PATIENT
@given(SNAPSHOTS)
def test_a_new_prefix_is_a_rename_of_all(one):
    renamed = {f"new.{path}": each for path, each in one.layers.items()}
    found = difference(one, replace(one, layers=renamed))
    assert found.layers == tuple(renamed)
    assert found.renamed == tuple((path, f"new.{path}") for path in one.layers)


@PATIENT
@given(st.permutations(range(7)))
def test_the_longest_increasing_subsequence(numbers):
    kept = sorted(_increasing(numbers))
    chosen = [numbers[i] for i in kept]
    assert chosen == sorted(chosen)
    longest = max(
        length
        for length in range(1, 8)
        for some in combinations(numbers, length)
        if list(some) == sorted(some)
    )
    assert len(kept) == longest
