"""What vendors say of their devices: to be shown beside measured figures, never used as one. One
JSON file a device: the names that it reports, its source, and the figures, without sparsity."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files


def datasheet(name: str) -> dict[str, float]:
    """The datasheet's FLOP/s by dtype and ``bytes_per_s``; empty where none is known.

    Args:
        name: as the device calls itself, in any case of letters.
    """
    return dict(_datasheets().get(name.casefold(), {}))


@cache
def _datasheets() -> dict[str, dict[str, float]]:
    found = {}
    for path in files(__package__).iterdir():
        if path.name.endswith(".json"):
            document = json.loads(path.read_text(encoding="utf-8"))
            for name in document["reported_names"]:
                found[name.casefold()] = document["figures"]
    return found
