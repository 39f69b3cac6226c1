"""The ledger: the one table that everything produces or reads, one row per operator per phase."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from flopratio.errors import UsageError
from flopratio.memory import Memory
from flopratio.text.spreadsheets import as_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "flopratio.ledger/1"

ROOT = "(model)"
"""What people read for the root module, whose path is the empty string."""

PHASES = ("forward", "grad_input", "grad_weight", "recompute", "update")


class Row(NamedTuple):
    """One operator in one phase. Counts are FLOP (2 per multiply-add), sizes bytes, times µs."""

    layer: str
    """Path of the module (``layer1.0.conv1``); the root is the empty string."""
    type: str
    """The module's class (``Conv2d``)."""
    op: str
    """The operator (``aten.addmm``)."""
    autograd: str
    """The autograd node of a backward row (``AddmmBackward0``), else empty."""
    phase: str
    """One of :data:`PHASES`."""
    flops: int = 0
    """FLOP of contractions."""
    elementwise: int = 0
    """All other arithmetic FLOP."""
    bytes_read: int = 0
    bytes_written: int = 0
    saved_bytes: int = 0
    """Bytes that this operator keeps for a backward when the step keeps most, each storage once,
    parameters apart. (Of several micro-batches, or of graphs that are let go, not all are there at
    once.) So the table's sum is what is kept at once."""
    time_us: float | None = None
    dtype: str = ""
    """The element type of the operands that the operator computes with (``bfloat16`` of a product
    under autocast, the source's of a cast); empty where it isn't known."""


def autograd_node(op: str) -> str:
    """The name that autograd gives an operator's node: ``AddmmBackward0`` of ``aten.addmm``. (The
    overloads of some have nodes of their own, which differ in the last digit.)"""
    words = op.partition(".")[2].strip("_").removesuffix("_forward").split("_")
    return "".join(word.title() for word in words) + "Backward0"


@dataclass(frozen=True)
class LayerTotals:
    """One layer's figures, summed over its rows."""

    name: str
    type: str
    forward: int = 0
    grad_input: int = 0
    grad_weight: int = 0
    recompute: int = 0
    update: int = 0
    elementwise_forward: int = 0
    elementwise_backward: int = 0
    elementwise_recompute: int = 0
    parameters: int = 0
    saved_bytes: int = 0

    @property
    def backward(self) -> int:
        return self.grad_input + self.grad_weight

    @property
    def ratio(self) -> float | None:
        """Backward over forward contractions; None where forward has none."""
        return self.backward / self.forward if self.forward else None


class PhaseTotals(NamedTuple):
    """One phase's FLOP."""

    flops: int
    """Of contractions."""
    elementwise: int

    @property
    def both(self) -> int:
        return self.flops + self.elementwise


SAVED = "saved_bytes"

ELEMENTWISE_GRADIENTS = ("elementwise_grad_input", "elementwise_grad_weight")
"""The parts of a layer's ``elementwise_backward`` in a document."""

LIVES = "memory_lives"
"""The key of a document that says what is alive when, see :meth:`Memory.lives`."""


@dataclass(frozen=True)
class Mismatch:
    """A layer's phase in which the law and the executed operators part ways, in FLOP; or, of the
    phase :data:`SAVED`, what autograd keeps by the formulas and as its hooks saw it, in bytes.

    Args:
        nodes: the autograd nodes that ran for it.
    """

    layer: str
    phase: str
    analytic: int
    traced: int
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.phase == SAVED:
            return (
                f"{self.layer or ROOT} saves {self.analytic:,} bytes by the formulas, "
                f"{self.traced:,} as autograd's hooks see it"
            )
        return (
            f"{self.layer or ROOT} {self.phase}: {self.analytic:,} by the law, "
            f"{self.traced:,} executed in {', '.join(self.nodes) or 'no node'}"
        )


ONE_SOURCE = "analytic alone: no step was run beside it"
"""Why a ledger of formulas alone is not compared."""

COUNTS = tuple(f.name for f in fields(LayerTotals) if f.name not in ("name", "type"))
"""The integer columns of a layer."""


