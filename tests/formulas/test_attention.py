"""Attention against plain loops that count, and against what torch dispatches and keeps."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor, exact
from flopratio.formulas.attention import (
    Attention,
    backend,
    causal_half,
    efficient_results,
    flash_results,
    is_causal,
)
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.fused import (
    agrees_with_torch,
    executed,
    work_by_operand,
)

aten = torch.ops.aten
REFERENCE = Path(__file__).parents[1] / "reference"


def varlen_attn(*args: Any, **kwargs: Any) -> torch.Tensor:
    from torch.nn.attention import varlen

    result: torch.Tensor = varlen.varlen_attn(*args, **kwargs)
    return result


def count(work: Callable[[], Any]) -> tuple[Any, int]:
    """What some work gives, and its arithmetic operations."""
    reset()
    result = work()
    return result, counted()


def product(a: np.ndarray, b: np.ndarray, share: int = 1) -> np.ndarray:
    """a[B, H, M, K] @ b[B, H / share, K, N]: several heads of a meet one of b."""
    (batch, heads, m, k), n = a.shape, b.shape[-1]
    out = zeros((batch, heads, m, n))
    for i, h, row, column in np.ndindex(batch, heads, m, n):
        for inner in range(k):
            out[i, h, row, column] += a[i, h, row, inner] * b[i, h // share, inner, column]
    return out


def product_into(a: np.ndarray, b: np.ndarray, share: int) -> np.ndarray:
    """a[B, H, M, K] @ b[B, H, K, N], the heads that share one key added up."""
    (batch, heads, m, k), n = a.shape, b.shape[-1]
    out = zeros((batch, heads // share, m, n))
    for i, h, row, column in np.ndindex(batch, heads, m, n):
        for inner in range(k):
            out[i, h // share, row, column] += a[i, h, row, inner] * b[i, h, inner, column]
    return out


def transposed(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(-1, -2)


def rows(array: np.ndarray) -> Any:
    return np.ndindex(*array.shape[:-1])


class Loops:
    """An attention written out, as its derivation numbers it. ``counts``: what each line did."""

    def __init__(
        self,
        query: np.ndarray,
        key: np.ndarray,
        value: np.ndarray,
        bias: np.ndarray | None,
        kept: np.ndarray | None,
        probability: float,
    ) -> None:
        self.query, self.key, self.value = query, key, value
        self.bias, self.kept, self.probability = bias, kept, probability
        self.share = query.shape[1] // key.shape[1]
        self.scale = 1 / math.sqrt(query.shape[-1])
        self.counts: dict[str, int] = {}

    def note(self, line: str, work: Callable[[], Any]) -> Any:
        result, self.counts[line] = count(work)
        return result

    def scaled_and_biased(self, scores: np.ndarray) -> np.ndarray:
        scores = scores * self.scale
        return scores if self.bias is None else scores + self.bias

    def softmax(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = self.scaled_and_biased(scores)
        probabilities = np.empty(scores.shape, dtype=object)
        logsumexp = np.empty(scores.shape[:-1], dtype=object)
        for row in rows(scores):
            largest = Counted(-math.inf)
            for score in scores[row]:
                largest = score if score > largest else largest
            exponentials = [(score - largest).apply("exp") for score in scores[row]]
            total = Counted(0.0)
            for exponential in exponentials:
                total = total + exponential
            probabilities[row] = [exponential / total for exponential in exponentials]
            logsumexp[row] = largest + total.apply("log")
        return probabilities, logsumexp

    def drop(self, array: np.ndarray) -> np.ndarray:
        if self.kept is None:
            return array
        return array * self.kept * (1 / (1 - self.probability))

    def forward(self) -> np.ndarray:
        scores = self.note("Q K", lambda: product(self.query, transposed(self.key), self.share))
        probabilities, self.logsumexp = self.note("softmax", lambda: self.softmax(scores))
        dropped = self.note("dropout", lambda: self.drop(probabilities))
        self.out = self.note("P V", lambda: product(dropped, self.value, self.share))
        return self.out

    def probabilities_again(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = self.scaled_and_biased(scores)
        probabilities = np.empty(scores.shape, dtype=object)
        for row in rows(scores):
            probabilities[row] = [
                (score - self.logsumexp[row]).apply("exp") for score in scores[row]
            ]
        return probabilities, self.drop(probabilities)

    def grad_scores(
        self, probabilities: np.ndarray, grad_probabilities: np.ndarray, grad_out: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        grad_probabilities = self.drop(grad_probabilities)
        grad = np.empty(probabilities.shape, dtype=object)
        for row in rows(probabilities):
            total = Counted(0.0)
            for one, other in zip(grad_out[row], self.out[row], strict=True):
                total = total + one * other
            grad[row] = probabilities[row] * (grad_probabilities[row] - total)
        return grad, grad * self.scale

    def backward(self, grad_out: np.ndarray) -> tuple[np.ndarray, ...]:
        """The gradients of query, key, value and bias."""
        scores = self.note(
            "Q K again", lambda: product(self.query, transposed(self.key), self.share)
        )
        probabilities, dropped = self.note("P again", lambda: self.probabilities_again(scores))
        grad_value = self.note(
            "grad_v", lambda: product_into(transposed(dropped), grad_out, self.share)
        )
        grad_probabilities = self.note(
            "grad_P", lambda: product(grad_out, transposed(self.value), self.share)
        )
        grad_bias, grad = self.note(
            "grad_scores", lambda: self.grad_scores(probabilities, grad_probabilities, grad_out)
        )
        grad_query = self.note("grad_q", lambda: product(grad, self.key, self.share))
        grad_key = self.note(
            "grad_k", lambda: product_into(transposed(grad), self.query, self.share)
        )
        return grad_query, grad_key, grad_value, grad_bias


def real(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(values(array), requires_grad=True)


@pytest.mark.oracle
@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 2),
    shared=st.integers(1, 2),
    share=st.integers(1, 2),
    queries=st.integers(1, 4),
    keys=st.integers(1, 4),
    width=st.integers(1, 3),
    value_width=st.integers(1, 3),
    biased=st.booleans(),
    dropping=st.booleans(),
)
def test_oracle(
    batch: int,
    shared: int,
    share: int,
    queries: int,
    keys: int,
    width: int,
    value_width: int,
    biased: bool,
    dropping: bool,
) -> None:
    """GIVEN an attention of any shape, with or without bias and dropout, THEN each line of the
    formula's derivation is what the loops count, and the loops are torch's attention."""
    heads = shared * share
    query = tensor((batch, heads, queries, width), seed=1)
    key = tensor((batch, shared, keys, width), seed=2)
    value = tensor((batch, shared, keys, value_width), seed=3)
    bias = tensor((batch, heads, queries, keys), seed=4) if biased else None
    drawn = np.random.default_rng(5).random((batch, heads, queries, keys)) > 0.3
    kept = drawn.astype(float) if dropping else None
    loops = Loops(query, key, value, bias, kept, 0.3)
    out = loops.forward()
    grad_out = tensor(out.shape, seed=6)
    gradients = loops.backward(grad_out)

    # The loops are torch's attention.
    q, k, v = real(query), real(key), real(value)
    b = None if bias is None else real(bias)
    if kept is None:
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=b, enable_gqa=True)
    else:
        k_all, v_all = (x.repeat_interleave(share, dim=1) for x in (k, v))
        scores = q @ k_all.mT / math.sqrt(width) + (0 if b is None else b)
        expected = torch.softmax(scores, -1) * torch.tensor(kept) / 0.7 @ v_all
    expected.backward(torch.tensor(values(grad_out)))
    np.testing.assert_allclose(values(out), expected.detach().numpy(), atol=1e-12)
    for found, operand in zip(gradients, (q, k, v, b), strict=True):
        if operand is not None:
            np.testing.assert_allclose(values(found), operand.grad.numpy(), atol=1e-12)

    # The formula is what the loops count.
    attention = Attention(
        rows=batch * heads * queries,
        keys=keys,
        width=width,
        value_width=value_width,
        bias="attn_bias" if biased else None,
        dropout=0.3 if dropping else 0,
    )
    counts = loops.counts
    assert attention.query_key == counts["Q K"] == counts["Q K again"]
    assert attention.probability_value == counts["P V"]
    assert attention.elementwise() == counts["softmax"] + counts["dropout"]
    of_scores = ("query", "key", "attn_bias") if biased else ("query", "key")
    found = {part.operand: (part.flops, part.elementwise) for part in attention.backward}
    assert found == {
        "query": (counts["grad_q"], 0),
        "key": (counts["grad_k"], 0),
        "value": (counts["grad_v"], 0),
        of_scores: (counts["grad_P"], counts["grad_scores"]),
        (*of_scores, "value"): (0, counts["P again"]),
    }
    assert attention.backward_cost.recompute == counts["Q K again"]

    # And so are the operators.
    q, k, v, y, b = (None if x is None else Tensor(x.shape) for x in (query, key, value, out, bias))
    rows_kept, probability = Tensor(out.shape[:-1]), 0.3 if dropping else 0.0
    forward = OPERATORS["aten._scaled_dot_product_efficient_attention"](
        q, k, v, b, True, probability, out=(y, rows_kept, Tensor(()), Tensor(()))
    )
    backward = OPERATORS["aten._scaled_dot_product_efficient_attention_backward"](
        *(y, q, k, v, b, y, rows_kept, Tensor(()), Tensor(())),
        probability,
        (True, True, True, biased),
        out=(q, k, v, b),
    )
    assert forward.flops == counts["Q K"] + counts["P V"]
    assert forward.elementwise == counts["softmax"] + counts["dropout"]
    products = ("grad_q", "grad_k", "grad_v", "grad_P")
    of_backward = (
        sum(counts[line] for line in products),
        counts["P again"] + counts["grad_scores"],
    )
    assert (backward.flops, backward.elementwise) == of_backward
    assert backward.recompute == counts["Q K again"]
    gradients_of_forward = [
        sum(gradient.flops for gradient in forward.gradients),
        sum(gradient.elementwise for gradient in forward.gradients),
    ]
    assert gradients_of_forward == list(of_backward)


HEADS_FIRST = ((2, 4, 5, 16), (2, 4, 7, 16), (2, 4, 7, 16))
SEQUENCE_FIRST = ((2, 5, 4, 16), (2, 7, 4, 16), (2, 7, 4, 16))
UNLIKE_LENGTHS = ((10, 4, 16), (14, 4, 16), (14, 4, 16))
BIAS = (2, 4, 5, 7)
Case = tuple[str, Callable[..., Any], dict[str, torch.Tensor], Attention]
"""Operator, call, inputs, and the sizes that it should be seen to have."""


def sizes(keys: int = 7, value_width: int = 16, **more: Any) -> Attention:
    """2 sequences, 4 heads, 5 queries of width 16."""
    return Attention(2 * 4 * 5, keys, 16, value_width, **more)


def cpu(heads: int = 4, mask: bool = False, **arguments: Any) -> Case:
    attn_mask = torch.randn(5, 7) if mask else None
    inputs = {
        "query": torch.randn(2, 4, 5, 16),
        "key": torch.randn(2, heads, 7, 16),
        "value": torch.randn(2, heads, 7, 16),
    }
    return (
        "aten._scaled_dot_product_flash_attention_for_cpu",
        lambda query, key, value: F.scaled_dot_product_attention(
            query, key, value, attn_mask=attn_mask, **arguments
        ),
        inputs,
        sizes(bias="attn_mask" if mask else None, scale=arguments.get("scale")),
    )


def on_meta(*shapes: tuple[int, ...], names: str = "query key value attn_bias") -> dict[str, Any]:
    return {
        name: torch.empty(shape, device="meta", dtype=torch.float16)
        for name, shape in zip(names.split(), shapes, strict=False)
    }


def offsets() -> torch.Tensor:
    return torch.empty(3, device="meta", dtype=torch.int32)


OPERATIONS: dict[str, Case] = {
    "CPU": cpu(),
    "CPU, causal": cpu(is_causal=True),
    "CPU, grouped queries": cpu(heads=2, enable_gqa=True),
    "CPU, mask": cpu(mask=True),
    "CPU, scale 1": cpu(scale=1.0),
    "flash": (
        "aten._scaled_dot_product_flash_attention",
        lambda query, key, value: aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, True
        ),
        on_meta(*HEADS_FIRST),
        sizes(),
    ),
    "flash, dropout": (
        "aten._scaled_dot_product_flash_attention",
        lambda query, key, value: aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p=0.1, scale=1.0
        ),
        on_meta(*HEADS_FIRST),
        sizes(dropout=0.1, scale=1.0),
    ),
    "efficient": (
        "aten._scaled_dot_product_efficient_attention",
        lambda query, key, value: aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True
        ),
        on_meta(*HEADS_FIRST[:2], (2, 4, 7, 24)),
        sizes(value_width=24),
    ),
    "efficient, bias and dropout": (
        "aten._scaled_dot_product_efficient_attention",
        lambda query, key, value, attn_bias: aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_bias, True, 0.1, scale=1.0
        ),
        on_meta(*HEADS_FIRST, BIAS),
        sizes(bias="attn_bias", dropout=0.1, scale=1.0),
    ),
    "cuDNN": (
        "aten._scaled_dot_product_cudnn_attention",
        lambda query, key, value: aten._scaled_dot_product_cudnn_attention(
            query, key, value, torch.empty(BIAS, device="meta"), True, 0.1, scale=1.0
        ),
        on_meta(*HEADS_FIRST),
        sizes(bias="attn_bias", dropout=0.1, scale=1.0),
    ),
    "overrideable": (
        "aten._scaled_dot_product_fused_attention_overrideable",
        lambda query, key, value, attn_bias: aten._scaled_dot_product_fused_attention_overrideable(
            query, key, value, attn_bias, 0.1, scale=1.0
        ),
        on_meta(*HEADS_FIRST, BIAS),
        sizes(bias="attn_bias", dropout=0.1, scale=1.0),
    ),
    "flash kernel": (
        "aten._flash_attention_forward",
        lambda query, key, value: aten._flash_attention_forward(
            query, key, value, None, None, 5, 7, 0.1, False, False, scale=1.0
        ),
        on_meta(*SEQUENCE_FIRST),
        sizes(dropout=0.1, scale=1.0),
    ),
    "flash kernel, unlike lengths": (
        "aten._flash_attention_forward",
        lambda query, key, value: aten._flash_attention_forward(
            query, key, value, offsets(), offsets(), 6, 9, 0.0, False, False
        ),
        on_meta(*UNLIKE_LENGTHS),
        sizes(keys=9),
    ),
    "efficient kernel": (
        "aten._efficient_attention_forward",
        lambda query, key, value: aten._efficient_attention_forward(
            query, key, value, None, None, None, None, None, 0.1, 0, True
        ),
        on_meta(*SEQUENCE_FIRST[:2], (2, 7, 4, 24)),
        sizes(value_width=24, dropout=0.1),
    ),
    "efficient kernel, bias": (
        "aten._efficient_attention_forward",
        lambda query, key, value, bias: aten._efficient_attention_forward(
            query, key, value, bias, None, None, None, None, 0.0, 0, True
        ),
        on_meta(*SEQUENCE_FIRST, BIAS, names="query key value bias"),
        sizes(bias="bias"),
    ),
    "torch.nn.attention.varlen": (
        "torch_attn._varlen_attn",
        lambda query, key, value: varlen_attn(query, key, value, offsets(), offsets(), 6, 9),
        on_meta(*UNLIKE_LENGTHS),
        sizes(keys=9),
    ),
    "torch.nn.attention.varlen, scale 1": (
        "torch_attn._varlen_attn",
        lambda query, key, value: varlen_attn(
            query, key, value, offsets(), offsets(), 6, 9, scale=1.0
        ),
        on_meta(*UNLIKE_LENGTHS),
        sizes(keys=9, scale=1.0),
    ),
}


SINCE = {
    "CPU, grouped queries": "2.11",
    "overrideable": "2.13",
    "torch.nn.attention.varlen": "2.11",
    "torch.nn.attention.varlen, scale 1": "2.11",
}
"""Of the tested versions of torch, the first that runs it (CUDA's: on meta tensors)."""


@pytest.mark.parametrize(
    "name", [name for name in OPERATIONS if torch.__version__ >= SINCE.get(name, "2.8")]
)
def test_executed(name: str) -> None:
    """GIVEN each operator behind attention (CUDA's on meta tensors), WHEN any of its operands need
    a gradient, THEN it does the work of an attention of its sizes, its backward operator that of
    its gradients, and autograd keeps the bytes that its formula says."""
    op, run, inputs, expected = OPERATIONS[name]
    step = agrees_with_torch(op, run, inputs)
    forward = step.cost(op)
    assert (forward.flops, forward.elementwise) == (expected.flops, expected.elementwise())
    backward = step.cost(forward.gradients[0].op)
    assert backward == expected.backward_cost
    assert backward.flops == 2 * forward.flops


def test_without_logsumexp() -> None:
    """GIVEN inference, where nothing is kept for backward, THEN 2 FLOP a row less."""
    query, key, value = on_meta(*HEADS_FIRST).values()
    for run in (
        lambda: aten._scaled_dot_product_efficient_attention(query, key, value, None, False),
        lambda: aten._scaled_dot_product_cudnn_attention(query, key, value, None, False),
    ):
        (work,) = executed(run).forward
        assert work.cost.elementwise == sizes().elementwise() - 2 * 40


@pytest.mark.parametrize(
    ("shapes", "arguments"),
    [
        (((2, 4, 5, 16), (2, 4, 7, 16), (2, 4, 7, 24)), {}),
        (((4, 5, 16), (4, 7, 16), (4, 7, 16)), {}),
        (((2, 4, 5, 16), (2, 4, 7, 16), (2, 4, 7, 16)), {"dropout_p": 0.5}),
        (((2, 4, 5, 16), (2, 2, 7, 16), (2, 2, 7, 16)), {"dropout_p": 0.5, "enable_gqa": True}),
    ],
)
def test_product_by_product(shapes: tuple[tuple[int, ...], ...], arguments: dict[str, Any]) -> None:
    """GIVEN an attention that the CPU takes product by product (another width of values, no batch,
    dropout), THEN its products are those of the fused one."""
    query, key, value = (torch.randn(shape, requires_grad=True) for shape in shapes)
    step = executed(lambda: F.scaled_dot_product_attention(query, key, value, **arguments))
    rows = math.prod(shapes[0][:-1])
    fused = Attention(rows, shapes[1][-2], shapes[1][-1], shapes[2][-1])
    assert step.flops == (fused.flops, fused.backward_cost.flops)


def literals() -> list[tuple[tuple[int, ...], str, int]]:
    """Scaled-dot-product attention in PyTorch's own test: (shape), backend, FLOP."""
    shapes = {
        "SDPA B4 H8 Sq=Sk=128 D64": (4, 8, 128, 128, 64),
        "SDPA same": (4, 8, 128, 128, 64),
        "SDPA Sq128 Sk256": (4, 8, 128, 256, 64),
    }
    with (REFERENCE / "pytorch_test_flop_counter_literals.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["case"].startswith("SDPA")]
    return [
        (
            next(shape for prefix, shape in shapes.items() if row["case"].startswith(prefix)),
            "math" if "math" in row["case"] or row["quantity"] == "fwd" else "fused",
            int(row["flops"]) * (1 if "bwd" in row["quantity"] else -1),
        )
        for row in found
    ]


@pytest.mark.parametrize(("shape", "backend", "flops"), literals())
def test_pytorch_literals(shape: tuple[int, ...], backend: str, flops: int) -> None:
    """Forward alone (given as negative), model FLOPs (as the math backend executes), hardware
    FLOPs (as the fused ones do)."""
    b, h, queries, keys, width = shape
    attention = Attention(b * h * queries, keys, width, width)
    backward = attention.backward_cost
    if flops < 0:
        assert attention.flops == -flops
    else:
        again = backward.recompute if backend == "fused" else 0
        assert attention.flops + backward.flops + again == flops


def test_causal_half() -> None:
    """FlashAttention's own convention: 4 B S^2 H D / 2, backward 2.5 times."""
    attention = Attention(2 * 3 * 64, 64, 16, 16)
    forward = causal_half(attention.cost("backward", ()))
    backward = causal_half(attention.backward_cost)
    assert forward.flops == 4 * 2 * 64**2 * 3 * 16 // 2
    assert 2 * (backward.flops + backward.recompute) == 5 * forward.flops
    assert sum(gradient.flops for gradient in forward.gradients) == backward.flops
    assert sum(part.flops for part in backward.parts) == backward.flops


@pytest.mark.parametrize(
    ("operator", "arguments", "causal"),
    [
        ("aten._scaled_dot_product_flash_attention", {"is_causal": True}, True),
        ("aten._scaled_dot_product_flash_attention", {"is_causal": False}, False),
        ("aten._scaled_dot_product_flash_attention", {}, False),
        ("aten._efficient_attention_forward", {"custom_mask_type": 1}, True),
        ("aten._efficient_attention_forward", {"custom_mask_type": 0}, False),
        ("torch_attn._varlen_attn", {"is_causal": True}, True),
        ("mylib.attention", {"is_causal": True}, False),  # its own formula knows best
    ],
)
def test_causal_calls(operator: str, arguments: dict[str, Any], causal: bool) -> None:
    assert is_causal(operator, arguments) is causal


def test_every_schema_calls_its_causal_mask_alike() -> None:
    flags = set()
    for operator in OPERATORS:
        space, _, name = operator.partition(".")
        packet = getattr(getattr(torch.ops, space), name, None)
        if hasattr(packet, "default"):
            flags |= {a.name for a in packet.default._schema.arguments if "causal" in a.name}
    assert flags == {"is_causal"}


@pytest.mark.parametrize(
    ("operators", "named"),
    [
        (["aten.mm", "aten._softmax", "aten.bmm"], "none"),
        (["aten._scaled_dot_product_flash_attention_for_cpu"], "flash"),
        (["aten._scaled_dot_product_efficient_attention", "aten.mm"], "efficient"),
        (["aten._scaled_dot_product_cudnn_attention"], "cudnn"),
        (["aten._safe_softmax", "aten._flash_attention_forward"], "flash, math"),
        (["aten._native_multi_head_attention"], "native"),
    ],
)
def test_backends_by_their_operators(operators: list[str], named: str) -> None:
    assert backend(operators) == named


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_fast_path(need_weights: bool) -> None:
    """GIVEN nn.MultiheadAttention in inference, which is one operator, THEN it has the products of
    the same module with its parts dispatched one by one."""
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        fast = executed(lambda: module(x, x, x, need_weights=need_weights))
    (work,) = fast.forward
    assert work.op == "aten._native_multi_head_attention"
    parts = executed(lambda: module(x, x, x, need_weights=True))
    assert fast.flops[0] == parts.flops[0]
    in_parts = sum(work.cost.elementwise for work in parts.forward)
    averaging = 3 * 2 * 5 * 5 + 3 * 5 * 5
    assert work.cost.elementwise == in_parts - (0 if need_weights else averaging)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_layer_fast_path(activation: str, norm_first: bool) -> None:
    """GIVEN nn.TransformerEncoderLayer in inference, which is one operator, THEN its products and,
    log-sum-exp apart, its other arithmetic are those of its parts."""
    module = torch.nn.TransformerEncoderLayer(
        8, 2, 16, activation=activation, norm_first=norm_first, batch_first=True
    ).eval()
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        fast = executed(lambda: module(x))
    (work,) = fast.forward
    assert work.op == "aten._transformer_encoder_layer_fwd"
    parts = executed(lambda: module(x))
    assert fast.flops[0] == parts.flops[0]
    # Scaling: of the query's entries here, of the scores in the fused attention of the parts.
    scores, entries, rows = 3 * 2 * 5 * 5, 3 * 5 * 8, 3 * 2 * 5
    in_parts = sum(work.cost.elementwise for work in parts.forward)
    assert work.cost.elementwise == in_parts - scores - 2 * rows + entries


def test_results_of_cuda_kernels() -> None:
    """What the CUDA kernels return, and hence keep, is what their meta kernels say."""
    for length in (1, 32, 33, 70):
        shapes = ((2, 4, length, 16), (2, 4, 7, 16), (2, 4, 7, 16))
        query, key, value = on_meta(*shapes).values()
        operands = [Tensor(shape, 2) for shape in shapes]
        for results, found in (
            (flash_results(*operands), aten._scaled_dot_product_flash_attention(query, key, value)),
            (
                efficient_results(*operands),
                aten._scaled_dot_product_efficient_attention(query, key, value, None, True),
            ),
        ):
            for expected, result in zip(results, found, strict=True):
                if isinstance(result, torch.Tensor):
                    assert expected == Tensor(tuple(result.shape), result.element_size())
                else:
                    assert expected == result


def test_whole_in_inference_mode() -> None:
    """GIVEN inference mode, where a dispatch mode sees attention whole, THEN it costs the same."""
    query, key, value = (torch.randn(2, 4, 5, 16) for _ in range(3))
    with torch.inference_mode():
        step = executed(lambda: F.scaled_dot_product_attention(query, key, value))
    (work,) = step.forward
    assert work.op == "aten.scaled_dot_product_attention"
    assert work.cost.flops == 2 * 2 * (2 * 4 * 5 * 5) * 16


def test_flex_attention() -> None:
    """Forward says of backward what backward's own formula says."""
    query, key, value = (Tensor((2, 4, length, 16)) for length in (5, 7, 7))
    out, logsumexp = Tensor((2, 4, 5, 16)), Tensor((2, 4, 5))
    settings = (0, (5, 7, 0), 0.25, {})
    forward = OPERATORS["higher_order.flex_attention"](
        query, key, value, *settings, out=(out, logsumexp, logsumexp)
    )
    graphs = (0, 0)
    backward = OPERATORS[forward.gradients[0].op](
        *(query, key, value, out, logsumexp, out, None),
        *graphs,
        *settings[1:],
        out=(query, key, value, ()),
    )
    assert forward.flops == 2 * 2 * (2 * 4 * 5 * 7) * 16
    assert work_by_operand(forward.gradients) == work_by_operand(backward.parts)
    assert forward.gradients[0].saves == (query, key, value, out, logsumexp)


def test_transform_bias_rescale_qkv() -> None:
    """Three biases, and the query scaled: 4 an entry."""
    qkv, bias = torch.randn(2, 5, 24), torch.randn(24)
    (work,) = executed(lambda: aten._transform_bias_rescale_qkv(qkv, bias, 4)).forward
    assert work.cost.elementwise == 4 * 2 * 5 * 8


def figures(b: Any, h: Any, queries: Any, keys: Any, d: Any) -> dict[str, Any]:
    """Forward and backward of the CPU's attention."""
    query, key, value = (Tensor((b, h, length, d)) for length in (queries, keys, keys))
    out = (Tensor((b, h, queries, d)), Tensor((b, h, queries)))
    name = "aten._scaled_dot_product_flash_attention_for_cpu"
    forward = OPERATORS[name](query, key, value, out=out)
    backward = OPERATORS[name + "_backward"](
        out[0], query, key, value, *out, 0.0, False, out=(query, key, value)
    )
    return {
        "forward": forward.flops,
        "elementwise": forward.elementwise,
        "backward": backward.flops,
        "backward elementwise": backward.elementwise,
        "recompute": backward.recompute,
        "saved": sum(tensor.nbytes for tensor in forward.gradients[0].saves),
    }


def test_arrays_and_symbols() -> None:
    """The same formula takes ints, arrays of ints and symbols."""
    points = [(1, 2, 3, 4, 5), (6, 1, 4, 4, 8), (2, 3, 128, 256, 64)]
    by_arrays = figures(*(exact(column) for column in zip(*points, strict=True)))
    symbols = sympy.symbols("b h l m d", integer=True, positive=True)
    by_symbols = figures(*symbols)
    for index, point in enumerate(points):
        for name, expected in figures(*point).items():
            assert by_arrays[name][index] == expected
            found = by_symbols[name].subs(dict(zip(symbols, point, strict=True)))
            assert found == expected
