"""The memory of one step over its operators."""

import pytest
import torch

import flopratio as fr
from flopratio.report import figures
from flopratio.report.figures.timeline import _places
from tests.report.figures.rows import texts


def test_memory_timeline_names_the_phases_the_categories_and_the_peak(tmp_path):
    # W, b, x: 96 + 24 + 128 bytes; y, 192, and the loss, 4, make the peak.
    model, x = torch.nn.Linear(4, 6), torch.randn(8, 4)
    optimizer = torch.optim.SGD(model.parameters())
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
        optimizer.step()
    picture = tmp_path / "timeline.svg"
    figures.memory_timeline(profiler.ledger.memory, picture, "linear batch=8")
    words = texts([picture])
    assert "linear batch=8: 44% of the peak are temporaries" in words
    assert "peak 444.0 B: aten.sum for (step)" in words
    assert {"forward", "backward", "update", "live tensors (B)"} <= set(words)
    assert {"parameters", "inputs", "gradients", "temporaries"} <= set(words)
    assert "buffers" not in words  # there are none
    figures.memory_timeline(profiler.ledger.memory, tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_an_update_of_many_operators_takes_a_quarter():
    places = _places([("forward", range(3)), ("backward", range(3, 9)), ("update", range(9, 900))])
    assert len(places) == 901
    assert places[9] == 9
    assert places[-1] == pytest.approx(12)
