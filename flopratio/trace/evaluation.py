"""What one recorded operator costs: its formula, given the shapes that the recorder noted."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

from flopratio.formulas import (
    OPERATORS,
    SPARSE_OPERATORS,
    Cost,
    SparseTensor,
    Tensor,
    UnknownSizeError,
)
from flopratio.formulas.attention import causal_half, is_causal
from flopratio.formulas.formula import UNKNOWN_NONZEROS, OperatorFormula, summed
from flopratio.trace.computing_dtype import computing_dtype
from flopratio.trace.formula_check import (
    OUT,
    OUTPUT,
    arguments_of,
    check_call,
    check_cost,
)
from flopratio.trace.recording import (
    FUNCTION,
    GUESSED,
    LIST,
    NESTED,
    OPENED,
    TENSOR,
    Operator,
    Record,
    SparseNote,
)

NO_COST = Cost()


class Costed(NamedTuple):
    """A record's signature, evaluated; equal signatures share one."""

    op: str
    cost: Cost
    known: bool
    operands: tuple[str, ...]
    """The argument names of its tensors, in order (an operator on a list repeats a name)."""
    bytes_read: int
    bytes_written: int
    saves: tuple[tuple[int, ...], ...]
    """For each gradient, what forward keeps for it: positions among its tensors, inputs first."""
    dtype: str = ""
    """The element type that it computes in."""


def is_tensor(note: Any) -> bool:
    return type(note) is tuple and len(note) > 0 and note[0] == TENSOR


def is_sparse(note: Any) -> bool:
    return is_tensor(note) and isinstance(note[-1], SparseNote)


def is_list(note: Any) -> bool:
    return type(note) is tuple and len(note) > 0 and note[0] == LIST


def is_nested(note: Any) -> bool:
    return type(note) is tuple and len(note) > 0 and note[0] == NESTED


def _for_formula(note: Any) -> Any:
    """The formula's view of a noted argument."""
    if is_tensor(note):
        _, shape, dtype, *beside = note
        if beside and isinstance(beside[0], SparseNote):
            sparse = beside[0]
            return SparseTensor(
                shape,
                dtype.itemsize,
                is_complex=dtype.is_complex,
                stored=sparse.stored,
                indices_nbytes=sparse.indices_nbytes,
                layout=sparse.layout,
            )
        padded = beside[0] if beside else None
        return Tensor(shape, dtype.itemsize, is_complex=dtype.is_complex, padded=padded)
    if is_list(note):
        return tuple(_for_formula(item) for item in note[1:])
    if is_function(note):
        return _elementwise_of_function(note)
    return note


def is_function(note: Any) -> bool:
    return type(note) is tuple and len(note) > 0 and note[0] == FUNCTION


def _elementwise_of_function(note: Any) -> int:
    """The arithmetic of one call of a function."""
    calls = [] if _is_unknown(note) else note[1:]
    costs = (_evaluate(*call, OPERATORS.get(call[0].name), None, "full").cost for call in calls)
    return sum(cost.elementwise + cost.flops for cost in costs)


def _is_unknown(note: Any) -> bool:
    """Whether it is not known what a function calls."""
    if is_list(note):
        return any(_is_unknown(item) for item in note[1:])
    return is_function(note) and note[1:] == (None,)


def _tensors(described: Any) -> tuple[Tensor, ...]:
    """The tensors of a described argument, those in lists of lists too."""
    if isinstance(described, Tensor):
        return (described,)
    if isinstance(described, tuple):
        return tuple(tensor for item in described for tensor in _tensors(item))
    return ()


def shapes(record: Record) -> list[Any]:
    """The tensors among its positional arguments, as noted."""
    return [note for note in record.arguments if is_tensor(note)]


def is_list_of_tensors(note: Any) -> bool:
    return is_list(note) and len(note) > 1 and all(is_tensor(item) for item in note[1:])


def tensors_in(note: Any) -> int:
    """How many tensors a note stands for."""
    if is_tensor(note) or is_nested(note):
        return 1
    return sum(tensors_in(item) for item in note[1:]) if is_list(note) else 0


