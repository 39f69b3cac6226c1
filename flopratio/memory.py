"""What a training step holds in memory: its figures, and the storages behind them, with what each
is for and when it is there.

A step is a sequence of operators, its *records*. All moments are indices of records; -1 is before
the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar, overload

from flopratio.errors import UsageError

CATEGORIES = (
    "parameters",
    "buffers",
    "inputs",
    "optimizer_state",
    "gradients",
    "saved_activations",
    "temporaries",
)
"""What memory is for.

- ``inputs`` were there before the step and are neither of the model nor of the optimizer.
- ``gradients`` are, or become, the ``.grad`` of some leaf.
- ``saved_activations`` are kept for a backward at some time, those that it recomputes too.
- ``temporaries`` are the rest.

The figure of each is the most that it takes at once.
"""

STEP_PHASES = ("forward", "backward", "update")
"""The phases of a step, as memory tells them apart."""

STEP_PHASE_OF = {
    "forward": "forward",
    "grad_input": "backward",
    "grad_weight": "backward",
    "recompute": "backward",
    "update": "update",
}
"""The phase of an operator, as the ledger has it -> the phase of the step in which it runs."""


class OperatorRun(NamedTuple):
    """What ran at one record."""

    layer: str
    """The module that it ran for."""
    op: str
    """Its name (``aten.addmm``)."""
    phase: str
    """One of :data:`flopratio.ledger.PHASES`."""
    row: int = -1
    """The place of its (first) row in the ledger; -1 if it isn't known."""


@dataclass(frozen=True, slots=True)
class MemoryBlock:
    """A storage and its life. Tensors that share a storage are one block, of its full size.

    Args:
        number: which storage it is.
        nbytes: its size.
        category: one of :data:`CATEGORIES`.
        layer: the module that it was made for, or that owns it.
        op: the operator that made it; empty if it was there before the step.
        born: the record that made it; -1 if it was there before the step.
        died: the first record that ran without it; None if it outlives the step.
    """

    number: int
    nbytes: int
    category: str
    layer: str
    op: str
    born: int
    died: int | None

    def alive_at(self, record: int) -> bool:
        """Whether it is there while that record runs."""
        return self.born <= record and (self.died is None or record < self.died)


class MemoryEvent(NamedTuple):
    """An allocation or a release."""

    kind: Literal["alloc", "free"]
    block: int
    """The block's number."""
    nbytes: int
    layer: str
    """The block's layer."""
    phase: str
    """One of :data:`STEP_PHASES`; empty before the step."""
    category: str
    record: int
    """The record that allocates, or that is the first to run after the release; -1 before the
    step."""


@dataclass(frozen=True)
class Peak:
    """The moment at which most bytes are alive.

    Args:
        nbytes: how many.
        record: the record that runs then.
        phase: one of :data:`STEP_PHASES`.
        layer, op: which operator runs, and for which layer.
        blocks: what is alive, the largest first.
    """

    nbytes: int
    record: int
    phase: str
    layer: str
    op: str
    blocks: tuple[MemoryBlock, ...]

    @property
    def by_category(self) -> dict[str, int]:
        """Bytes of each category, in the order of :data:`CATEGORIES`."""
        sizes = dict.fromkeys(CATEGORIES, 0)
        for block in self.blocks:
            sizes[block.category] += block.nbytes
        return sizes

    @property
    def by_layer(self) -> dict[str, int]:
        """Bytes of each layer, the largest first."""
        sizes: defaultdict[str, int] = defaultdict(int)
        for block in self.blocks:
            sizes[block.layer] += block.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))


T = TypeVar("T")


class _Figure(Generic[T]):
    """An item of a :class:`Memory` as an attribute of the same name."""

    def __set_name__(self, owner: type[Memory], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, memory: None, owner: type[Memory]) -> Self: ...
    @overload
    def __get__(self, memory: Memory, owner: type[Memory]) -> T: ...
    def __get__(self, memory: Memory | None, owner: type[Memory]) -> Self | T:
        if memory is None:
            return self
        if self._name not in memory:
            raise AttributeError(self._name)  # whose sentence is that of Memory.__getattr__
        figure: T = memory[self._name]
        return figure

    def __set__(self, memory: Memory, figure: T) -> None:
        memory[self._name] = figure