def _quotient(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


@dataclass(frozen=True)
class Ratio:
    """The ratios of a step; None where forward has no contraction to divide by."""

    backward_to_forward: float | None
    with_elementwise: float | None
    with_update: float | None
    hardware: float | None


T = TypeVar("T")


class Lazy(Generic[T]):
    """A field of a ledger that is given as its value, or as a function that makes the value when it
    is first looked at: many ask for the FLOPs alone.

    Args:
        empty: makes the value of a ledger that was given neither.
    """

    def __init__(self, empty: Callable[[], T]) -> None:
        self._empty = empty

    def __set_name__(self, owner: type[Ledger], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, ledger: None, owner: type[Ledger]) -> Callable[[], T]: ...
    @overload
    def __get__(self, ledger: Ledger, owner: type[Ledger]) -> T: ...
    def __get__(self, ledger: Ledger | None, owner: type[Ledger]) -> Callable[[], T] | T:
        if ledger is None:
            return self._empty  # which a dataclass takes for the field's default
        given = ledger.__dict__[self._name]
        value: T = given() if callable(given) else given
        ledger.__dict__[self._name] = value
        return value

    def __set__(self, ledger: Ledger, value: T | Callable[[], T]) -> None:
        ledger.__dict__[self._name] = value


@dataclass(repr=False)
class Ledger:
    """The table, and the step that it belongs to.

    Args:
        rows: the table.
        model: what was counted (``torchvision:resnet18``).
        settings: its sizes (``{"batch": 2}``).
        parameters: layer path -> number of its own parameters.
        types: layer path -> class name, for layers without rows too.
        convention, versions: how and with what it was counted.
        memory: what the step held, as far as the source knows it.
        uncounted_ops: operators that no formula knows, with the number of their calls.
        notes: what ran otherwise than it does unwatched, and what else to know of the figures, a
            sentence each.
        analytic: phase -> contraction FLOP by the law, from the forward operators alone, and
            ``saved_bytes`` by their formulas; empty where the rows themselves are the analytic
            ones.
        mismatches: where the law and the executed operators part ways.
        not_compared: why law and execution can't be compared, in a few words; empty if they can.
        saved_mismatches: where the formulas and autograd's hooks part ways over what is saved.
        nonzero: phase -> contraction FLOP if products with masked and 2:4 sparse weights, which
            count in full, left their zeros out; empty where no weight is known to have any.

    ``memory``, ``analytic``, ``saved_mismatches`` and ``nonzero`` may be given as functions that
    make them.
    """

    rows: list[Row]
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    convention: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    memory: Lazy[Memory] = Lazy(Memory)
    uncounted_ops: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    analytic: Lazy[dict[str, int]] = Lazy(dict)
    mismatches: list[Mismatch] = field(default_factory=list)
    not_compared: str = ""
    saved_mismatches: Lazy[list[Mismatch]] = Lazy(list)
    nonzero: Lazy[dict[str, int]] = Lazy(dict)

    def __getstate__(self) -> dict[str, Any]:
        """For a copy or another process: values instead of the functions that make them."""
        _ = self.memory, self.analytic, self.saved_mismatches, self.nonzero
        return self.__dict__

    @cached_property
    def totals(self) -> LayerTotals:
        """The whole step as if it were one layer."""
        return total("", self.model, self.rows, sum(self.parameters.values()))

    @cached_property
    def ratio(self) -> Ratio:
        total = self.totals
        return Ratio(
            backward_to_forward=total.ratio,
            with_elementwise=_quotient(
                total.backward + total.elementwise_backward,
                total.forward + total.elementwise_forward,
            ),
            with_update=_quotient(total.backward + total.update, total.forward),
            hardware=_quotient(total.backward + total.recompute, total.forward),
        )

    @cached_property
    def phases(self) -> dict[str, PhaseTotals]:
        """Phase -> its figures, for each of :data:`PHASES`."""
        flops, elementwise = dict.fromkeys(PHASES, 0), dict.fromkeys(PHASES, 0)
        for row in self.rows:
            flops[row.phase] += row.flops
            elementwise[row.phase] += row.elementwise
        return {phase: PhaseTotals(flops[phase], elementwise[phase]) for phase in PHASES}

    def layers(self) -> list[LayerTotals]:
        """The rows summed by layer, in the order in which the layers first ran."""
        grouped: dict[str, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.layer, []).append(row)
        return [
            total(name, self.types.get(name, rows[0].type), rows, self.parameters.get(name, 0))
            for name, rows in grouped.items()
        ]

    def idle_layers(self) -> list[LayerTotals]:
        """The layers that hold parameters and for which nothing ran, by name."""
        busy = {row.layer for row in self.rows}
        return [
            LayerTotals(name, self.types.get(name, ""), parameters=number)
            for name, number in sorted(self.parameters.items())
            if number and name not in busy
        ]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table as a DataFrame; counts stay Python ints (dtype object): no overflow."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=list(Row._fields), dtype=object)
        frame["time_us"] = frame["time_us"].astype("float64")
        return frame

    @property
    def reconciled(self) -> bool | None:
        """Whether the analytic count and the executed operators agree in every layer and phase;
        None where they were not compared, see :attr:`why_not_compared`."""
        if self.mismatches:
            return False
        return None if self.why_not_compared else True

    @property
    def why_not_compared(self) -> str:
        """Why the analytic count and the executed operators were not compared; empty if they were.
        A ledger without :attr:`analytic` is of one source."""
        is_alone = self.__dict__["analytic"] in ({}, Ledger.analytic)  # without working it out
        return self.not_compared or (ONE_SOURCE if is_alone else "")

    # -- documents --------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints: plain ints, floats, strings, lists and dicts."""
        total, ratio = self.totals, self.ratio
        gradients: dict[str, dict[str, int]] = {}
        for row in self.rows:
            own = gradients.setdefault(row.layer, dict.fromkeys(ELEMENTWISE_GRADIENTS, 0))
            if (key := f"elementwise_{row.phase}") in own:
                own[key] += row.elementwise
        analytic = self.analytic or {
            "forward": total.forward,
            "grad_input": total.grad_input,
            "grad_weight": total.grad_weight,
            SAVED: total.saved_bytes,
        }
        return {
            "schema": SCHEMA,
            "model": self.model,
            "settings": self.settings,
            "convention": self.convention,
            "versions": self.versions,
            "flops": {
                "forward": total.forward,
                "grad_input": total.grad_input,
                "grad_weight": total.grad_weight,
                "backward": total.backward,
                "recompute": total.recompute,
                "update": total.update,
                "elementwise_forward": total.elementwise_forward,
                "elementwise_backward": total.elementwise_backward,
                "elementwise_recompute": total.elementwise_recompute,
                "model": total.forward + total.backward,
                "hardware": total.forward + total.backward + total.recompute,
            },
            "ratio": asdict(ratio),
            "analytic": {
                **analytic,
                "backward": analytic["grad_input"] + analytic["grad_weight"],
            },
            "reconciled": self.reconciled,
            "not_compared": self.why_not_compared,
            "mismatches": [asdict(mismatch) for mismatch in self.mismatches],
            "saved_mismatches": [asdict(mismatch) for mismatch in self.saved_mismatches],
            "memory": dict(self.memory),
            "layers": [
                {
                    "name": layer.name,
                    "type": layer.type,
                    "forward": layer.forward,
                    "grad_input": layer.grad_input,
                    "grad_weight": layer.grad_weight,
                    "recompute": layer.recompute,
                    "update": layer.update,
                    "elementwise_forward": layer.elementwise_forward,
                    "elementwise_backward": layer.elementwise_backward,
                    "elementwise_recompute": layer.elementwise_recompute,
                    **gradients[layer.name],
                    "ratio": layer.ratio,
                    "parameters": layer.parameters,
                    "saved_bytes": layer.saved_bytes,
                }
                for layer in self.layers()
            ],
            "idle_layers": [
                {"name": layer.name, "type": layer.type, "parameters": layer.parameters}
                for layer in self.idle_layers()
            ],
            "unknown_workspaces": list(self.memory.unknown_workspaces),
            "uncounted_ops": sorted(self.uncounted_ops),
            "uncounted_calls": self.uncounted_ops,
            "notes": self.notes,
            **({"nonzero": self.nonzero} if self.nonzero else {}),
            "rows": [list(row) for row in self.rows],
            **({LIVES: self.memory.lives()} if self.memory.knows_blocks else {}),
        }

    @staticmethod
    def without_rows(document: dict[str, Any]) -> dict[str, Any]:
        """A document without what has an entry for each operator, which can be many."""
        return {key: value for key, value in document.items() if key not in ("rows", LIVES)}

    def to_json(self, *, rows: bool = True, **beside: Any) -> str:
        """The document as JSON; ``rows=False`` leaves the operators out (they can be many, and
        :meth:`from_json` needs them).

        Args:
            beside: further keys of the document, with JSON-ready values.
        """
        document = {**self.document(), **beside}
        return json.dumps(document if rows else self.without_rows(document), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Ledger:
        """The ledger that :meth:`to_json` wrote.

        Raises:
            UsageError: the text is not such a document, or has no rows.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"not a ledger: {error}") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise UsageError(f"not a ledger: its schema should be {SCHEMA}")
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Ledger:
        """The ledger that :meth:`document` told.

        Raises:
            UsageError: it has no rows.
        """
        if "rows" not in document:
            raise UsageError("this ledger was written without its rows: write it with -o FILE.json")
        layers = [*document["layers"], *document.get("idle_layers", [])]
        return cls(
            [Row(*row) for row in document["rows"]],
            model=document["model"],
            settings=document["settings"],
            parameters={layer["name"]: layer["parameters"] for layer in layers},
            types={layer["name"]: layer["type"] for layer in layers},
            convention=document["convention"],
            versions=document["versions"],
            memory=Memory.of_document(
                document["memory"], document.get(LIVES), document.get("unknown_workspaces", ())
            ),
            uncounted_ops=document["uncounted_calls"],
            notes=document.get("notes", []),
            nonzero=document.get("nonzero", {}),
            analytic={
                name: figure for name, figure in document["analytic"].items() if name != "backward"
            },
            mismatches=_mismatches(document["mismatches"]),
            not_compared=_not_compared(document),
            saved_mismatches=_mismatches(document.get("saved_mismatches", [])),
        )

    def to_csv(self, **columns: Sequence[Any]) -> str:
        """The rows as CSV, each with the model, the convention and the torch version. A name that
        a spreadsheet would take for a formula has an apostrophe in front.

        Args:
            columns: further columns, with a value for each row.
        """
        frame = self.frame.assign(**columns)
        frame.insert(0, "model", self.model)
        for name in ("model", "layer", "type", "op"):
            frame[name] = frame[name].map(as_text)
        for key, value in self.convention.items():
            frame[key] = value
        frame["torch"] = self.versions.get("torch", "")
        text: str = frame.to_csv(index=False, lineterminator="\n")
        return text

    def __repr__(self) -> str:
        """The step in a line; :meth:`layers`, ``frame`` and :meth:`to_json` have the rest."""
        total, ratio = self.totals, self.ratio.backward_to_forward
        return (
            f"Ledger({self.model or 'step'}: forward {total.forward:,} FLOP, "
            f"backward {total.backward:,}, recompute {total.recompute:,}, "
            f"update {total.update:,}, ratio {'none' if ratio is None else f'{ratio:.4f}'}; "
            f"{len(self.rows)} rows"
            f"{'; NOT RECONCILED' if self.mismatches else ''}"
            f"{'; no formula for ' if self.uncounted_ops else ''}"
            f"{', '.join(sorted(self.uncounted_ops))})"
        )

    def _repr_html_(self) -> str:
        """The layers as a table, for notebooks."""
        import pandas as pd

        layers = [{**asdict(layer), "ratio": layer.ratio} for layer in self.layers()]
        html: str = pd.DataFrame(layers, dtype=object).to_html(index=False, na_rep="")
        return html

    def diff(self, other: Ledger) -> pd.DataFrame:
        """Layer by layer, the columns in which two ledgers differ; a layer that only one of them
        has is listed with 0 on the other side.

        Returns:
            Columns ``layer, column, before, after``; empty if the layers are the same.
        """
        import pandas as pd

        before = {layer.name: layer for layer in self.layers()}
        after = {layer.name: layer for layer in other.layers()}
        rows = []
        for name in [*before, *(name for name in after if name not in before)]:
            for column in COUNTS:
                old = getattr(before.get(name), column, 0)
                new = getattr(after.get(name), column, 0)
                if old != new:
                    rows.append((name, column, old, new))
        return pd.DataFrame(rows, columns=["layer", "column", "before", "after"], dtype=object)


def _not_compared(document: Mapping[str, Any]) -> str:
    """Why a document's ledger was not compared; one of before reasons were written has none."""
    reason: str = document.get("not_compared", "")
    return reason or ("" if document["reconciled"] is not None else "its document does not say why")


def _mismatches(entries: list[dict[str, Any]]) -> list[Mismatch]:
    """Mismatches as a document has them."""
    return [Mismatch(**{**entry, "nodes": tuple(entry["nodes"])}) for entry in entries]


def total(name: str, kind: str, rows: Iterable[Row], parameters: int) -> LayerTotals:
    """Sum rows into one layer's figures."""
    flops = dict.fromkeys(PHASES, 0)
    elementwise = dict.fromkeys(PHASES, 0)
    saved = 0
    for row in rows:
        flops[row.phase] += row.flops
        elementwise[row.phase] += row.elementwise
        saved += row.saved_bytes
    return LayerTotals(
        name,
        kind,
        forward=flops["forward"],
        grad_input=flops["grad_input"],
        grad_weight=flops["grad_weight"],
        recompute=flops["recompute"],
        # Nearly all arithmetic of an optimizer is elementwise; one with products has both.
        update=flops["update"] + elementwise["update"],
        elementwise_forward=elementwise["forward"],
        elementwise_backward=elementwise["grad_input"] + elementwise["grad_weight"],
        elementwise_recompute=elementwise["recompute"],
        parameters=parameters,
        saved_bytes=saved,
    )
