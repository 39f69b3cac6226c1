"""The levers: which are combined, and what each buys and costs."""

import pytest
import torch

import flopratio as fr
from flopratio.verbs.fit.levers import Combination, combinations

GIVEN = Combination(None, "adamw", None, None, 1)
SIZES = {"depth": 4, "width": 16, "input": 8}


@pytest.fixture(scope="module")
def found():
    return fr.fit("mlp", optimizer="adamw", levers=True, memory="100KiB", **SIZES)


def options(combination):
    return combination._asdict()


# -- which ----------------------------------------------------------------------------------------


def test_what_is_given_comes_first_then_one_lever_at_a_time():
    every = combinations(GIVEN)
    assert every[0] == GIVEN
    singles = [one.moved(GIVEN) for one in every[1:7]]
    assert singles == [
        {"checkpoint": "auto"},
        {"optimizer": "momentum"},
        {"optimizer": "sgd"},
        {"amp": "bf16"},
        {"dtype": "bfloat16"},
        {"accumulate": 4},
    ]
    assert len(every) == len(set(every)) == 2 * 3 * 3 + 2


@pytest.mark.parametrize(
    ("given", "name", "values"),
    [
        (GIVEN._replace(optimizer="none"), "optimizer", {"none"}),
        (GIVEN._replace(optimizer="sgd"), "optimizer", {"sgd"}),
        (GIVEN._replace(optimizer="rmsprop"), "optimizer", {"rmsprop", "sgd"}),
        (GIVEN._replace(checkpoint="auto:4"), "checkpoint", {"auto:4", None}),
        (GIVEN._replace(checkpoint="a.*"), "checkpoint", {"a.*", "auto", None}),
        (GIVEN._replace(dtype="bfloat16"), "dtype", {"bfloat16"}),
        (GIVEN._replace(amp="fp16"), "amp", {"fp16", "bf16", None}),
        (GIVEN._replace(accumulate=8), "accumulate", {8, 1}),
    ],
)
def test_what_is_given_says_what_else_there_is(given, name, values):
    assert {getattr(one, name) for one in combinations(given)} == values


def test_inference_has_its_precision_alone():
    assert [one.moved(GIVEN) for one in combinations(GIVEN, inference=True)] == [
        {},
        {"amp": "bf16"},
        {"dtype": "bfloat16"},
    ]


# -- what they buy and cost -----------------------------------------------------------------------


def test_peaks_and_sizes_are_those_of_count(found):
    assert found.base == found.largest
    for lever in found.levers[::5]:
        parts = lever.combination.accumulate  # of the batch, one after another
        peaks = {
            size: fr.count("mlp", -(-size // parts), **SIZES, **options(lever.combination)).memory[
                "peak"
            ]
            for size in (found.base, lever.largest, lever.next)
        }
        assert lever.peak == peaks[found.base]
        assert lever.saved == found.peak - lever.peak
        assert lever.peak_at_largest == peaks[lever.largest] <= found.limit
        assert lever.peak_at_next == peaks[lever.next] > found.limit


def test_the_largest_comes_first(found):
    sizes = [lever.largest for lever in found.levers]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == len(combinations(GIVEN))


def test_what_is_given_is_the_measure(found):
    given = next(lever for lever in found.levers if lever.combination == GIVEN)
    assert (given.saved, given.flops_per_example) == (0, 1.0)
    assert (given.largest, given.peak) == (found.largest, found.peak)


def test_checkpointing_costs_recompute_and_micro_batches_nothing(found):
    costs = {lever.combination: lever.flops_per_example for lever in found.levers}

    def flops(combination, batch=found.base):
        total = fr.count("mlp", batch, **SIZES, **options(combination)).totals
        return total.forward + total.backward + total.recompute, total.update

    step, update = flops(GIVEN)
    again, _ = flops(GIVEN._replace(checkpoint="auto"))
    assert again > step
    assert costs[GIVEN._replace(checkpoint="auto")] == (again + update) / (step + update)
    part = -(-found.base // 4)
    parts, _ = flops(GIVEN._replace(accumulate=4), part)
    assert costs[GIVEN._replace(accumulate=4)] == (
        (parts + update) * found.base / ((step + update) * 4 * part)
    )
    assert parts * found.base == step * 4 * part


def test_micro_batches_buy_memory(found):
    peaks = {lever.combination: lever.peak for lever in found.levers}
    assert peaks[GIVEN._replace(accumulate=4)] < peaks[GIVEN]


def test_a_given_size_is_where_they_are_compared():
    found = fr.fit("mlp", 3, inference=True, levers=True, memory="100KiB", **SIZES)
    given = next(lever for lever in found.levers if not lever.saved)
    assert found.base == 3
    assert given.peak == fr.count("mlp", 3, inference=True, **SIZES).memory["peak"]


def test_a_lever_that_is_refused_is_told_once(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("from torch import nn\ndef layer(): return nn.Linear(6, 6)\n")
    monkeypatch.chdir(tmp_path)
    found = fr.fit("one.py:layer", memory="10kB", loss="sum", levers=True)
    refused = [lever for lever in found.levers if lever.refusal]
    assert [lever.combination.checkpoint for lever in refused] == ["auto"]
    assert found.levers[-1] == refused[0]
    assert refused[0].peak is None


# -- where nothing fits ---------------------------------------------------------------------------


def test_one_lever_that_makes_it_fit_is_named_before_several():
    least = fr.count("mlp", 1, **SIZES, optimizer="sgd").memory["peak"]
    found = fr.fit("mlp", optimizer="adamw", memory=least, **SIZES)
    assert found.largest == 0
    assert found.help is not None
    combination, tried = found.help
    assert combination == GIVEN._replace(optimizer="sgd")
    assert (tried.size, tried.peak) == (1, least)


def test_else_what_comes_nearest():
    found = fr.fit("mlp", optimizer="adamw", memory=100, **SIZES)
    assert found.help is not None
    combination, tried = found.help
    assert len(combination.moved(GIVEN)) == 3
    assert 100 < tried.peak < found.peak_at_next


def test_nothing_may_help():
    assert fr.fit("mlp", memory=100, inference=True, dtype="bfloat16", **SIZES).help is None


def test_levers_of_a_module_are_compared_at_the_largest_batch_that_fits() -> None:
    """The example's batch is where the search starts, and no value that was given for the KEY."""
    model = torch.nn.Linear(4, 4)
    found = fr.fit(model, torch.empty(2, 4), memory="10kB", optimizer="adamw", levers=True)
    assert found.base == found.largest > 2
    (given,) = [lever for lever in found.levers if lever.combination == GIVEN]
    assert (given.peak, given.saved) == (found.peak, 0)
