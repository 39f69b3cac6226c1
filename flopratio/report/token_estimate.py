"""6·N·D beside the exact count of a language model's step, and what lies between the two.

N parameters and D tokens give 6·N·D: each parameter meets each token in one multiply-add (2 FLOP)
in forward and in two in backward. Layer by layer, the exact count departs from 6·p·D of the layer's
own p parameters; every departure has one of the reasons below, so that the sum is exact.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from flopratio.ledger import Ledger, Row, autograd_node

ATTENTION = "attention: products of two activations, no parameter"
EMBEDDING = "embeddings: looked up, not multiplied"
SHARED = "head: multiplied, but its weights are counted elsewhere (tied)"
SCALES = "norms and other parameters outside of products"
BIASES = "biases, and weights that some tokens skip"
SKIPPED = "weights that most tokens skip (experts, a pooler)"
REPEATED = "weights that tokens meet more than once"
UNTRAINED = "gradients that nobody asks for (frozen, or of the input)"

REASONS = (ATTENTION, EMBEDDING, SHARED, SCALES, BIASES, SKIPPED, REPEATED, UNTRAINED)


class Difference(NamedTuple):
    """FLOP that the exact count has more (or, negative, less) than the estimate, and where."""

    reason: str
    flops: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class TokenEstimate:
    """The rule of thumb and the exact count; ``estimate + sum of the differences == exact``.

    Args:
        factor: 6, or 2 where no backward ran.
        parameters: N, each once.
        tokens: D, of the whole step.
        exact: contraction FLOP of forward and backward.
    """

    factor: int
    parameters: int
    tokens: int
    exact: int
    differences: tuple[Difference, ...]

    @property
    def estimate(self) -> int:
        return self.factor * self.parameters * self.tokens


def token_estimate(ledger: Ledger) -> TokenEstimate | None:
    """6·N·D of a language model's ledger; None if it does not say how many tokens it had.

    ``settings["tokens"]`` are those of one micro-batch, ``convention["accumulate"]`` how many
    micro-batches there were.
    """
    tokens = ledger.settings.get("tokens")
    if not isinstance(tokens, int) or not tokens:
        return None
    tokens *= ledger.convention.get("accumulate", 1)
    total = ledger.totals
    trained = any(row.phase in ("grad_input", "grad_weight") for row in ledger.rows)
    factor = 6 if trained else 2

    rows = defaultdict(list)
    for row in ledger.rows:
        rows[row.layer].append(row)
    parameters = _parameters_where_used(ledger, rows)
    differences: dict[str, dict[str, int]] = {reason: {} for reason in REASONS}
    for layer in [*rows, *(layer for layer in parameters if layer not in rows)]:
        own = parameters.get(layer, 0)
        once = own * tokens * 2
        looked_up = any(row.op.startswith("aten.embedding") for row in rows[layer])
        unmultiplied = EMBEDDING if looked_up or _is_embedding(ledger, layer) else SCALES
        for reason, flops in _differences(rows[layer], once, factor // 2, unmultiplied):
            if flops:
                differences[reason][layer] = flops
    return TokenEstimate(
        factor,
        total.parameters,
        tokens,
        total.forward + total.backward,
        tuple(
            Difference(reason, sum(layers.values()), tuple(layers))
            for reason, layers in differences.items()
            if layers
        ),
    )


def _parameters_where_used(ledger: Ledger, rows: dict[str, list[Row]]) -> dict[str, int]:
    """Layer -> parameters. Those of a module that never ran itself are used by the nearest module
    around it that did (``nn.MultiheadAttention`` and the weights of its ``out_proj``); but an
    embedding that never ran shares its table with one that did."""
    parameters: dict[str, int] = {}
    for name, number in ledger.parameters.items():
        user = name
        while user and user not in rows and not _is_embedding(ledger, user):
            user = user.rpartition(".")[0]
        parameters[user] = parameters.get(user, 0) + number
    return parameters


def _is_embedding(ledger: Ledger, layer: str) -> bool:
    return ledger.types.get(layer, "").endswith("Embedding")


def _differences(
    rows: list[Row], once: int, passes: int, unmultiplied: str
) -> list[tuple[str, int]]:
    """Why one layer's count is not ``passes * once``.

    Args:
        once: forward FLOP if each of its parameters met each token once.
        passes: 3 (forward and two in backward), or 1 without backward.
        unmultiplied: the reason where no product has a parameter.
    """
    forward: Counter[str] = Counter()
    to_input: Counter[str] = Counter()
    to_weight: Counter[str] = Counter()
    for row in rows:
        if row.phase == "forward":
            forward[row.op] += row.flops
        elif row.phase == "grad_input":
            to_input[row.autograd] += row.flops
        elif row.phase == "grad_weight":
            to_weight[row.autograd] += row.flops
    activations = weights = 0
    for op, flops in forward.items():
        node = autograd_node(op)
        if _no_parameter(op, flops, to_input[node], to_weight[node], once > 0):
            activations += flops + to_input[node]
        else:
            weights += flops
    total = sum(map(Counter.total, (forward, to_input, to_weight)))
    weights_backward = total - activations - weights

    if not weights:
        return [
            (ATTENTION, activations),
            (unmultiplied, -passes * once),
            (UNTRAINED, weights_backward),
        ]
    if not once:
        reason = SHARED
    elif weights > once:
        reason = REPEATED
    else:
        # A bias is at most half of a linear layer's parameters.
        reason = BIASES if 2 * weights >= once else SKIPPED
    return [
        (ATTENTION, activations),
        (reason, passes * (weights - once)),
        (UNTRAINED, weights_backward - (passes - 1) * weights),
    ]


def _no_parameter(op: str, forward: int, to_input: int, to_weight: int, owns: bool) -> bool:
    """Whether an operator's products are of two activations: backward has two for each, and none of
    them for a weight. Where backward says nothing, the operator's name does."""
    if not forward or to_weight:
        return False
    if to_input:
        return to_input > forward
    return "attention" in op or (op in ("aten.bmm", "aten.baddbmm") and not owns)