def written_by(record: Record) -> tuple[int, ...]:
    """The storages that an operator writes: of its results, and of arguments that it writes to
    without giving them back."""
    return record.outputs or changed_by(record)


def changed_by(record: Record) -> tuple[int, ...]:
    """The storages of the arguments that an operator writes to."""
    if not record.op.is_mutable:
        return ()
    by_name = {argument.name: argument for argument in record.op.arguments}
    given = [
        *zip(record.op.arguments, record.arguments, strict=False),
        *((by_name[name], value) for name, value in record.keywords),
    ]
    written: list[int] = []
    start = 0
    for argument, value in given:
        end = start + tensors_in(value)
        if argument.is_written:
            written += record.inputs[start:end]
        start = end
    return tuple(written)


def narrowed_to(record: Record, positions: list[int], length: int) -> Record:
    """An operator on lists of tensors of a length, those at some of the positions alone."""

    def narrowed(note: Any) -> Any:
        if is_list(note) and len(note) == length + 1:
            return (LIST, *(note[1 + position] for position in positions))
        return note

    return record._replace(
        arguments=tuple(narrowed(note) for note in record.arguments),
        keywords=tuple((key, narrowed(note)) for key, note in record.keywords),
        results=narrowed(record.results),
    )


class Evaluator:
    """Evaluates formulas, and remembers which operators have none.

    Args:
        causal: how attention under a causal mask counts, ``full`` or ``half``.
    """

    def __init__(self, causal: str = "full") -> None:
        self.causal = causal
        self.uncounted: Counter[str] = Counter()

    def __call__(self, record: Record) -> Costed:
        costed = self.quietly(record)
        if not costed.known:
            self.uncounted[costed.op] += 1
        return costed

    def quietly(self, record: Record) -> Costed:
        """The cost of a record that is evaluated in its turn too: none is listed here."""
        name = record.op.name
        return _evaluate(
            record.op,
            record.arguments,
            record.keywords,
            record.results,
            OPERATORS.get(name),
            SPARSE_OPERATORS.get(name),
            self.causal,
        )


def uncounted(record: Record, error: Exception) -> Costed:
    """Of an operator that can't be counted: what was wrong is in its name."""
    name = f"{record.op.name} ({type(error).__name__}: {error})"
    return Costed(name, NO_COST, False, (), 0, 0, ())


