"""The packages that models come from: optional, imported when a spec asks for them."""

from __future__ import annotations

import importlib
from typing import Any

from flopratio.models.example import ModelError
from flopratio.models.explain import origin, summary


def import_package(name: str) -> Any:
    """The optional package of that name; ModelError: it is not installed, or fails."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != name:
            raise _failed(name, error) from error
        raise ModelError(
            f"the package {name} is not installed: pip install 'flopratio[models]'"
        ) from None
    except Exception as error:  # others' code may raise anything
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> ModelError:
    return ModelError(f"the package {name} can't be imported: {summary(error)}{origin(error)}")
