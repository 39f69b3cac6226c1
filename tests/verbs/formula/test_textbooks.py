"""The closed form of a transformer's layer is what papers say of it, as symbols. Whole models are
in ``tests/zoo/textbooks.py``: ``make test-formula``.

s: sequence, b: batch, a: heads, h: width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.literature import factories
from experiments.literature.reference import evaluate, rows
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import ClosedForm, formula_of
from tests.verbs.formula.textbooks import difference, key, part

MODEL = f"{Path(factories.__file__)}:layer"

s, b, a, q = map(key, "sbaq")  # heads of the width q, so that all sizes are admissible
SIZES = {"s": s, "b": b, "a": a, "h": a * q}


@pytest.fixture(scope="module")
def layer() -> ClosedForm:
    options = StepOptions(loss="sum")
    return formula_of(MODEL, ("s", "b", "a", "q"), {}, options, cached=False, peak=False)


def printed(formula: str) -> Any:
    """A formula as it was printed, ``s*b*(34h+5as)`` or ``2as^2b``, of these sizes."""
    return evaluate(formula.replace("s^2", "ss"), **SIZES)


def test_flops_of_zero_bubble(layer: ClosedForm) -> None:
    """Qi et al. 2024, table 1: F, and of backward B, the gradient of the input, and W, that of the
    weights. Products alone."""
    passes = {row["pass"][0]: row for row in rows("zerobubble_table1_flops_mem")}
    for name, phase in {"F": "forward", "B": "grad_input", "W": "grad_weight"}.items():
        formula = passes[name]["flops_per_layer_formula"]
        assert difference(layer[phase], printed(formula)) == 0, name


NORMS = 2 * 2 * 4 * s * b
"""Bytes of the means and inverse deviations of the two norms in 32 bits, which papers leave out."""


@pytest.mark.parametrize(
    "formula",
    [
        pytest.param(
            next(row for row in rows(table) if row[column] == name)[of],
            id=table,
        )
        for table, column, name, of in (
            ("zerobubble_table1_flops_mem", "pass", "B (dX)", "activation_mem_bytes_formula"),
            ("korthikanti_act_mem_components", "component", "TOTAL", "bytes_formula"),
            ("korthikanti_table2_act_mem", "config", "no parallelism", "bytes_per_layer_formula"),
        )
    ],
)
def test_bytes_that_backward_finds(layer: ClosedForm, formula: str) -> None:
    """s b h (34 + 5 a s / h): activations in 16 bits, the masks of dropout in 8."""
    assert difference(layer["saved_bytes"], printed(formula) + NORMS) == 0
    assert printed(formula).expand() == (s * b * a * q * 34 + 5 * a * s**2 * b).expand()


KEPT_BY = {
    "*_norm": ["2 layernorm inputs"],
    "attention.qkv": ["attn: QKV shared input"],
    "attention": ["attn: Q and K", "attn: V", "attn: softmax output", "attn: dropout output"],
    "attention.dropout": ["attn: softmax dropout mask"],
    "attention.projection": ["attn: out-proj input"],
    "dropout": ["attn: out dropout mask", "mlp: dropout mask"],
    "feed_forward.first": ["mlp: linear1 input"],
    "feed_forward": ["mlp: GeLU input"],
    "feed_forward.second": ["mlp: linear2 input"],
}
"""Korthikanti et al. 2022: which of their components each module keeps."""


def test_every_component_of_a_layer(layer: ClosedForm) -> None:
    formulas = {
        row["component"]: row["bytes_formula"] for row in rows("korthikanti_act_mem_components")
    }
    assert sorted(name for names in KEPT_BY.values() for name in names) == sorted(
        formulas.keys() - {"TOTAL"}
    )
    for module, names in KEPT_BY.items():
        expected = sum(printed(formulas[name]) for name in names)
        expected += NORMS if module == "*_norm" else 0
        assert difference(part(layer, module, "saved_bytes"), expected) == 0, module
