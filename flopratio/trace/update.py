"""Which operators of a step are its update, and the layer that each works for.

What runs inside of ``Optimizer.step`` is update: the optimizer's own arithmetic, not the forward
and backward of a closure that it calls. So is what people write out themselves, beside or in place
of an optimizer. It runs outside of any module, autograd does not follow it, and it

- reads a gradient, or what was made of one (clipping, scaling, ``p -= lr * p.grad``);
- or writes to a parameter (a copy, a clamp, a decay);
- or works on parameters alone, and not for a forward (a norm of weights), or sums them up with
  something of their shape that nothing else looks at (an average of weights kept elsewhere);
- or serves only operators that do (the state of an optimizer written by hand, a decay's factor).
"""

from __future__ import annotations

from collections import defaultdict

from flopratio.trace.evaluation import (
    changed_by,
    is_list_of_tensors,
    is_sparse,
    narrowed_to,
    tensors_in,
)
from flopratio.trace.recording import ACCUMULATE_GRAD, OUTSIDE, Record, Recording

KEEPS_GRADIENT = frozenset({"aten.detach", "aten.add", "aten.add_", "aten.clone", "aten.copy_"})
"""The operators by which AccumulateGrad keeps a gradient; what its node runs after one of them are
hooks (``register_post_accumulate_grad_hook``)."""


SUMS = ("aten.add", "aten.sub", "aten.lerp", "aten._foreach_add", "aten._foreach_lerp")
"""What averages are made by; ``add_`` too."""

A_NUMBER = 8
"""A storage of so few bytes holds a number that any operator may read."""


