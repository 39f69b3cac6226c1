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
- A call with a sparse tensor, as an operand or as the result, goes to another formula, that which
  the operator has in :data:`SPARSE_OPERATORS` (``@operator(..., sparse=True)``); sparse tensors
  come as :class:`SparseTensor`. An operator that has none is not counted.
- ``out``, always and by keyword: what the operator returned. A Tensor; of several results a tuple,
  with None for one that is undefined (a gradient that was not asked for); None if it returns
  nothing, as operators on lists do that work in place.
- What is done to complex numbers is worked out from what would be done to real ones
  (:func:`of_complex_numbers`), but for a formula that looks at :attr:`Tensor.is_complex` itself
  (``@operator(..., knows_complex=True)``), and for those of users.
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
from functools import wraps
from numbers import Integral
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


def quotient(size: Size, by: Size) -> Size:
    """A size that the other divides without a remainder; of symbols their fraction, which cancels
    where it is multiplied again."""
    whole = all(isinstance(one, Integral | np.ndarray) for one in (size, by))
    return size // by if whole else size / by


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
        is_complex: whether its elements are complex numbers.
        padded: of one of the tensors in a nested tensor, the shape to which a kernel pads it so
            that all have the same.
    """

    shape: tuple[Size, ...]
    itemsize: int = 4
    storage: object = field(default_factory=object, compare=False, repr=False)
    is_complex: bool = False
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
        if itemsize is None:
            return Tensor(shape, self.itemsize, is_complex=self.is_complex)
        return Tensor(shape, itemsize)


UNKNOWN_NONZEROS = "the number of non-zeros is unknown"


class UnknownSizeError(ValueError):
    """What an operator does depends on where non-zeros are, or on how many there are, and that is
    not known."""


@dataclass(frozen=True, slots=True)
class SparseTensor(Tensor):
    """A tensor of which only some entries are stored, with their places.

    Args:
        shape: of the whole.
        stored: how many entries are stored: the non-zeros, and whatever else is listed (zeros that
            are written out, several entries of one place, the zeros in a block). None if that is
            not known.
        indices_nbytes: bytes of the indices, of all kinds together.
        layout: ``sparse_coo``, ``sparse_csr``, ``sparse_csc``, ``sparse_bsr`` or ``sparse_bsc``.
    """

    stored: Size | None = 0
    indices_nbytes: Size = 0
    layout: str = "sparse_coo"

    @property
    def values(self) -> Tensor:
        """The stored entries, as they lie in memory.

        Raises:
            UnknownSizeError: it is not known how many there are.
        """
        if self.stored is None:
            raise UnknownSizeError(UNKNOWN_NONZEROS)
        return Tensor((self.stored,), self.itemsize, self.storage, self.is_complex)

    @property
    def nbytes(self) -> Size:
        """Bytes of values and indices; of the indices alone if the values are unknown."""
        values = 0 if self.stored is None else self.stored * self.itemsize
        return values + self.indices_nbytes


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
        surplus: contraction FLOP that the operator does beyond that (a product of which only the
            entries at non-zeros are wanted); it is recompute.
        recompute: contraction FLOP of forward that its operator does again, as the formula of that
            operator says.
        inner: whether it is the gradient of a value between the operands and the result (a
            recurrent layer's hidden states), which depends on all of ``operand``.
    """

    operand: str | tuple[str, ...]
    op: str
    flops: Size = 0
    elementwise: Size = 0
    saves: tuple[Tensor, ...] = ()
    inner: bool = False
    surplus: Size = 0
    recompute: Size = 0


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
        unknown: why sizes do not tell what it computes (``how many labels a row has is in its
            values``); then it is not counted, and listed so.
    """

    flops: Size = 0
    elementwise: Size = 0
    gradients: tuple[Gradient, ...] = ()
    parts: tuple[Part, ...] = ()
    recompute: Size = 0
    view: bool = False
    unknown: str = ""

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

SPARSE_OPERATORS: dict[str, OperatorFormula] = {}
"""The same for calls of which an operand or the result is a :class:`SparseTensor`."""

LAYERS: dict[str, LayerFormula] = {}
"""Layer type (``Linear``, as in ``torch.nn``) -> its composition of operators."""

EXAMPLES: list[Example] = []
"""Every family's worked examples, collected by one parametrised test."""


