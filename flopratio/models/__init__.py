"""What a MODEL spec names, as a module with an example batch: :mod:`flopratio.models.load`."""

from flopratio.models.example import (
    Example,
    FixedSizeError,
    Inputs,
    ModelError,
    ReadsValuesError,
)
from flopratio.models.explain import explain_failure
from flopratio.models.fakes import StepMode
from flopratio.models.load import load

__all__ = [
    "Example",
    "FixedSizeError",
    "Inputs",
    "ModelError",
    "ReadsValuesError",
    "StepMode",
    "explain_failure",
    "load",
]
