"""Where a graph's parts stand: nothing upon anything else, and arrows the right way."""

from itertools import combinations, pairwise

import pytest

from flopratio.report.graph.layout import RADIUS, SQUARE, layout
from flopratio.step.options import StepOptions
from flopratio.verbs.graph import graph_step
from flopratio.verbs.graph.folding import folded
from tests.verbs.graph.networks import encoder, recurrent, residual

MODELS = {"mlp": lambda: ("mlp", 2), "residual": residual, "encoder": encoder, "lstm": recurrent}


@pytest.fixture(scope="module", params=MODELS)
def graphs(request):
    model, batch = MODELS[request.param]()
    graph = graph_step(model, batch, {}, StepOptions(), operators=True)
    return [folded(graph, depth) for depth in (None, 2, 1, 0)]


def laid_out(graph):
    return layout(graph, [100.0] * len(graph.operators), [60.0] * len(graph.variables), 70.0)


def test_everything_has_a_place(graphs):
    for graph in graphs:
        lay = laid_out(graph)
        assert set(lay.variables) == set(range(len(graph.variables)))
        assert set(lay.operators) == set(range(len(graph.operators)))


def test_nothing_stands_upon_anything_else(graphs):
    for graph in graphs:
        lay = laid_out(graph)
        middles = [
            *((point, SQUARE / 2) for point in lay.variables.values()),
            *((point, RADIUS) for point in lay.operators.values()),
        ]
        for (one, half), (other, other_half) in combinations(middles, 2):
            apart = max(abs(one.x - other.x), abs(one.y - other.y))
            assert apart >= half + other_half, (one, other)


def test_everything_is_on_the_page(graphs):
    for graph in graphs:
        lay = laid_out(graph)
        for point in (*lay.variables.values(), *lay.operators.values()):
            assert SQUARE / 2 <= point.x <= lay.width - SQUARE / 2
            assert 70 + SQUARE / 2 <= point.y <= lay.height - SQUARE / 2


def test_forward_runs_from_left_to_right(graphs):
    for graph in graphs:
        lay = laid_out(graph)
        for index, operator in enumerate(graph.operators):
            for variable in operator.writes:
                assert lay.operators[index].x < lay.variables[variable].x
            for variable in set(operator.reads) - lay.above:
                assert lay.variables[variable].x < lay.operators[index].x


def test_arrows_run_from_one_end_to_the_other_and_turn_at_right_angles(graphs):
    for graph in graphs:
        lay = laid_out(graph)
        for (variable, index), way in lay.reads.items():
            assert (way[0], way[-1]) == (lay.variables[variable], lay.operators[index])
            if len(way) > 2:
                assert all(one.x == other.x or one.y == other.y for one, other in pairwise(way))


def test_no_arrow_runs_through_a_square_or_circle_that_stands_in_a_lane(graphs):
    for graph in graphs:
        lay = laid_out(graph)
        for (variable, index), way in lay.reads.items():
            for place, point in lay.operators.items():
                for one, other in pairwise(way):
                    level = one.y == other.y == point.y
                    low, high = sorted((one.x, other.x))
                    within = low < point.x - RADIUS and point.x + RADIUS < high
                    assert not (level and within), (variable, index, place)


def test_the_textbooks_network_is_a_straight_line():
    graph = graph_step("mlp", 2, {"depth": 1}, StepOptions())
    lay = laid_out(graph)
    on_lane = [point for number, point in lay.variables.items() if number not in lay.above]
    assert len({point.y for point in (*on_lane, *lay.operators.values())}) == 1
    above = {graph.variables[number].name for number in lay.above}
    assert above == {
        "first.linear.weight",
        "first.linear.bias",
        "output.weight",
        "output.bias",
        "target",
    }