class Memory(dict[str, Any]):
    """The memory of a step: figures by name, ``memory["peak"]`` or ``memory.peak``, and what they
    come from. Figures are bytes, but for ``peak_phase``; one that the source does not know is
    missing, or None.

    Args:
        figures: by name.
        blocks: every storage of the step, in the order in which they were seen; None where only the
            figures are known, as of a built-in network's formulas.
        operators: what ran at each record.
        unknown_workspaces: operators whose kernels take memory besides, of a size that no shape
            tells: it is in no figure.
    """

    parameters = _Figure[int]()
    buffers = _Figure[int]()
    inputs = _Figure[int]()
    gradients = _Figure[int]()
    optimizer_state = _Figure[int]()
    saved_activations = _Figure[int]()
    """What autograd keeps for a backward, each storage once, parameters apart: the most at once.
    What is kept while a backward runs is in it if that one is differentiable itself, not if it
    recomputes."""
    peak = _Figure[int]()
    """The most that is alive at once: the sum of the storages, as a perfect allocator would hold
    them."""
    peak_phase = _Figure[str]()
    """One of :data:`STEP_PHASES`."""
    peak_allocated = _Figure[int]()
    """The most that the device's allocator hands out at once."""
    peak_reserved = _Figure[int]()
    """The most that the device's allocator takes from the device."""
    inference_peak = _Figure[int | None]()
    """The peak of the forward alone, in evaluation and without a graph; None if it was not
    counted."""
    first_step_peak = _Figure[int]()
    """The peak of the step in which the optimizer has yet to make its state."""

    def __init__(
        self,
        figures: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        *,
        blocks: Sequence[MemoryBlock] | None = None,
        operators: Sequence[OperatorRun] = (),
        unknown_workspaces: Sequence[str] = (),
    ) -> None:
        super().__init__(figures)
        self._blocks = blocks
        self._operators = operators
        self.unknown_workspaces = tuple(unknown_workspaces)

    if not TYPE_CHECKING:  # a type checker is to know the figures above and no others

        def __getattr__(self, name: str) -> Any:
            if isinstance(vars(Memory).get(name), _Figure):
                raise AttributeError(f"the source of this memory knows no {name!r}")
            raise AttributeError(f"no figure of memory is called {name!r}")

    @property
    def blocks(self) -> Sequence[MemoryBlock]:
        """Every storage of the step, in the order in which they were seen.

        Raises:
            UsageError: only the figures are known. So do ``operators`` and all methods.
        """
        if self._blocks is None:
            raise UsageError(
                "of this ledger's memory only the figures are known, not what is alive when: "
                "count the step anew, and write it with -o FILE.json, which keeps it"
            )
        return self._blocks

    @property
    def operators(self) -> Sequence[OperatorRun]:
        """What ran at each record."""
        _ = self.blocks
        return self._operators

    @property
    def knows_blocks(self) -> bool:
        """Whether it is known what is alive when, and not the figures alone."""
        return self._blocks is not None

    def lives(self) -> dict[str, list[list[Any]]]:
        """What is alive when, as a document keeps it: the fields of every :class:`MemoryBlock` and
        :class:`OperatorRun`."""
        names = [each.name for each in fields(MemoryBlock)]
        return {
            "blocks": [[getattr(block, name) for name in names] for block in self.blocks],
            "operators": [list(operator) for operator in self.operators],
        }

    @classmethod
    def of_document(
        cls,
        figures: Mapping[str, Any],
        lives: Mapping[str, Sequence[Sequence[Any]]] | None,
        unknown_workspaces: Sequence[str],
    ) -> Self:
        """The memory that a document holds.

        Args:
            lives: what :meth:`lives` gave; None where the document has the figures alone.
        """
        if lives is None:
            return cls(figures, unknown_workspaces=unknown_workspaces)
        return cls(
            figures,
            blocks=[MemoryBlock(*block) for block in lives["blocks"]],
            operators=[OperatorRun(*operator) for operator in lives["operators"]],
            unknown_workspaces=unknown_workspaces,
        )

    def events(self) -> Iterator[MemoryEvent]:
        """Every allocation and release in order; what was there before the step comes first."""
        born: defaultdict[int, list[MemoryBlock]] = defaultdict(list)
        died: defaultdict[int, list[MemoryBlock]] = defaultdict(list)
        for block in self.blocks:
            born[block.born].append(block)
            if block.died is not None:
                died[block.died].append(block)
        for record in range(-1, len(self.operators)):
            phase = STEP_PHASE_OF[self.operators[record].phase] if record >= 0 else ""
            moves: list[tuple[Literal["alloc", "free"], MemoryBlock]] = [
                ("free", block) for block in died[record] if block.born < record
            ]
            for block in born[record]:
                moves.append(("alloc", block))
                if block.died == record:
                    moves.append(("free", block))
            for kind, block in moves:
                yield MemoryEvent(
                    kind, block.number, block.nbytes, block.layer, phase, block.category, record
                )

    def timeline(self) -> dict[str, list[int]]:
        """Category -> the bytes alive while each record ran."""
        lives: dict[str, list[tuple[int, int, int | None]]] = {name: [] for name in CATEGORIES}
        for block in self.blocks:
            lives[block.category].append((block.nbytes, block.born, block.died))
        return {category: bytes_alive(of, len(self.operators)) for category, of in lives.items()}

    def phases(self) -> list[tuple[str, range]]:
        """The stretches of records that belong to one phase of the step, in order."""
        stretches: list[tuple[str, range]] = []
        for index, operator in enumerate(self.operators):
            phase = STEP_PHASE_OF[operator.phase]
            if stretches and stretches[-1][0] == phase:
                stretches[-1] = (phase, range(stretches[-1][1].start, index + 1))
            else:
                stretches.append((phase, range(index, index + 1)))
        return stretches

    @cached_property
    def at_peak(self) -> Peak:
        """When most is alive, and what; of several such moments the first."""
        lives = ((block.nbytes, block.born, block.died) for block in self.blocks)
        alive = bytes_alive(lives, len(self.operators))
        peak = max(alive)
        record = alive.index(peak)
        running = self.operators[record] if self.operators else OperatorRun("", "", STEP_PHASES[0])
        blocks = [block for block in self.blocks if block.alive_at(record) and block.nbytes]
        return Peak(
            peak,
            record,
            STEP_PHASE_OF[running.phase],
            running.layer,
            running.op,
            tuple(sorted(blocks, key=lambda block: -block.nbytes)),
        )


def bytes_alive(lives: Iterable[tuple[int, int, int | None]], records: int) -> list[int]:
    """The bytes that are alive while each of so many records runs; of no records, before the step.

    Args:
        lives: size, ``born`` and ``died`` of each storage, as in :class:`MemoryBlock`.
    """
    changes = [0] * (max(records, 1) + 1)
    for nbytes, born, died in lives:
        born = max(born, 0)
        changes[born] += nbytes
        if died is not None:
            changes[max(died, born)] -= nbytes
    return list(accumulate(changes[:-1]))
