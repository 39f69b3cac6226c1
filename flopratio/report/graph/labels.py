"""What is written on a graph: signs of operators, names of variables, figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flopratio.ledger import COUNTS, ROOT
from flopratio.report.units import Kind, plural, printable, quantity, ratio_text, shorten
from flopratio.text.grammar import format_value
from flopratio.verbs.graph.graph import Graph, Operator, Variable

SIGNS = {
    "add": "+",
    "sub": "−",
    "rsub": "−",
    "mul": "⊙",
    "div": "÷",
    "neg": "−",
    "addmm": "× +",
    "mm": "×",
    "bmm": "×",
    "baddbmm": "× +",
    "linear": "× +",
    "convolution": "∗",
    "sum": "Σ",
    "mean": "mean",
    "pow": "xⁿ",
    "sqrt": "√",
    "rsqrt": "1/√",
    "exp": "exp",
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "sigmoid": "σ",
    "tanh": "tanh",
    "softmax": "softmax",
    "log_softmax": "log p",
    "nll_loss": "−log p",
    "mse_loss": "(·)²",
    "batch_norm": "norm",
    "layer_norm": "norm",
    "group_norm": "norm",
    "rms_norm": "norm",
    "dropout": "drop",
    "embedding": "look up",
    "max_pool2d_with_indices": "max",
    "max_pool2d": "max",
    "avg_pool2d": "mean",
    "cat": "cat",
    "clone": "copy",
    "to_copy": "cast",
}
"""Operator, without its affixes -> the sign in its circle."""

MODULES = {"L2Penalty": "Σ w²"}
"""Class of a module whose operators are one in every textbook -> the sign in its circle."""

PREFIXES, SUFFIXES = ("native_", "scaled_dot_product_", "cudnn_", "mkldnn_"), ("_forward", "_")
LONGEST_NAME, LONGEST_SIGN = 26, 9
"""Letters of a layer's path below a circle, and of an operator's name in it."""


@dataclass(frozen=True)
class VariableLabel:
    """The words of a variable.

    Args:
        name: in its square, ``W_1``: what follows the underscore is an index.
        full_name: of a parameter or input, else what it is.
        size: its shape, ``2 × 784``; of several how many they are, and how much they hold.
        saved: its bytes that are kept for backward; empty of none.
    """

    name: str
    full_name: str
    size: tuple[str, ...]
    saved: str


@dataclass(frozen=True)
class OperatorLabel:
    """The words of an operator.

    Args:
        sign: in its circle.
        name: of its layer.
        op: its own name, or how many it stands for.
        forward, backward: figures, a line each.
        inside: bytes that it keeps of what is not drawn; empty of none.
    """

    sign: str
    name: str
    op: str
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    inside: str


def variable_labels(graph: Graph, *, exact: bool = False) -> list[VariableLabel]:
    """The words of each variable of a graph."""
    names = _names(graph)
    return [
        VariableLabel(
            name,
            _full_name(variable),
            _size(variable),
            _bytes(variable.saved_bytes, exact) if variable.saved_bytes else "",
        )
        for name, variable in zip(names, graph.variables, strict=True)
    ]


def operator_labels(graph: Graph, *, exact: bool = False) -> list[OperatorLabel]:
    """The words of each operator of a graph."""
    return [_operator_label(operator, exact) for operator in graph.operators]


def _names(graph: Graph) -> list[str]:
    """Textbook's letters: z of a product, h of what follows, W and b of parameters, x and y of
    what is given; each with an index if there are several."""
    letters = [_letter(graph, index) for index in range(len(graph.variables))]
    total, seen = Counter(letters), Counter[str]()
    names = []
    for letter in letters:
        seen[letter] += 1
        several = total[letter] > 1 and letter[:1].isalpha()
        names.append(f"{letter}_{seen[letter]}" if several else letter)
    return names


def _letter(graph: Graph, index: int) -> str:
    variable = graph.variables[index]
    if variable.tensors > 1:
        return {"parameter": "θ", "input": "x"}.get(variable.kind, "c")
    if variable.kind in ("value", "loss"):
        if variable.kind == "loss":
            return "L"
        maker = graph.maker.get(index)
        return "z" if maker is not None and _is_product(graph.operators[maker]) else "h"
    last = variable.name.rpartition(".")[2]
    if variable.kind == "parameter":
        return "W" if last.endswith("weight") else "b" if last.endswith("bias") else "θ"
    if variable.kind == "input":
        return {"target": "y", "labels": "y"}.get(last, "x")
    return "c"


def _is_product(operator: Operator) -> bool:
    return operator.operators == 1 and operator.figures.forward > 0


def _full_name(variable: Variable) -> str:
    if variable.tensors > 1:
        return plural(variable.tensors, variable.kind)
    return printable(variable.name) or variable.kind


def _size(variable: Variable) -> tuple[str, ...]:
    if variable.tensors > 1:
        return plural(variable.tensors, "tensor"), f"{variable.numbers:,}"
    return (shape_text(variable.shape),)


def shape_text(shape: Sequence[int]) -> str:
    """``2 × 784``; of a scalar ``scalar``."""
    return " × ".join(map(str, shape)) or "scalar"


def _operator_label(operator: Operator, exact: bool) -> OperatorLabel:
    figures = operator.figures
    bare = bare_name(operator.op)
    forward = _lines([("", figures.forward)], figures.elementwise_forward, exact)
    backward: tuple[str, ...] = ()
    if operator.runs_backward or figures.backward or figures.elementwise_backward:
        parts = [("grad_input", figures.grad_input), ("grad_weight", figures.grad_weight)]
        backward = _lines(parts, figures.elementwise_backward, exact)
    if figures.recompute or figures.elementwise_recompute:
        again = _lines([("", figures.recompute)], figures.elementwise_recompute, exact)
        backward += tuple(f"recompute {line}" for line in again)
    if figures.update:
        backward += (f"update {_flop(figures.update, exact)}",)
    return OperatorLabel(
        _sign(bare) if bare else MODULES.get(operator.type, f"{operator.operators:,} ops"),
        shorten(printable(operator.layer) or ROOT, LONGEST_NAME),
        bare or shorten(printable(operator.type), LONGEST_NAME),
        forward,
        backward,
        _bytes(figures.saved_bytes, exact) if figures.saved_bytes else "",
    )


def _sign(bare: str) -> str:
    return "attn" if bare.endswith("attention") else SIGNS.get(bare, shorten(bare, LONGEST_SIGN))


def bare_name(op: str) -> str:
    """``relu`` of ``aten.relu_``."""
    name = op.partition(".")[2] or op
    if not name.strip("_"):
        return name
    name = name.lstrip("_")
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _lines(products: Sequence[tuple[str, int]], elementwise: int, exact: bool) -> tuple[str, ...]:
    """Products, and the other arithmetic apart from them."""
    lines = [f"{name} {_flop(flop, exact)}".strip() for name, flop in products if flop]
    if elementwise:
        lines.append(f"{'+ ' if lines else ''}{_flop(elementwise, exact, unit=False)} elementwise")
    return tuple(lines) or ("0 FLOP",)


def _flop(figure: int, exact: bool, *, unit: bool = True) -> str:
    """To seven digits as they are: longer ones would be read by nobody."""
    text = quantity(figure, Kind.FLOP, exact=exact or figure < 10**7)
    return text if unit else text.removesuffix(" FLOP")


def _bytes(figure: int, exact: bool) -> str:
    return quantity(figure, Kind.BYTES, exact=exact or figure < 10**5)


def headline(graph: Graph) -> str:
    """What was drawn: ``mlp depth=1 batch=2``."""
    settings = " ".join(f"{key}={format_value(value)}" for key, value in graph.settings.items())
    return printable(f"{graph.model} {settings}".strip())


def summary(graph: Graph, *, exact: bool = False) -> list[str]:
    """The figures of the whole, and how it was folded; a sentence a line."""
    total = graph.totals
    parts = [f"forward {_flop(total.forward, exact)}"]
    if total.backward:
        ratio = ratio_text(total.ratio)
        parts.append(
            f"backward {_flop(total.backward, exact)}" + (f" ({ratio} × forward)" if ratio else "")
        )
    for name in ("recompute", "update"):
        if figure := getattr(total, name):
            parts.append(f"{name} {_flop(figure, exact)}")
    elementwise = total.elementwise_forward + total.elementwise_backward
    if elementwise:
        parts.append(f"elementwise besides {_flop(elementwise, exact)}")
    parts.append(f"saved for backward {_bytes(total.saved_bytes, exact)}")
    lines = [" · ".join(parts)]
    out = graph.outside
    elsewhere = sum(getattr(out, count) for count in COUNTS if count != "saved_bytes")
    if elsewhere or out.saved_bytes:
        lines.append(
            f"not drawn, for no operator here is theirs: {_flop(elsewhere, exact)}, "
            f"{_bytes(out.saved_bytes, exact)}"
        )
    if graph.note:
        lines.append(graph.note)
    return lines


def tooltip(item: Operator | Variable) -> str:
    """Every figure of one of them, with every digit."""
    if isinstance(item, Variable):
        saved = f", {item.saved_bytes:,} bytes saved for backward" if item.saved_bytes else ""
        return f"{_full_name(item)}: {', '.join(_size(item))} {item.dtype}{saved}"
    figures = [
        f"{count}: {getattr(item.figures, count):,}"
        for count in COUNTS
        if getattr(item.figures, count)
    ]
    name = item.op or f"{item.operators:,} operators"
    return "\n".join((f"{printable(item.layer) or ROOT} {item.type}: {name}", *figures))


def letter_and_index(name: str) -> str:
    """``W₁`` of ``W_1``."""
    letter, _, index = name.partition("_")
    return letter + index.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
