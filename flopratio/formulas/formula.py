"""What a formula takes and gives: shapes in, a cost out. Plain arithmetic; torch is never imported.

Every size may be a Python int (exact), a NumPy array of Python ints (a whole sweep at once, see
:func:`exact`) or a SymPy expression (a closed form); formulas only add, multiply and divide them.

One convention holds for forward and backward operators, ours and those of users.

What a formula is given:

- The operator's arguments under the names that its schema has for them: by position where the
  schema allows it, else by keyword. A call may leave out what is at its default, so the formula
  has a default wherever the schema has one.
- Where versions of torch differ: a parameter before ``/`` may have any name, for an argument that
  they call otherwise; a further one with a default is for an argument that only some have.
- In each tensor's place a :class:`Tensor`, in a list's place a tuple, None for what is absent;
  numbers, truth values and strings as they are.
- ``out``, always and by keyword: what the operator returned. A Tensor; of several results a tuple,
  with None for one that is undefined (a gradient that was not asked for); None if it returns
  nothing, as operators on lists do that work in place.
- So an argument that the schema itself calls ``out`` and reads (attention's backward is given
  the result of forward) comes as ``output``. One that an ``out=`` overload writes to is not given:
  it is what the operator returns.

What a formula gives, a :class:`Cost`:

- of a forward operator a :class:`Gradient` for each piece of work of its backward, under the names
  of its own operands;
- of a fused backward operator, which computes the gradients of several operands, a :class:`Part`
  for each piece of that work, under the names of the *forward* operator's operands, whatever the
  backward operator calls them. If it has an ``output_mask``, only what that asks for:
  :func:`asked_for`;
- of a backward operator that computes one gradient (``aten.threshold_backward``) its work alone.

A trace compares all of these names with the operator's schema when it first meets the operator: a
misspelt one is an error, not a gradient that nobody claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Size = Any
"""An int, an object array of ints or a SymPy expression."""


def exact(values: Iterable[int] | int) -> Size:
    """An array of Python ints, which never overflow (NumPy's int64 does, past 9.2e18)."""
    return np.asarray(values, dtype=object)


def prod(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 for none (a scalar has one element)."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def same_shape(first: tuple[Size, ...], second: tuple[Size, ...]) -> bool:
    """Whether two shapes are equal; with arrays of sizes, at every point."""
    return len(first) == len(second) and all(
        one is other or bool(np.all(one == other)) for one, other in zip(first, second, strict=True)
    )


def per_dimension(value: Size | Sequence[Size], dimensions: int) -> tuple[Size, ...]:
    """A size for each spatial dimension (a kernel, a stride); a lone one stands for all of them."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * dimensions if len(values) == 1 else values


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """The memory of a copy.

    Args:
        original: the memory that was copied.
    """

    original: object


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor without its values: what a formula sees of an operand.

    Args:
        shape: its sizes.
        itemsize: bytes an element.
        storage: the memory behind it; views and in-place results share one.
        padded: of one of the tensors in a nested tensor, the shape to which a kernel pads it so
            that all have the same.
    """

    shape: tuple[Size, ...]
    itemsize: int = 4
    storage: object = field(default_factory=object, compare=False, repr=False)
    padded: tuple[Size, ...] | None = None

    @property
    def numel(self) -> Size:
        return prod(self.shape)

    @property
    def nbytes(self) -> Size:
        return self.numel * self.itemsize

    def view(self, *shape: Size) -> Tensor:
        """The same memory under another shape."""
        return replace(self, shape=shape)

    def copy(self) -> Tensor:
        """What autograd keeps of an operand that the operator writes over: a copy of it."""
        return replace(self, storage=Copy(self.storage))

    def new(self, *shape: Size, itemsize: int | None = None) -> Tensor:
        """A fresh tensor, of this one's element size unless told otherwise."""
        return Tensor(shape, self.itemsize if itemsize is None else itemsize)


@dataclass(frozen=True, slots=True)
class Gradient:
    """What autograd does for one operand of a forward operator, if that operand needs a gradient.

    Args:
        operand: the operand's name in the operator's schema. Several names: an intermediate value
            (attention's probabilities) whose gradient is needed if that of any of them is.
        op: the operator that computes the gradient (``aten.mm``); several gradients of one fused
            operator (``aten.convolution_backward``) name the same one. Empty: no operator does
            (the gradient is handed on as it is), or which one does is left to a trace.
        flops: FLOP of its contraction: that of the forward operator, by the law.
        elementwise: all its other arithmetic.
        saves: the tensors that forward must keep for it, of its operands and results.
        inner: whether it is the gradient of a value between the operands and the result (a
            recurrent layer's hidden states), which depends on all of ``operand``.
    """

    operand: str | tuple[str, ...]
    op: str
    flops: Size = 0
    elementwise: Size = 0
    saves: tuple[Tensor, ...] = ()
    inner: bool = False


def operands_of(work: Gradient | Part) -> tuple[str, ...]:
    """The operands of which one must need a gradient for this work to be done."""
    return (work.operand,) if isinstance(work.operand, str) else work.operand


@dataclass(frozen=True, slots=True)
class Part:
    """The share of one operand's gradient in a fused backward operator; operands as in
    :class:`Gradient`."""

    operand: str | tuple[str, ...]
    flops: Size = 0
    elementwise: Size = 0
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of an operator computes.

    Args:
        flops: FLOP of contractions, 2 per multiply-add.
        elementwise: all other arithmetic FLOP.
        gradients: what autograd will do for each operand, in the order in which its node does it.
        parts: of a fused backward operator only: how its work splits over the operands; then
            ``flops`` and ``elementwise`` are their sums.
        recompute: contraction FLOP that it does again although forward had done them (Q @ K^T in
            a fused attention backward); not contained in ``flops``.
        view: whether the result is an operand's own memory under another shape: no byte is moved.
    """

    flops: Size = 0
    elementwise: Size = 0
    gradients: tuple[Gradient, ...] = ()
    parts: tuple[Part, ...] = ()
    recompute: Size = 0
    view: bool = False

    @staticmethod
    def fused(*parts: Part, recompute: Size = 0) -> Cost:
        """The cost of a fused backward operator: the sum of its parts."""
        return Cost(
            flops=sum(part.flops for part in parts),
            elementwise=sum(part.elementwise for part in parts),
            parts=parts,
            recompute=recompute,
        )


def summed(costs: Sequence[Cost]) -> Cost:
    """The cost of several calls of one operator as if they were one.

    Raises:
        ValueError: they have unlike gradients.
    """
    first = costs[0]
    return replace(
        first,
        flops=sum(cost.flops for cost in costs),
        elementwise=sum(cost.elementwise for cost in costs),
        recompute=sum(cost.recompute for cost in costs),
        gradients=_summed([cost.gradients for cost in costs]),
        parts=_summed([cost.parts for cost in costs]),
    )


def _summed(works: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Gradients or parts, one by one."""
    return tuple(
        replace(
            same[0],
            flops=sum(one.flops for one in same),
            elementwise=sum(one.elementwise for one in same),
        )
        for same in zip(*works, strict=True)
    )


def restricted(parts: Iterable[Part], operands: Collection[str]) -> tuple[Part, ...]:
    """The parts that are done for some of the operands, named for these alone."""
    shares = ((tuple(o for o in operands_of(part) if o in operands), part) for part in parts)
    return tuple(
        replace(part, operand=names if len(names) > 1 else names[0])
        for names, part in shares
        if names
    )


def asked_for(
    parts: Iterable[Part], operands: Sequence[str], output_mask: Sequence[bool]
) -> tuple[Part, ...]:
    """The parts of a fused backward operator that its ``output_mask`` asks for.

    Args:
        parts: all of them.
        operands: the forward operator's operands for which the mask stands, in its order.
        output_mask: whether the gradient of each is asked for.
    """
    asked = {name for name, wanted in zip(operands, output_mask, strict=True) if wanted}
    return restricted(parts, asked)


@dataclass(frozen=True, slots=True)
class Call:
    """One operator applied to tensors, as a layer's description composes it.

    Args:
        op: the operator's name.
        operands: by their names in the operator's schema; tensors and plain arguments alike.
        out: what it returns.
    """

    op: str
    operands: Mapping[str, Any]
    out: Tensor | tuple[Tensor, ...]

    @property
    def cost(self) -> Cost:
        return OPERATORS[self.op](**self.operands, out=self.out)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """A layer as a composition of operators.

    Args:
        out: the tensor that it hands on.
        calls: its operators, in order.
        parameters: its parameters, by name.
        buffers: what it keeps from step to step without a gradient (running statistics), by name;
            like parameters, no saved bytes of its own.
    """

    out: Tensor
    calls: tuple[Call, ...] = ()
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    buffers: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example: the figures stand beside the arithmetic that gives them.

    Args:
        op: operator or layer name.
        arguments: what the formula is called with.
        expected: attribute of the cost -> integer.
        why: the arithmetic, spelled out.
    """

    op: str
    arguments: Mapping[str, Any]
    expected: Mapping[str, int]
    why: str


OperatorFormula = Callable[..., Cost]
LayerFormula = Callable[..., LayerCost]

OPERATORS: dict[str, OperatorFormula] = {}
"""Operator name (``aten.addmm``, without overload) -> formula."""

LAYERS: dict[str, LayerFormula] = {}
"""Layer type (``Linear``, as in ``torch.nn``) -> its composition of operators."""

EXAMPLES: list[Example] = []
"""Every family's worked examples, collected by one parametrised test."""


def operator(*names: str) -> Callable[[OperatorFormula], OperatorFormula]:
    """Register a formula for operators by name (``aten.addmm``, all overloads). What it is given,
    and what it gives, is said at the top of this module.

    Raises:
        ValueError: a name has a formula already.
    """

    def register(formula: OperatorFormula) -> OperatorFormula:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"{name} has a formula already: {OPERATORS[name].__name__}")
            OPERATORS[name] = formula
        return formula

    return register


def register(
    op: Any, formula: OperatorFormula | None = None, *, replace: bool = False
) -> Callable[..., Any]:
    """Give an operator of your own (a custom op, a Triton kernel) a formula; usable as a decorator.

    ::

        @fr.register("mylib::fused_mlp")
        def fused_mlp(x, weight, *, out):
            flops = 2 * x.numel * weight.shape[0]  # out[B, O] = x[B, I] @ weight[O, I].T
            products = [fr.Gradient(name, "mylib.fused_mlp_backward", flops=flops)
                        for name in ("x", "weight")]
            return fr.Cost(flops=flops, gradients=tuple(products))

    Args:
        op: its name (``mylib::fused_mlp``, all overloads) or the ``OpOverload`` itself.
        formula: called with the operator's own arguments, a :class:`Tensor` in each tensor's
            place, and ``out``, what the operator returned; gives a :class:`Cost`.
        replace: whether an operator that has a formula may get this one instead.

    Raises:
        ValueError: the operator has a formula already, or the name has no namespace.

    A formula whose names are not those of the operator's schema is a :class:`FormulaError` of the
    first ledger of a step that ran the operator.
    """
    name = op.name().partition(".")[0] if hasattr(op, "name") else str(op)
    name = name.replace("::", ".")
    if "." not in name:
        raise ValueError(f"an operator is called namespace::name, not {name}")

    def enter(chosen: OperatorFormula) -> OperatorFormula:
        if replace:
            OPERATORS.pop(name, None)
        return operator(name)(chosen)

    return enter if formula is None else enter(formula)


def layer(*types: str) -> Callable[[LayerFormula], LayerFormula]:
    """Register the composition of a layer type. It is called with the input tensor and with the
    arguments of the ``torch.nn`` constructor of the same name.

    Raises:
        ValueError: a type has a composition already.
    """

    def register(formula: LayerFormula) -> LayerFormula:
        for name in types:
            if name in LAYERS:
                raise ValueError(f"{name} has a composition already: {LAYERS[name].__name__}")
            LAYERS[name] = formula
        return formula

    return register
