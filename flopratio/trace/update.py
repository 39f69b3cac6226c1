"""Which layer the operators of the optimizer's update work for."""

from __future__ import annotations

from collections import defaultdict

from flopratio.trace.evaluation import is_list_of_tensors, narrowed_to
from flopratio.trace.recording import Record, Recording


class UpdateLayers:
    """The update of a recorded step."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._layers = _layers_of_records(recording)
        owners = recording.owners
        self._owners = {**owners.state, **gradient_layers(recording), **owners.parameters}
        self._temporaries: dict[int, str] = {}
        """Storage -> layer, of what an update on lists of tensors makes on its way."""

    def layer_of(self, index: int) -> str:
        """The layer of an operator on one parameter, or on its gradient or state."""
        record = self._recording.records[index]
        return self._layers.get(index, self._recording.layer_of(record))

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


def _layers_of_records(recording: Recording) -> dict[int, str]:
    """Record index -> layer, for the operators of ``Optimizer.step`` on one parameter. One on the
    optimizer's state belongs to the parameter that is written next."""
    layers: dict[int, str] = {}
    parameters = recording.owners.parameters
    following = recording.layers[0]
    for index in range(len(recording.records) - 1, -1, -1):
        record = recording.records[index]
        if record.scope != "update":
            continue
        for number in record.inputs:
            if number in parameters:
                following = parameters[number]
                break
        layers[index] = following
    return layers


def gradient_layers(recording: Recording) -> dict[int, str]:
    """Storage -> layer, of the gradients of parameters."""
    layers = dict(recording.owners.gradients)
    for index, leaf in recording.accumulated.items():
        if leaf in recording.owners.parameters:
            outputs = recording.records[index].outputs
            layers.update(dict.fromkeys(outputs, recording.owners.parameters[leaf]))
    return layers
