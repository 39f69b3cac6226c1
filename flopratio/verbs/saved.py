"""What was counted or measured before, read back from its file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError
from flopratio.hardware import DeviceProfile
from flopratio.ledger import ELEMENTWISE_GRADIENTS, SCHEMA, Ledger, Row
from flopratio.roofline import Prediction, predict

if TYPE_CHECKING:  # it takes torch, which counted steps don't need
    from flopratio.verbs.profile import Profile


@dataclass(frozen=True)
class SavedStep:
    """A step as its document tells it.

    Args:
        ledger: of the step.
        profile: its times, where it was measured.
        prediction: what it should take on the device that it was counted with.
        name: of its file.
        notes: what the document leaves out, a sentence each.
    """

    ledger: Ledger
    profile: Profile | None = None
    prediction: Prediction | None = None
    name: str = ""
    notes: list[str] = field(default_factory=list)


def read_json(path: Path) -> Any:
    """The document in a file.

    Raises:
        UsageError: there is none, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        written = shlex.quote(str(path if path.suffix else path.with_suffix(".json")))
        raise UsageError(
            f"there is no ledger {path}: flopratio count MODEL -o {written} writes one"
        ) from error
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error


def read_step(path: Path) -> SavedStep:
    """The step whose document ``flopratio count``, ``flopratio profile`` or
    :meth:`flopratio.Ledger.to_json` wrote, with or without its operators.

    Raises:
        UsageError: there is no such file, or it is no such document, or of another version.
    """
    document = read_json(path)
    try:
        return _step(document, path.name)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else "a part of it is wrong"
        raise UsageError(f"{path}: a damaged {SCHEMA} document: {what}") from error


def _step(document: Any, name: str) -> SavedStep:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        said = f"its schema is {schema}" if schema else "it names no schema"
        raise UsageError(
            f"not a ledger that this flopratio reads: {said}, and should be {SCHEMA}; flopratio "
            "count MODEL -o FILE.json writes one"
        )
    if "rows" not in document:
        summed = {**document, "rows": [list(row) for row in _summed_rows(document)]}
        notes = ["The operators are not in this document, the sums of each layer are."]
        if "time_ms" in document or "predicted" in document:
            notes.append("Its times are left out here: they are read from -o FILE.json.")
        return SavedStep(Ledger.from_document(summed), name=name, notes=notes)
    if "time_ms" in document:
        from flopratio.verbs.profile import Profile

        profile = Profile.from_document(document)
        return SavedStep(profile.ledger, profile, name=name)
    ledger = Ledger.from_document(document)
    if not ledger.rows:
        return SavedStep(ledger, name=name, notes=["No operator is in this document: no row."])
    if (predicted := document.get("predicted")) is None:
        return SavedStep(ledger, name=name)
    prediction = predict(ledger.rows, DeviceProfile(**predicted["roofs"]), tf32=predicted["tf32"])
    return SavedStep(ledger, prediction=prediction, name=name)


def _summed_rows(document: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each phase of each layer, in place of those of its operators."""
    for layer in document["layers"]:
        figures = {
            "forward": (layer["forward"], layer["elementwise_forward"]),
            "grad_input": (layer["grad_input"], layer[ELEMENTWISE_GRADIENTS[0]]),
            "grad_weight": (layer["grad_weight"], layer[ELEMENTWISE_GRADIENTS[1]]),
            "recompute": (layer["recompute"], layer["elementwise_recompute"]),
            "update": (0, layer["update"]),
        }
        for phase, (flops, elementwise) in figures.items():
            is_first = phase == "forward"
            if is_first or flops or elementwise:
                saved = layer["saved_bytes"] if is_first else 0
                yield Row(
                    layer["name"], layer["type"], "", "", phase, flops, elementwise,
                    saved_bytes=saved,
                )  # fmt: skip
