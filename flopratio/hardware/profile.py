"""What a device was measured to do at best, as a document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from flopratio.errors import UsageError

SCHEMA = "flopratio.device/1"


@dataclass(frozen=True)
class DeviceProfile:
    """The roofs of a device: all measured there, none derived; the datasheet's apart.

    Args:
        name: as the device calls itself: ``NVIDIA H200``, or the processor's name.
        device: ``cpu`` or ``cuda``.
        flops_per_s: FLOP/s of a large product by dtype: ``float32``, ``bfloat16``, ``float16``,
            ``float64``; on CUDA also ``tf32``, and ``float32`` is then without it.
        bytes_per_s: of a large copy, read and written bytes together.
        launch_s: seconds that one more small operator costs where many are queued.
        environment: what the figures depend on: torch, driver, threads and so on; JSON-ready.
        datasheet: the vendor's figures under the same names (``float32``, ..., ``bytes_per_s``), to
            be shown beside the measured ones and named as the datasheet's. May be empty.
    """

    name: str
    device: str
    flops_per_s: dict[str, float]
    bytes_per_s: float
    launch_s: float
    environment: dict[str, Any] = field(default_factory=dict)
    datasheet: dict[str, float] = field(default_factory=dict)

    def roof(self, dtype: str, *, tf32: bool = False) -> float | None:
        """FLOP/s of a large product in a dtype; None if it was not measured.

        Args:
            dtype: as torch names it, without its ``torch.``.
            tf32: whether products of float32 operands may round them to TF32. A device without a
                figure for it computes them in float32.
        """
        if tf32 and dtype == "float32" and "tf32" in self.flops_per_s:
            dtype = "tf32"
        return self.flops_per_s.get(dtype)

    def to_json(self) -> str:
        """A document that :meth:`from_json` reads."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> DeviceProfile:
        """The profile that :meth:`to_json` wrote, or that is the ``roofs`` of a measured step's
        document. Keys that this version doesn't know are skipped.

        Raises:
            UsageError: the text is no such document, one of a newer flopratio, or a figure of it is
                missing or none.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"not a device profile: {error}") from error
        if isinstance(document, dict) and isinstance(document.get("roofs"), dict):
            document = document["roofs"]
        _check_schema(document)
        found = {name: document[name] for name in _WANTED if name in document}
        for name, (fits, wanted) in _WANTED.items():
            if name in found and not fits(found[name]):
                raise UsageError(f"a device profile's {name} should be {wanted}")
            if name not in found and name not in ("environment", "datasheet"):
                raise UsageError(f"a device profile without {name}: it should have {wanted}")
        return cls(**found)


def _check_schema(document: object) -> None:
    found = document.get("schema") if isinstance(document, dict) else None
    if found == SCHEMA:
        return
    kind, version = SCHEMA.split("/")
    found_kind, _, found_version = str(found).partition("/")
    if found_kind == kind and found_version.isdecimal() and int(found_version) > int(version):
        raise UsageError(
            f"a device profile of a newer flopratio ({found}; this one reads {SCHEMA}): update "
            "flopratio, or measure the device again"
        )
    raise UsageError(f"not a device profile: its schema should be {SCHEMA}")


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max  # no NaN, no infinity


def _is_rate(value: Any) -> bool:
    return _is_time(value) and value > 0


def _is_rates(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_rate, value.values()))


_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda name: isinstance(name, str) and name.strip() != "", "the device's name"),
    "device": (lambda device: device in ("cpu", "cuda"), "cpu or cuda"),
    "flops_per_s": (
        lambda rates: _is_rates(rates) and rates != {},
        "a positive FLOP/s for each dtype, of one dtype at least",
    ),
    "bytes_per_s": (_is_rate, "a positive number"),
    "launch_s": (_is_time, "a number of seconds, 0 or more"),
    "environment": (lambda found: isinstance(found, dict), "what was measured on, by name"),
    "datasheet": (_is_rates, "a positive figure for each name"),
}