def holds_complex(values: Iterable[Any]) -> bool:
    """Whether any of a formula's arguments is, or has in a list, a tensor of complex numbers."""
    return any(
        value.is_complex
        if isinstance(value, Tensor)
        else isinstance(value, tuple) and holds_complex(value)
        for value in values
    )


def of_complex_numbers(cost: Cost) -> Cost:
    """What an operator costs with complex numbers, given what it would with real ones.

    1. A multiply-add is s + (a + bi) (c + di) = s + (ac - bd) + (ad + bc) i: 4 multiplications, 2
       additions for the product and 2 for the sum. 8 FLOP where there were 2: contractions cost 4
       times as much.
    2. An addition is one of the real and one of the imaginary parts, and so is a multiplication by
       a real number, a comparison, a selection; an evaluation of a function counts once for each of
       the two numbers that it gives. Elementwise work costs twice as much.

    What multiplies or divides complex numbers elementwise, or takes their modulus, has a formula
    that knows of them (:mod:`flopratio.formulas.arithmetic`).
    """

    def scaled(work: Any) -> Any:
        return replace(work, flops=4 * work.flops, elementwise=2 * work.elementwise)

    gradients = (
        replace(scaled(gradient), surplus=4 * gradient.surplus, recompute=4 * gradient.recompute)
        for gradient in cost.gradients
    )
    whole: Cost = scaled(cost)
    return replace(
        whole,
        gradients=tuple(gradients),
        parts=tuple(map(scaled, cost.parts)),
        recompute=4 * cost.recompute,
    )


def for_all_numbers(formula: OperatorFormula) -> OperatorFormula:
    """A formula of real numbers, made one of complex ones too."""

    @wraps(formula)
    def cost(*arguments: Any, **named: Any) -> Cost:
        counted: Cost = formula(*arguments, **named)
        is_complex = holds_complex((*arguments, *named.values()))
        return of_complex_numbers(counted) if is_complex else counted

    return cost


def operator(
    *names: str, sparse: bool = False, knows_complex: bool = False
) -> Callable[[OperatorFormula], OperatorFormula]:
    """Register a formula for operators by name (``aten.addmm``, all overloads). What it is given,
    and what it gives, is said at the top of this module.

    Args:
        sparse: whether it is for the calls with sparse tensors.
        knows_complex: whether it looks at :attr:`Tensor.is_complex` itself. Any other counts
            complex numbers by :func:`of_complex_numbers`.

    Raises:
        ValueError: a name has a formula already.
    """
    formulas = SPARSE_OPERATORS if sparse else OPERATORS

    def register(formula: OperatorFormula) -> OperatorFormula:
        entry = formula if knows_complex else for_all_numbers(formula)
        for name in names:
            if name in formulas:
                raise ValueError(f"{name} has a formula already: {formulas[name].__name__}")
            formulas[name] = entry
        return formula

    return register


def register(
    op: Any,
    formula: OperatorFormula | None = None,
    *,
    replace: bool = False,
    sparse: bool = False,
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
        sparse: whether the formula is for calls with sparse tensors, which it is given as
            :class:`SparseTensor`.

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
            (SPARSE_OPERATORS if sparse else OPERATORS).pop(name, None)
        return operator(name, sparse=sparse, knows_complex=True)(chosen)

    return enter if formula is None else enter(formula)


def layer(*types: str) -> Callable[[LayerFormula], LayerFormula]:
    """Register the composition of a layer type. It is called with the input tensors and with the
    arguments of the constructor of the same name, in ``torch.nn`` or among the layers of the
    built-in networks.

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
