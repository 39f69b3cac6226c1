"""A closed form as the document that ``--json`` prints."""

from __future__ import annotations

from typing import Any

from flopratio.report.formula.asymptotics import sentences
from flopratio.report.formula.text import largest_text, sympy_text
from flopratio.verbs.formula.entries import PEAK
from flopratio.verbs.formula.result import DECLINED, ClosedForm

SCHEMA = "flopratio.formula/1"

NAMES = {"model": "model_flops", "hardware": "hardware_flops"}
"""Quantities whose names say something else at the top of a document."""


def document(closed: ClosedForm, by: str = "total") -> dict[str, Any]:
    """Plain strings, ints and lists; each form as SymPy reads it, None where there is none."""
    forms = {NAMES.get(name, name): sympy_text(form) for name, form in closed.totals.items()}
    refused = dict.fromkeys(NAMES.get(name, name) for name in closed.why_not)
    beside: dict[str, Any] = {}
    if by != "total":
        beside[by] = {
            name: {quantity: sympy_text(form) for quantity, form in of.items()}
            for name, of in closed.by(by).items()
        }
    return {
        "schema": SCHEMA,
        "model": closed.model,
        "keys": list(closed.keys),
        "settings": dict(closed.settings),
        "convention": dict(closed.convention),
        "versions": dict(closed.versions),
        **forms,
        **({} if closed.peak is None else {PEAK: largest_text(closed.peak)}),
        **refused,
        **beside,
        "refused": {**closed.why_not, "peak_allocated": DECLINED, "peak_reserved": DECLINED},
        "asymptotics": list(sentences(closed.totals, closed.keys)),
        "domains": {
            key: {"from": values[0], "to": values[-1], "values": len(values)}
            for key, values in closed.domains.items()
        },
        "traces": {"fitted": len(closed.fitted_at), "verified": len(closed.verified_at)},
        "verified_at": [dict(point) for point in closed.verified_at],
    }
