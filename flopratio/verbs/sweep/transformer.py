"""What a sweep says of attention: its columns, and the claims that are judged on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from flopratio.ledger import Ledger
from flopratio.verbs.sweep.file import SweepRow
from flopratio.verbs.sweep.judgement import Judgement

LAW = 2


def columns(ledger: Ledger) -> Mapping[str, Any]:
    """The columns of a transformer, by its formulas; none of a network without attention."""
    layers = ledger.layers()
    attention = {layer.name: layer for layer in layers if layer.type == "Attention"}
    if not attention:
        return {}
    linear = [layer for layer in layers if layer.type == "Linear"]
    *projections, head = linear
    # Each operand of a product gets a gradient that costs as much as the product: half of forward.
    gradients = [
        4 * row.flops / attention[row.layer].forward
        for row in ledger.rows
        if row.layer in attention and row.flops and row.phase in ("grad_input", "grad_weight")
    ]
    tokens = ledger.settings["batch"] * ledger.settings["seq"]
    total = ledger.totals
    return {
        "attention_forward": sum(layer.forward for layer in attention.values()),
        "attention_ratio": _farthest([*(layer.ratio for layer in attention.values()), *gradients]),
        "projection_ratio": _farthest(layer.ratio for layer in projections),
        "head_ratio": head.ratio,
        "embedding_flops": sum(
            layer.forward + layer.backward for layer in layers if layer.type == "Embedding"
        ),
        # A product costs 2 FLOP for each weight and token.
        "product_weights": sum(layer.forward for layer in linear) // (2 * tokens),
        "six_n_d_ratio": 6 * total.parameters * tokens / (total.forward + total.backward),
    }


def _farthest(ratios: Iterable[float | None]) -> float:
    """Of ratios that should all be 2 that which is the least so."""
    return max((ratio or 0.0 for ratio in ratios), key=lambda ratio: abs(ratio - LAW))


def judge(judgement: Judgement) -> None:
    """Add the claims about transformers."""
    rows = [row for row in judgement.trained if row["attention_forward"]]
    _judge_layers(judgement, rows)
    _judge_attention(judgement, rows)
    _judge_token_estimate(judgement, rows)


def _judge_layers(judgement: Judgement, rows: Sequence[SweepRow]) -> None:
    for what, column in (
        ("every projection", "projection_ratio"),
        ("both products of attention", "attention_ratio"),
        ("the head, tied to the embedding or not", "head_ratio"),
    ):
        judgement.points(
            f"transformer, {what}: backward = 2 x forward",
            "2",
            rows,
            lambda row, column=column: bool(row[column] == LAW),  # type: ignore[misc]
            lambda row, column=column: row[column],  # type: ignore[misc]
            "{:.10g}",
        )
    judgement.points(
        "transformer, the embedding: looked up, no product in forward or backward",
        "0",
        rows,
        lambda row: bool(row["embedding_flops"] == 0),
        lambda row: row["embedding_flops"],
        "{}",
    )
    judgement.points(
        "transformer, as a whole: backward = 2 x forward, for its first layer is a lookup",
        "2",
        rows,
        lambda row: bool(row["backward"] == LAW * row["forward"]),
        lambda row: row["ratio"],
        "{:.10g}",
    )


def _judge_attention(judgement: Judgement, rows: Sequence[SweepRow]) -> None:
    def share(row: SweepRow) -> float:
        return float(row["attention_forward"] / row["forward"])

    def grows(line: list[SweepRow]) -> bool:
        """Attention by the square, all else by seq: so its share climbs."""
        return all(
            one["attention_forward"] * other["seq"] ** 2
            == other["attention_forward"] * one["seq"] ** 2
            and (one["forward"] - one["attention_forward"]) * other["seq"]
            == (other["forward"] - other["attention_forward"]) * one["seq"]
            for one, other in pairwise(line)
        )

    judgement.lines(
        "transformer, attention: quadratic in seq, all else linear, so that its share climbs",
        "share of forward, climbing",
        rows,
        "seq",
        2,
        grows,
        lambda line: [share(row) for row in line],
        "{:.1%}",
    )


def _judge_token_estimate(judgement: Judgement, rows: Sequence[SweepRow]) -> None:
    def of_products(row: SweepRow) -> int:
        return int(6 * row["product_weights"] * row["batch"] * row["seq"])

    def attention(row: SweepRow) -> int:
        return int((1 + LAW) * row["attention_forward"])

    def exact(row: SweepRow) -> int:
        return int(row["forward"] + row["backward"])

    def errs_as_told(row: SweepRow) -> bool:
        without = 6 * (row["parameters"] - row["product_weights"]) * row["batch"] * row["seq"]
        return bool((row["six_n_d_ratio"] > 1) == (without > attention(row)))

    judgement.points(
        "transformer, 6 N D, N the weights of products: all of forward and backward but attention",
        "6 N D + 3 x attention",
        rows,
        lambda row: exact(row) == of_products(row) + attention(row),
        lambda row: of_products(row) / exact(row),
        "{:.4f}",
    )
    judgement.points(
        "transformer, 6 N D, N all parameters: too low by attention, too high by tables, norms and "
        "biases",
        "over 1 where 6 D of these exceeds 3 x attention",
        rows,
        errs_as_told,
        lambda row: row["six_n_d_ratio"],
        "{:.4f}",
    )