@lru_cache(maxsize=1 << 16)
def _evaluate(
    op: Operator,
    arguments: tuple[Any, ...],
    keywords: tuple[tuple[str, Any], ...],
    results: Any,
    formula: OperatorFormula | None,
    sparse_formula: OperatorFormula | None,
    causal: str,
) -> Costed:
    """The cost of one signature. Models repeat their layers, and steps repeat themselves.

    A formula that raises an error (a shape that it did not expect) counts nothing: its operator is
    uncounted, and the error is in the name under which it is listed. So is one with sparse tensors,
    if it has no formula for these, or if it is not known how many non-zeros there are.

    Raises:
        FormulaError: the formula does not fit its operator.
    """
    nested = _nested_among((arguments, *(value for _, value in keywords), results))
    if nested:
        of_each = [
            _evaluate(
                op,
                tuple(_one_of(note, place) for note in arguments),
                tuple((key, _one_of(note, place)) for key, note in keywords),
                _one_of(results, place),
                formula,
                None,
                causal,
            )
            for place in range(len(nested[1]))
        ]
        return _together(of_each, _dense_bytes(arguments, keywords), _dense_bytes((results,)))
    name = op.name
    if formula is None and op.overload in (OPENED, GUESSED) and name.startswith("higher_order."):
        formula = _contents
    positional = [_for_formula(note) for note in arguments]
    named = {key: _for_formula(note) for key, note in keywords}
    out = _for_formula(results)
    schema = arguments_of(op)
    names = schema.given
    operands: list[str] = []
    read = 0
    positions: dict[int, int] = {}
    written = 0
    for operand, described in (*zip(names, positional, strict=False), *named.items()):
        for tensor in _tensors(described):
            positions.setdefault(id(tensor.storage), len(operands))
            operands.append(operand)
            read += tensor.nbytes
            if operand in schema.changed:
                written += tensor.nbytes
    for index, tensor in enumerate(_tensors(out)):
        positions.setdefault(id(tensor.storage), len(operands) + index)
        written += tensor.nbytes
    cost = NO_COST
    every = [tensor for value in (*positional, *named.values(), out) for tensor in _tensors(value)]
    sparse = [tensor for tensor in every if isinstance(tensor, SparseTensor)]
    if sparse:
        formula = sparse_formula
        name = f"{name} (of sparse tensors)" if formula is None else name
    if formula is not None:
        check_call(op, formula)
        given = {
            OUTPUT if key == OUT else key: value
            for key, value in named.items()
            if key not in schema.written
        }
        try:
            cost = formula(*positional, **given, out=out)
        except UnknownSizeError as error:
            cost = Cost(unknown=str(error))
        except Exception as error:
            name, formula = f"{name} ({type(error).__name__}: {error})", None
        else:
            check_cost(op, formula, cost, positions)
        if causal == "half":
            given = {**dict(zip(names, positional, strict=False)), **given}
            cost = causal_half(cost) if is_causal(name, given) else cost
    if formula is not None and not cost.view and any(each.stored is None for each in sparse):
        cost = Cost(unknown=UNKNOWN_NONZEROS)  # not even its bytes can be told
    if cost.unknown:
        name, formula = f"{name} ({cost.unknown})", None
    if cost.view:
        read = written = 0
    saves = tuple(
        tuple(
            positions[id(tensor.storage)]
            for tensor in gradient.saves
            if id(tensor.storage) in positions
        )
        for gradient in cost.gradients
    )
    known = formula is not None
    if any(_is_unknown(note) for note in arguments):
        name, known = f"{name} (what its function does to a score)", False
    if formula is _contents and op.overload == GUESSED:
        name, known = f"{name} (a value tells which function runs, or how often)", False
    dtype = computing_dtype((*arguments, *(value for _, value in keywords)), results)
    return Costed(name, cost, known, tuple(operands), read, written, saves, dtype)


def _contents(*arguments: Any, out: Any, **options: Any) -> Cost:
    """Nothing but what the operators inside cost."""
    return Cost(view=True)


# -- nested tensors: an operator works on each of the tensors in them -----------------------------


def _nested_among(notes: Any) -> Any:
    """The first note of a nested tensor among some notes; None if there is none."""
    for note in notes:
        found = note if is_nested(note) else _nested_among(note) if type(note) is tuple else None
        if found is not None:
            return found
    return None


def _one_of(note: Any, place: int) -> Any:
    """A note with one of the tensors of each nested one in its place; beside its shape, that which
    all have where a kernel pads them."""
    if is_nested(note):
        _, shapes, dtype = note
        return TENSOR, shapes[place], dtype, tuple(map(max, zip(*shapes, strict=True)))
    return (LIST, *(_one_of(item, place) for item in note[1:])) if is_list(note) else note


def _dense_bytes(arguments: Any, keywords: Any = ()) -> int:
    """Those of the tensors that are not nested."""
    described = (_for_formula(note) for note in (*arguments, *(value for _, value in keywords)))
    return sum(tensor.nbytes for each in described for tensor in _tensors(each))


def _together(of_each: list[Costed], dense_read: int, dense_written: int) -> Costed:
    """An operator on nested tensors, of that on each of the tensors in them."""
    first, more = of_each[0], len(of_each) - 1
    cost = summed([costed.cost for costed in of_each])
    read = sum(costed.bytes_read for costed in of_each) - more * dense_read
    written = sum(costed.bytes_written for costed in of_each) - more * dense_written
    if cost.view:
        read = written = 0
    return first._replace(cost=cost, bytes_read=read, bytes_written=written)
