"""The exact integers of one step: what a lock file holds for a case, what a saved ledger gives, and
what two steps are compared by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from flopratio import ledger as ledgers
from flopratio.errors import UsageError
from flopratio.ledger import COUNTS, Ledger
from flopratio.memory import CATEGORIES

SCHEMA = "flopratio.snapshot/1"

MEMORY = (
    *(category for category in CATEGORIES if category != "temporaries"),
    "peak",
    "peak_allocated",
    "peak_reserved",
    "inference_peak",
)
"""The figures of memory that a snapshot holds, in bytes."""


@dataclass(frozen=True)
class LayerCounts:
    """One layer's class and its integers.

    Args:
        counts: every column of :data:`flopratio.ledger.COUNTS`.
    """

    type: str
    counts: Mapping[str, int]

    @classmethod
    def of(cls, type: str, counts: Mapping[str, int]) -> Self:
        """With 0 for the columns that are not given."""
        return cls(type, {column: counts.get(column, 0) for column in COUNTS})


@dataclass(frozen=True)
class Snapshot:
    """The exact integers of one step, and how it was run.

    Args:
        model: what was counted (``torchvision:resnet18``).
        settings: its sizes.
        versions, convention: with and how it was counted.
        totals: every column of :data:`flopratio.ledger.COUNTS`, FLOP or, where the name says so,
            bytes or parameters.
        memory: every figure of :data:`MEMORY`, bytes; None where it isn't known.
        layers: path -> its integers, in the order in which they first ran; then those that only
            hold parameters.
        uncounted_ops: operators that no formula knows, with the number of their calls.
        reconciled: whether law and execution agree; None if they were not compared.
    """

    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    convention: dict[str, Any] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int | None] = field(default_factory=dict)
    layers: dict[str, LayerCounts] = field(default_factory=dict)
    uncounted_ops: dict[str, int] = field(default_factory=dict)
    reconciled: bool | None = None

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """The integers of a ledger."""
        every = (*ledger.layers(), *ledger.idle_layers())
        return cls(
            model=ledger.model,
            settings=_plain(ledger.settings),
            versions=dict(ledger.versions),
            convention=_plain(ledger.convention),
            totals={column: getattr(ledger.totals, column) for column in COUNTS},
            memory={name: ledger.memory.get(name) for name in MEMORY},
            layers={layer.name: LayerCounts.of(layer.type, asdict(layer)) for layer in every},
            uncounted_ops=dict(sorted(ledger.uncounted_ops.items())),
            reconciled=ledger.reconciled,
        )

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """The integers of a ledger's document, or what :meth:`to_document` made.

        Raises:
            UsageError: it is neither.
        """
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema not in (SCHEMA, ledgers.SCHEMA):
            said = f"its schema is {schema}" if schema else "it names no schema"
            raise UsageError(f"not a ledger: {said}, and should be {ledgers.SCHEMA}")
        try:
            return cls._of_ledger(document) if schema == ledgers.SCHEMA else cls._own(document)
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else "a part of it is wrong"
            raise UsageError(f"a damaged {schema} document: {what}") from error

    @classmethod
    def _of_ledger(cls, document: Mapping[str, Any]) -> Self:
        layers = [*document["layers"], *document.get("idle_layers", ())]
        totals = {**document["flops"], "saved_bytes": 0, "parameters": 0}
        for column in ("parameters", "saved_bytes"):
            totals[column] = sum(layer.get(column, 0) for layer in layers)
        return cls(
            model=document["model"],
            settings=dict(document["settings"]),
            versions=dict(document["versions"]),
            convention=dict(document["convention"]),
            totals={column: totals.get(column, 0) for column in COUNTS},
            memory={name: document["memory"].get(name) for name in MEMORY},
            layers={layer["name"]: LayerCounts.of(layer["type"], layer) for layer in layers},
            uncounted_ops=dict(sorted(document["uncounted_calls"].items())),
            reconciled=document["reconciled"],
        )

    @classmethod
    def _own(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            model=document["model"],
            settings=dict(document["settings"]),
            versions=dict(document["versions"]),
            convention=dict(document["convention"]),
            totals={column: document["totals"].get(column, 0) for column in COUNTS},
            memory={name: document["memory"].get(name) for name in MEMORY},
            layers={
                path: LayerCounts.of(layer["type"], layer)
                for path, layer in document["layers"].items()
            },
            uncounted_ops=dict(document["uncounted_ops"]),
            reconciled=document["reconciled"],
        )

    def to_document(self) -> dict[str, Any]:
        """Plain ints, strings and dicts in a stable order; a layer's columns of 0 are left out."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "settings": self.settings,
            "versions": self.versions,
            "convention": self.convention,
            "reconciled": self.reconciled,
            "uncounted_ops": self.uncounted_ops,
            "totals": self.totals,
            "memory": self.memory,
            "layers": {
                path: {"type": layer.type, **{k: n for k, n in layer.counts.items() if n}}
                for path, layer in self.layers.items()
            },
        }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as a document has them: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
