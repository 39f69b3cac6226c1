"""The memory of one step over its operators."""

from itertools import pairwise

import pytest
import torch

import flopratio as fr
from flopratio.report import figures
from flopratio.report.figures.timeline import _places, timeline_figure
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


def test_each_category_is_one_area_with_a_corner_only_where_it_moves():
    memory = fr.count("mlp", 2, depth=3, width=4, input=3, classes=2, optimizer="momentum").memory
    areas = timeline_figure(memory).axes[0].collections
    alive = {name: sizes for name, sizes in memory.timeline().items() if any(sizes)}
    assert [area.get_label().replace(" ", "_") for area in areas] == [*alive]
    assert all(low.get_zorder() > high.get_zorder() for low, high in pairwise(areas))
    edge = [0] * len(next(iter(alive.values())))
    for area, sizes in zip(areas, alive.values(), strict=True):
        edge = [below + own for below, own in zip(edge, sizes, strict=True)]
        (path,) = area.get_paths()
        heights = [y for _, y in path.vertices]
        assert {y for y in heights if y} == set(edge)  # bytes
        moves = 1 + sum(old != new for old, new in pairwise(edge))
        assert len(heights) <= 4 * moves + 5
    assert len(areas[0].get_paths()[0].vertices) < 10  # parameters: always there


def test_an_update_of_many_operators_takes_a_quarter():
    places = _places([("forward", range(3)), ("backward", range(3, 9)), ("update", range(9, 900))])
    assert len(places) == 901
    assert places[9] == 9
    assert places[-1] == pytest.approx(12)
