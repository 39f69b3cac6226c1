"""The analytic counter: what an operator costs, from shapes alone. One file a family.

Importing this package registers every family; none of them imports torch.
"""

from importlib import import_module
from pkgutil import iter_modules

from flopratio.formulas.formula import (
    EXAMPLES,
    LAYERS,
    OPERATORS,
    SPARSE_OPERATORS,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    Part,
    Size,
    SparseTensor,
    Tensor,
    UnknownSizeError,
    asked_for,
    exact,
    layer,
    operands_of,
    operator,
    per_dimension,
    prod,
    quotient,
    register,
    same_shape,
)

# A family is a file: dropping one in is all that it takes to register it.
for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")

__all__ = [
    "EXAMPLES",
    "LAYERS",
    "OPERATORS",
    "SPARSE_OPERATORS",
    "Call",
    "Cost",
    "Example",
    "Gradient",
    "LayerCost",
    "Part",
    "Size",
    "SparseTensor",
    "Tensor",
    "UnknownSizeError",
    "asked_for",
    "exact",
    "layer",
    "operands_of",
    "operator",
    "per_dimension",
    "prod",
    "quotient",
    "register",
    "same_shape",
]
