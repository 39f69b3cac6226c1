"""The packages that models come from: optional, imported when a spec asks for them."""

from __future__ import annotations

import importlib
from typing import Any

from flopratio.models.example import ModelError


def import_package(name: str) -> Any:
    """The optional package of that name; ModelError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != name:
            raise
        raise ModelError(
            f"the package {name} is not installed: pip install 'flopratio[models]'"
        ) from None
