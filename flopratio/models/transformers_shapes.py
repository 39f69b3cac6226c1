"""The shapes of a model's inputs as transformers documents them, `(batch_size, sequence_length)`:
read from the docstring of forward, with the sizes of a configuration put in for the names."""

from __future__ import annotations

import ast
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from flopratio.models.inputs import floats, integers

_DOCUMENTED = re.compile(r"^ *(\w+) \((.*?of shape `?(\([^`]*\)).*)$", re.MULTILINE)
_TIMES = re.compile(r"(?<=\w) x (?=\w)")
_INTEGER = re.compile(r"Long|Int|Bool|int\b|bool\b")
_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


def documented_forms(model: Any, sizes: Callable[[str], int | None]) -> dict[str, Tensor]:
    """The inputs whose shapes the docstring of a model's forward tells, of these shapes.

    Args:
        sizes: what a name in a shape stands for, None if that isn't known.
    """
    forms = {}
    annotations = {
        n: str(p.annotation) for n, p in inspect.signature(model.forward).parameters.items()
    }
    for name, kind, shape in _DOCUMENTED.findall(inspect.getdoc(model.forward) or ""):
        sides = parse_documented(shape, sizes)
        if name in annotations and sides is not None:
            is_integer = bool(_INTEGER.search(annotations[name] + kind.split(" of shape")[0]))
            forms[name] = of_shape(name, sides, is_integer)
    return forms


def of_shape(name: str, sides: tuple[int, ...], is_integer: bool) -> Tensor:
    """An input of that name: a mask lets everything through, other integers are 0."""
    if name.endswith("mask"):
        return integers(*sides, value=1)
    return integers(*sides) if is_integer else floats(*sides)


def parse_documented(shape: str, sizes: Callable[[str], int | None]) -> tuple[int, ...] | None:
    """`(batch_size, sequence_length + 1)` as numbers; None if it is no shape, or a name unknown."""
    try:
        tree = ast.parse(_TIMES.sub(" * ", shape), mode="eval").body
    except SyntaxError:
        return None
    sides = tree.elts if isinstance(tree, ast.Tuple) else [tree]
    values = [_size(side, sizes) for side in sides]
    return None if None in values else tuple(value for value in values if value is not None)


def _size(side: ast.expr, sizes: Callable[[str], int | None]) -> int | None:
    if isinstance(side, ast.Constant):
        return side.value if isinstance(side.value, int) else None
    if isinstance(side, ast.Name):
        return sizes(side.id)
    if isinstance(side, ast.Attribute):  # config.n_docs
        return sizes(side.attr)
    if isinstance(side, ast.BinOp) and type(side.op) in _OPERATORS:
        left, right = _size(side.left, sizes), _size(side.right, sizes)
        if left is not None and right is not None:
            return _OPERATORS[type(side.op)](left, right)
    return None
