"""What several experiments count with: models of many layers by two small ones, and schedules."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from experiments.corrections import outer_product
from experiments.literature.gpt import Sizes, tokens, weightless
from experiments.literature.steps import counts_of, of_layers, trained
from experiments.pipeline import Stage, bubble, order, scheduled


@pytest.mark.parametrize("recompute", [False, True])
def test_models_of_one_and_two_layers_tell_one_of_five(recompute: bool) -> None:
    sizes = Sizes(5, 16, 2, vocabulary=30, context=8, recompute=recompute)
    inputs = tokens(2, 8)
    found = of_layers(lambda few: weightless(replace(sizes, layers=few)), 5, inputs)
    assert found == counts_of(trained(weightless(sizes), inputs))
    assert (found.recompute > 0) == recompute


def test_a_pipeline_of_two_stages_by_hand() -> None:
    """F0 F1 | B0 F2 ... : the first device waits for F and B of the second once, 1 + 2."""
    stages = [Stage(1, 2)] * 2
    blocks = scheduled(stages, p=2, m=4)
    assert max(block.end for block in blocks) == 4 * 3 + 3
    assert bubble(blocks, stages, p=2, m=4) == Fraction(1, 4)


def test_every_pass_runs_once_and_no_device_does_two_at_a_time() -> None:
    p, m, v = 4, 8, 2
    blocks = scheduled([Stage(3, 5)] * (p * v), p, m)
    assert len({(b.kind, b.microbatch, b.stage) for b in blocks}) == len(blocks) == 2 * m * p * v
    for rank in range(p):
        own = sorted((b.start, b.end) for b in blocks if b.stage % p == rank)
        assert all(end <= start for (_, end), (start, _) in pairwise(own))
    assert order(0, p, m, v)[:5] == [("forward", n, 0) for n in range(4)] + [("forward", 0, 4)]


def test_an_outer_product_has_no_additions() -> None:
    assert outer_product(3, 4) == (0, 12)