class Update:
    """The update of a recorded step.

    Attributes:
        records: indices of its operators.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        owners = recording.owners
        self._owners = {**owners.state, **gradient_layers(recording), **owners.parameters}
        self._owners.pop(-1, None)  # what has no storage is told from nothing else that has none
        self.records = _Search(recording).found()
        self._layers = self._layers_of_records()
        self._temporaries: dict[int, str] = {}
        """Storage -> layer, of what an update on lists of tensors makes on its way."""

    def layer_of(self, index: int) -> str:
        """The layer of an operator on one parameter, or on its gradient or state; that of work for
        several is :data:`OUTSIDE`."""
        return self._layers[index]

    def by_layer(self, record: Record) -> dict[str, Record]:
        """An operator on lists of tensors, one for each parameter: the same operator on those of
        each layer. Empty if it is none, or if a parameter can't be told."""
        if not record.arguments or not is_list_of_tensors(record.arguments[0]):
            return {}
        length = len(record.arguments[0]) - 1
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position in range(length):
            # The tensors of a list follow each other: what is at this position of any of them.
            numbers = record.inputs[position : length * (len(record.inputs) // length) : length]
            owners = (self._owner(number) for number in numbers)
            layer = next((owner for owner in owners if owner is not None), None)
            if layer is None:
                return {}
            positions[layer].append(position)
            if len(record.outputs) == length:
                self._temporaries[record.outputs[position]] = layer
        return {layer: narrowed_to(record, own, length) for layer, own in positions.items()}

    def _owner(self, storage: int) -> str | None:
        layer = self._owners.get(storage)
        if layer is None or storage not in self._recording.owners.parameters:
            layer = self._temporaries.get(storage, layer)
        return layer

    def _layers_of_records(self) -> dict[int, str]:
        """Record index -> layer: whose parameters, gradients or state it works on; that of an
        operator on none of them is whose operators it shares values with."""
        records, order = self._recording.records, sorted(self.records)
        layers = {index: self._own_layers(records[index]) for index in order}
        shared = {index: _touched(records[index]) for index in order if not layers[index]}
        users: dict[int, set[str]] = {
            number: set() for numbers in shared.values() for number in numbers
        }
        for index in order if shared else ():
            if layers[index]:
                for number in users.keys() & _touched(records[index]):
                    users[number] |= layers[index]
        for index in (*reversed(shared), *shared):  # from what it serves, then from what serves it
            numbers = shared[index]
            layers[index] = set().union(*(users[number] for number in numbers))
            for number in numbers:
                users[number] |= layers[index]
        return {index: of.pop() if len(of) == 1 else OUTSIDE for index, of in layers.items()}

    def _own_layers(self, record: Record) -> set[str]:
        """Of its operands' owners; of several, those whom it writes to."""
        owners = self._owners
        layers = {owners[number] for number in record.inputs if number in owners}
        if len(layers) > 1:
            return {owners[number] for number in changed_by(record) if number in owners} or layers
        return layers


class _Search:
    """The search for the operators of a step's update."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._parameters = set(recording.owners.parameters) | {
            storage.number for storage in recording.storages if storage.kind == "parameter"
        }
        self._found: set[int] = set()
        self._candidates: list[int] = []
        """Operators outside of modules that autograd does not follow."""
        self._elsewhere: set[int] = set()
        self._trained = set(recording.accumulated.values())
        self._first_backward = min((graph.records.start for graph in recording.graphs), default=0)

    def found(self) -> frozenset[int]:
        self._look_at_each()
        if self._candidates:
            self._elsewhere = self._seen_elsewhere()
            self._add_work_on_weights()
        if self._found and self._candidates:
            self._add_what_serves_them()
        return frozenset(self._found)

    def _seen_elsewhere(self) -> set[int]:
        """Storages that forward and backward read or write, and parameters."""
        own = {*self._candidates, *self._found}
        elsewhere = set(self._parameters)
        for index, record in enumerate(self._recording.records):
            if index not in own:
                elsewhere.update(record.inputs)
                elsewhere.update(record.outputs)
        return elsewhere

    def _look_at_each(self) -> None:
        recording = self._recording
        reached = {node for graph in recording.graphs for node in graph.nodes}
        within = {node for graph in recording.graphs if graph.within_update for node in graph.nodes}
        differentiable = {
            index
            for graph in recording.graphs
            if graph.create_graph
            for index in recording.records_of(graph)
        }
        gradients = set(recording.owners.gradients)
        """Storages of gradients, and of what was made of them."""
        hooks = records_of_hooks(recording)
        sequence = -1
        for index, record in enumerate(recording.records):
            is_new, sequence = record.sequence != sequence, record.sequence
            if record.scope == "update":
                # A closure that the optimizer was not handed, but knows: its loss.
                if not (within and record.sequence in within and _is_followed(record, is_new)):
                    self._found.add(index)
            elif record.node == ACCUMULATE_GRAD:
                if index in hooks:
                    self._consider(index, record)
                else:
                    gradients.update(record.outputs)
            elif record.node is not None:
                again = record.grad_enabled and index not in differentiable
                if not again and record.scope != "recompute":
                    gradients |= _made_by(record)
            elif record.scope == "backward":
                # What autograd calls at the end of a backward: gradients are summed over ranks.
                if self._writes_to_parameter(index, record):
                    self._found.add(index)
                else:
                    gradients |= _made_by(record) | set(changed_by(record))
            elif record.layer == 0 and not record.in_function:
                if record.sequence in reached and _is_followed(record, is_new):
                    continue
                if gradients.isdisjoint(_touched(record)):
                    self._consider(index, record)
                else:
                    self._found.add(index)
                    gradients |= _made_by(record)

    def _consider(self, index: int, record: Record) -> None:
        """Whether an operator writes to a parameter."""
        if self._writes_to_parameter(index, record):
            self._found.add(index)
        else:
            self._candidates.append(index)

    def _writes_to_parameter(self, index: int, record: Record) -> bool:
        return any(self._is_parameter(number, index) for number in changed_by(record))

    def _is_parameter(self, storage: int, index: int) -> bool:
        """Whether a storage holds a parameter, and is not being prepared: until a backward has
        run, what is done to one that is made in the block, or that is trained in it, is done for
        the forward."""
        if storage not in self._parameters:
            return False
        prepared = self._recording.storages[storage].born >= 0 or storage in self._trained
        return not prepared or index >= self._first_backward

    def _add_work_on_weights(self) -> None:
        """Operators on parameters, and on what was made of them, that nothing but the update reads
        the results of."""
        records, storages = self._recording.records, self._recording.storages
        weights: set[int] = set()
        """Storages of what was made of parameters alone, and of averages of them."""
        makers: dict[int, set[int]] = {}
        for index in self._candidates:
            record = records[index]
            numbers = [n for n in record.inputs if n < 0 or storages[n].nbytes > A_NUMBER]
            told = {n for n in numbers if n in weights or self._is_parameter(n, index)}
            if told and (told.issuperset(numbers) or self._is_average(record, told)):
                made = _made_by(record) | {n for n in changed_by(record) if n not in told}
                if made:  # else it is a view
                    makers[index] = made
                    weights |= made
        readers: defaultdict[int, set[int]] = defaultdict(set)
        for index, record in enumerate(records) if makers else ():
            for number in weights.intersection(record.inputs):
                readers[number].add(index)
        for index in reversed(makers):
            self._found.add(index)
            made = makers[index] - self._parameters  # those that became one are seen everywhere
            if any(not readers[number] <= self._found for number in made):
                self._found.remove(index)

    def _is_average(self, record: Record, weights: set[int]) -> bool:
        """Whether an operator sums up weights with as many numbers that nothing else looks at."""
        if record.op.name.removesuffix("_") not in SUMS or len(record.arguments) < 2:
            return False
        length = tensors_in(record.arguments[0])
        sides = set(record.inputs[:length]), set(record.inputs[length : 2 * length])
        return record.arguments[0] == record.arguments[1] and any(
            weights.issuperset(one) and self._elsewhere.isdisjoint(other)
            for one, other in (sides, sides[::-1])
        )

    def _add_what_serves_them(self) -> None:
        """Operators that share a value with the update that nobody else looks at."""
        records = self._recording.records
        own = {*self._candidates, *self._found}
        computed = {
            number
            for index in own
            if records[index].inputs  # else a constant, which many may read
            for number in (*changed_by(records[index]), *records[index].outputs)
            if number >= 0 and number not in self._elsewhere
        }
        sharing: defaultdict[int, list[int]] = defaultdict(list)
        for index in self._candidates:
            for number in _touched(records[index]) & computed:
                sharing[number].append(index)
        pending = list(self._found)
        while pending:
            for number in _touched(records[pending.pop()]) & computed:
                for index in sharing.pop(number, ()):
                    if index not in self._found:
                        self._found.add(index)
                        pending.append(index)


def _is_followed(record: Record, is_new: bool) -> bool:
    """Whether autograd made a node for an operator.

    Args:
        is_new: whether it is the first one with its sequence number: inside of ``torch.func`` the
            tensors do not tell.
    """
    return record.grad_enabled and (is_new or any(record.requires_grad))


def _touched(record: Record) -> set[int]:
    """The storages that an operator reads and writes."""
    numbers = {*record.inputs, *record.outputs}
    numbers.discard(-1)  # of what has no storage
    return numbers


def _made_by(record: Record) -> set[int]:
    """The storages that an operator returns and was not given: no views."""
    return set(record.outputs).difference(record.inputs)


def accumulations(recording: Recording) -> dict[int, int]:
    """Record index -> the leaf whose gradient AccumulateGrad keeps or adds to there, without what
    hooks run in its node afterwards."""
    hooks = records_of_hooks(recording)
    return {index: leaf for index, leaf in recording.accumulated.items() if index not in hooks}


def _keeps(recording: Recording, index: int, leaf: int) -> bool:
    """Whether a record of AccumulateGrad's keeps the gradient. The parts of a sparse one are
    detached, and put together again."""
    record = recording.records[index]
    following = [at for at in (index + 1, index + 2) if recording.accumulated.get(at) == leaf]
    if record.op.name == "aten.detach" and any(
        is_sparse(recording.records[at].results) for at in following
    ):
        return False
    return record.op.name in KEEPS_GRADIENT or is_sparse(record.results)


def records_of_hooks(recording: Recording) -> set[int]:
    """Indices of the records that hooks made in AccumulateGrad's node, once the gradient is
    kept."""
    hooks: set[int] = set()
    kept, before, leaf = False, -1, -1
    for index, accumulated in recording.accumulated.items():
        if index != before + 1 or accumulated != leaf:
            kept = False
        if kept:
            hooks.add(index)
        elif _keeps(recording, index, leaf=accumulated):
            kept = True
        before, leaf = index, accumulated
    return hooks


def gradient_layers(recording: Recording) -> dict[int, str]:
    """Storage -> layer, of the gradients of parameters."""
    layers = dict(recording.owners.gradients)
    for index, leaf in accumulations(recording).items():
        if leaf in recording.owners.parameters:
            outputs = recording.records[index].outputs
            layers.update(dict.fromkeys(outputs, recording.owners.parameters[leaf]))
    return layers
