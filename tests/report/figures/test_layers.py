"""The bars of each layer."""

from flopratio.ledger import LayerTotals
from flopratio.report import figures
from tests.report.figures.rows import texts


def test_layers_show_their_ratios(tmp_path):
    layers = [
        LayerTotals("first", "Linear", 2_000_000, 0, 2_000_000),
        LayerTotals("relu", "ReLU", elementwise_forward=10),
        LayerTotals("last", "Linear", 1_000_000, 1_000_000, 1_000_000),
    ]
    words = texts(figures.flops_by_layer(layers, tmp_path))
    assert "The first layer's backward costs its forward, every other's twice that" in words
    assert "FLOP of contractions (MFLOP)" in words
    assert {"first", "last", "1 : 1", "2 : 1"} <= set(words)
    assert "relu" not in words


def test_many_layers_are_cut_in_the_middle(tmp_path):
    layers = [LayerTotals(f"layer {i}", "Linear", 8, 8, 8) for i in range(40)]
    words = texts(figures.flops_by_layer(layers, tmp_path))
    assert {"layer 0", "layer 5", "layer 34", "layer 39"} <= set(words)
    assert not {"layer 6", "layer 33"} & set(words)
    assert any("28 more layers" in word for word in words)
    assert "FLOPs of each layer" in words
