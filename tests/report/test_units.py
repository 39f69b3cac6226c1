"""Figures for people: units, digits, and what may not be rounded away."""

import pytest

from flopratio.report.units import Kind, choose, plural, quantity, ratio_text, shorten


@pytest.mark.parametrize(
    ("figure", "kind", "text"),
    [
        (0, Kind.FLOP, "0 FLOP"),
        (999, Kind.FLOP, "999 FLOP"),
        (1_000, Kind.FLOP, "1.000 kFLOP"),
        (999_999, Kind.FLOP, "1,000.0 kFLOP"),
        (3_628_146_688, Kind.FLOP, "3.628 GFLOP"),
        (36_281_466_880, Kind.MAC, "36.28 GMAC"),
        (7 * 10**27, Kind.FLOP, "7,000,000 ZFLOP"),
        (1_023, Kind.BYTES, "1,023 B"),
        (1_536, Kind.BYTES, "1.500 KiB"),
        (140 * 2**30, Kind.BYTES, "140.0 GiB"),
        (11_689_512, Kind.PARAMETERS, "11.69 million"),
        (512, Kind.PARAMETERS, "512"),
    ],
)
def test_a_figure_alone_has_four_digits(figure, kind, text):
    assert quantity(figure, kind) == text


def test_exact_figures_have_all_digits():
    assert quantity(3 * 10**23 + 1, Kind.FLOP, exact=True) == (
        "300,000,000,000,000,000,000,001 FLOP"
    )


def test_the_largest_figure_of_a_column_chooses_its_unit():
    unit = choose([2_500_000_000, 40_000_000, 100], Kind.FLOP)
    assert unit.name == "GFLOP"
    assert [unit.format(figure) for figure in (2_500_000_000, 40_000_000)] == ["2.500", "0.040"]


def test_a_total_of_a_million_units_chooses_a_larger_one():
    unit = choose([600 * 2**10], Kind.BYTES, total=2**30 - 1)
    assert (unit.name, unit.format(2**30 - 1)) == ("KiB", "1,048,576.0")
    unit = choose([600 * 2**10], Kind.BYTES, total=2**30)
    assert (unit.name, unit.format(600 * 2**10), unit.format(2**30)) == (
        "MiB",
        "0.586",
        "1,024.000",
    )


def test_little_is_not_nothing():
    unit = choose([2_500_000_000], Kind.FLOP)
    assert unit.format(100) == "<0.001"
    assert unit.format(0) == "0"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, ""), (2.0, "2"), (0.0, "0"), (1.9999999, "2.000"), (1.8699, "1.870")],
)
def test_only_a_whole_ratio_is_printed_whole(ratio, text):
    assert ratio_text(ratio) == text


def test_long_names_keep_both_ends():
    assert shorten("transformer.h.11.attn.c_attn", 15) == "transfo….c_attn"
    assert shorten("conv1", 5) == "conv1"
    assert shorten("conv1", 1) == "…"


def test_plurals():
    assert (plural(1, "layer"), plural(1_024, "layer")) == ("1 layer", "1,024 layers")
