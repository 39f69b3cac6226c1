"""From a recording to the graph of all its operators.

Variables are storages: a view is the variable that it looks at, and an operator that writes to a
variable makes a new one of it. What is computed of whole numbers and constants alone (positions,
masks) is no operator of the graph but a constant in it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from flopratio.formulas.movement import CREATION
from flopratio.ledger import Row, total
from flopratio.text.dtypes import dtype_name
from flopratio.trace.attribution import Attribution
from flopratio.trace.evaluation import changed_by, is_list, is_tensor, tensors_in
from flopratio.trace.forward_call import is_differentiable
from flopratio.trace.kept import most_kept
from flopratio.trace.recording import ACCUMULATE_GRAD, Record, Recording
from flopratio.verbs.graph.graph import Graph, Kind, Operator, Variable

GIVEN: dict[str, Kind] = {"parameter": "parameter", "buffer": "buffer", "outside": "input"}
"""Kind of a storage that was there before -> of the variable."""


def operator_graph(
    recording: Recording, attribution: Attribution, names: Mapping[int, str]
) -> Graph:
    """The graph of a recorded step, operator by operator.

    Args:
        names: of storages: parameters, inputs.
    """
    pass_ = _Pass(recording, attribution, names)
    pass_.run()
    return pass_.graph()


@dataclass
class _Drawn:
    """An operator of the graph, while it is made."""

    record: int
    layer: str
    op: str
    reads: list[int]
    gradients: list[int]
    writes: list[int] = field(default_factory=list)
    keeps: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    kept_inside: int = 0
    runs_backward: bool = False


class _Pass:
    def __init__(
        self, recording: Recording, attribution: Attribution, names: Mapping[int, str]
    ) -> None:
        self._recording, self._attribution, self._names = recording, attribution, names
        self._drawn: list[_Drawn] = []
        self._variables: list[Variable] = []
        self._versions: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """Storage -> its variables, each with the record that made it (-1: it was there)."""
        self._flowing: set[int] = set()
        """Variables that depend on data or parameters."""
        self._of_record: dict[int, int] = {}
        """Record -> its operator."""
        self._records = {id(record): index for index, record in enumerate(recording.records)}
        self._calls = {
            id(call.record): (node, call)
            for node, calls in attribution.forward_calls.items()
            for call in calls
        }
        self._reached = {node for graph in recording.graphs for node in graph.nodes}
        self._of_layer: defaultdict[str, list[int]] = defaultdict(list)
        """Layer -> its operators, in order."""
        self._outside: list[Row] = []
        self._kept_outside = 0

    def run(self) -> None:
        for index, record in enumerate(self._recording.records):
            row = self._attribution.first_rows[index]
            if self._attribution.rows[row].phase == "forward":
                self._add(index, record)
        self._mark_losses()
        self._place_rows()
        self._place_saved()

    # -- operators and variables ------------------------------------------------------------

    def _add(self, index: int, record: Record) -> None:
        notes = list(_tensor_notes((*record.arguments, *(note for _, note in record.keywords))))
        notes += [None] * (len(record.inputs) - len(notes))
        read = [
            -1 if number < 0 else self._variable(number, note)
            for number, note in zip(record.inputs, notes, strict=False)
        ]
        changed = changed_by(record)
        made = [number for number in record.outputs if number not in record.inputs]
        written = [number for number in dict.fromkeys((*made, *changed)) if number >= 0]
        if not written:
            return  # a view
        layer = self._attribution.rows[self._attribution.first_rows[index]].layer
        is_new = record.op.name in CREATION  # whatever it is given, of which it takes the shape
        if is_new or self._flowing.isdisjoint(read):
            self._write(index, record, written, "constant")
            return
        node, call = self._calls.get(id(record), (-1, None))
        wanted = call.wanted if call is not None and node in self._reached else ()
        drawn = _Drawn(
            index,
            layer,
            record.op.name,
            list(dict.fromkeys(variable for variable in read if variable >= 0)),
            list(
                dict.fromkeys(
                    variable
                    for variable, flag in zip(read, wanted, strict=False)
                    if flag and variable >= 0
                )
            ),
        )
        drawn.runs_backward = any(wanted)
        drawn.writes = self._write(index, record, written, "value")
        self._of_record[index] = len(self._drawn)
        self._of_layer[layer].append(len(self._drawn))
        self._drawn.append(drawn)

    def _variable(self, number: int, note: Any) -> int:
        """The variable that a storage holds now."""
        versions = self._versions[number]
        if not versions:
            kind = GIVEN.get(self._recording.storages[number].kind, "constant")
            name = self._names.get(number, "")
            if kind == "input" and not name:
                kind = "constant"
            versions.append((-1, self._new(kind, name, note)))
            if kind == "parameter" or (kind == "input" and is_differentiable(note)):
                self._flowing.add(versions[-1][1])
        return versions[-1][1]

    def _new(self, kind: Kind, name: str, note: Any) -> int:
        shape: tuple[int, ...] = ()
        dtype, numbers = "", 0
        if is_tensor(note):
            shape, dtype = tuple(note[1]), dtype_name(note[2])
            numbers = prod(shape)
        self._variables.append(Variable(kind, name, shape, dtype, numbers))
        return len(self._variables) - 1

    def _write(self, index: int, record: Record, written: list[int], kind: Kind) -> list[int]:
        """New variables for the storages that an operator writes."""
        results = list(_tensor_notes([record.results]))
        notes = dict(zip(record.outputs, results, strict=False))
        made = []
        for number in written:
            note = notes.get(number)
            before = self._versions[number]
            new = self._new(kind, "", note)
            if before:  # written to: as large as it was, whatever part of it was
                old = self._variables[before[-1][1]]
                self._variables[new] = replace(
                    old, kind=old.kind if old.kind == "buffer" else kind, name=old.name
                )
            if kind == "value":
                self._flowing.add(new)
            before.append((index, new))
            made.append(new)
        return made

    def _mark_losses(self) -> None:
        """What backward starts from: the result of the newest node that it reaches."""
        for graph in self._recording.graphs:
            numbers = [number for number in graph.nodes if number != ACCUMULATE_GRAD]
            calls = self._attribution.forward_calls.get(max(numbers, default=-1))
            if not calls or graph.within is not None:
                continue
            record = calls[-1].record
            index = self._records.get(id(record))
            number = next((number for number in record.outputs if number >= 0), None)
            if index is None or number is None or not self._versions[number]:
                continue
            variable = self._version(number, index + 1)
            if self._variables[variable].kind == "value":
                self._variables[variable] = replace(self._variables[variable], kind="loss")

    def _version(self, number: int, moment: int) -> int:
        """The variable that a storage held before a record ran."""
        versions = self._versions[number]
        position = bisect_left([made for made, _ in versions], moment)
        return versions[max(position - 1, 0)][1]

    # -- figures ----------------------------------------------------------------------------

    def _place_rows(self) -> None:
        """Every row of the ledger to the operator that it is of: what ran in backward to the
        operator behind its node, and anything else to one of its layer."""
        rows, first_rows = self._attribution.rows, [*self._attribution.first_rows]
        first_rows.append(len(rows))
        again: Counter[tuple[str, str]] = Counter()
        self._users = self._users_of_parameters()
        for index, record in enumerate(self._recording.records):
            own = self._of_record.get(index)
            if own is None and record.node is not None:
                own = self._behind(record.node)
            for row in rows[first_rows[index] : first_rows[index + 1]]:
                row = row._replace(saved_bytes=0)
                if not any((row.flops, row.elementwise)):
                    continue
                place = own
                if place is None or self._drawn[place].layer != row.layer:
                    place = self._in_layer(index, row, again)
                    place = own if place is None else place
                if place is None:
                    self._outside.append(row)
                else:
                    self._drawn[place].rows.append(row)

    def _users_of_parameters(self) -> dict[str, int]:
        """Layer -> the first operator that reads a parameter of it."""
        readers: dict[int, int] = {}
        for place, drawn in enumerate(self._drawn):
            for variable in drawn.reads:
                readers.setdefault(variable, place)
        users: dict[str, int] = {}
        for number, layer in self._recording.owners.parameters.items():
            for _, variable in self._versions.get(number, ()):
                if variable in readers:
                    users.setdefault(layer, readers[variable])
        return users

    def _behind(self, node: int) -> int | None:
        for call in self._attribution.forward_calls.get(node, ()):
            index = self._records.get(id(call.record))
            if index in self._of_record:
                return self._of_record[index]
        return None

    def _in_layer(self, index: int, row: Row, again: Counter[tuple[str, str]]) -> int | None:
        """An operator of a row's layer: of what is done again that which did it first, in turn; of
        what is not drawn the next one. Of a layer whose parameters others use, the first of
        those."""
        inside = self._of_layer.get(row.layer)
        if not inside:
            return self._users.get(row.layer)
        if row.phase == "recompute":
            same = [place for place in inside if self._drawn[place].op == row.op]
            again[row.layer, row.op] += 1
            if same:
                return same[(again[row.layer, row.op] - 1) % len(same)]
        if row.phase == "forward":
            following = (place for place in inside if self._drawn[place].record > index)
            return next(following, inside[-1])
        return inside[-1]

    def _place_saved(self) -> None:
        """What autograd keeps when it keeps most, each storage once, to its variable."""
        seen: set[int] = set()
        for kept in most_kept(self._recording).kept:
            if kept.storage in seen:
                continue
            seen.add(kept.storage)
            nbytes = self._recording.storages[kept.storage].nbytes
            keeper = self._behind(kept.node)
            if self._versions.get(kept.storage):
                at = self._version(kept.storage, kept.born)
                before = self._variables[at]
                self._variables[at] = replace(before, saved_bytes=before.saved_bytes + nbytes)
            elif keeper is not None:
                self._drawn[keeper].kept_inside += nbytes
            else:
                self._kept_outside += nbytes
        for kept in self._recording.kept_for_backward():
            keeper = self._behind(kept.node)
            if keeper is not None and self._versions.get(kept.storage):
                at = self._version(kept.storage, kept.born)
                keeps = self._drawn[keeper].keeps
                if at not in keeps and self._variables[at].saved_bytes:
                    keeps.append(at)

    # -- the result -------------------------------------------------------------------------

    def graph(self) -> Graph:
        types = self._recording.types
        gradients = {variable for drawn in self._drawn for variable in drawn.gradients}
        variables = [
            replace(variable, has_gradient=number in gradients or variable.kind == "loss")
            for number, variable in enumerate(self._variables)
        ]
        operators = [
            Operator(
                drawn.op,
                drawn.layer,
                types.get(drawn.layer, ""),
                1,
                replace(
                    total(drawn.layer, types.get(drawn.layer, ""), drawn.rows, 0),
                    saved_bytes=drawn.kept_inside,
                ),
                tuple(drawn.reads),
                tuple(drawn.writes),
                tuple(drawn.gradients),
                tuple(drawn.keeps),
                drawn.runs_backward,
            )
            for drawn in self._drawn
        ]
        outside = replace(total("", "", self._outside, 0), saved_bytes=self._kept_outside)
        return Graph(tuple(operators), tuple(variables), outside, dict(types))


def _tensor_notes(notes: Iterable[Any]) -> Iterator[Any]:
    """The note of each tensor among some, those in lists too, in order."""
    for note in notes:
        if is_list(note):
            yield from _tensor_notes(note[1:])
        elif tensors_in(note):
            yield note
