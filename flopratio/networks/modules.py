"""The built-in networks as ``nn.Module``, with their losses and example batches: what is really
run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from flopratio.networks import layers
from flopratio.networks.description import INPUT, Layer, Network, Repeat


def build(network: Network) -> nn.Module:
    """The module of a description; its submodules have the ledger's layer names."""
    return Built(network.layers)


def build_loss(network: Network) -> nn.Module:
    """The loss of a network as a module of the output and the target."""
    return Loss(network.loss)


def batch_of(network: Network) -> tuple[Tensor, Tensor | None]:
    """An example batch, and its target: class 0 or zeros; None where the loss takes none. Both are
    made under whatever tensor mode is in force."""
    if network.tokens is None:
        x = torch.randn(network.input_shape)
    else:
        x = torch.randint(network.tokens, network.input_shape)
    if network.loss == "sum":
        return x, None
    if network.loss == "mse":
        return x, torch.zeros(network.output_shape)
    return x, torch.zeros(network.output_shape[:-1], dtype=torch.long)


class _Application(NamedTuple):
    """A module that is applied."""

    path: str
    name: str
    """By which its result is read."""
    reads: tuple[str, ...]


class Chain(nn.Module):
    """Layers that are applied in order, each to the result of the one before, or to those that it
    names."""

    def __init__(self, items: Sequence[Layer | Repeat]) -> None:
        super().__init__()
        self.order: list[_Application] = []
        """What is applied at each step."""
        for item in items:
            if isinstance(item, Layer):
                self._put(item.name, self._made(item))
                self.order.append(_Application(item.name, item.name, item.reads))
            else:
                self._put_repeat(item)
        self._last = {name: at for at, step in enumerate(self.order) for name in step.reads}

    def _put_repeat(self, repeat: Repeat) -> None:
        """A module for each round, if rounds are blocks; else their layers by themselves."""
        if repeat.is_block and not repeat.shared:
            self._put(repeat.name, nn.ModuleList())
        for number in range(repeat.times):
            prefix = repeat.name if repeat.shared else f"{repeat.name}.{number}"
            is_new = number == 0 or not repeat.shared
            if repeat.is_block:
                if is_new:
                    self._put(prefix, Block(repeat.layers))
                self.order.append(_Application(prefix, repeat.name, ()))
                continue
            for layer in repeat.layers:
                path = f"{prefix}.{layer.name}"
                if is_new:
                    self._put(path, self._made(layer))
                self.order.append(_Application(path, repeat.name, ()))

    def _made(self, layer: Layer) -> nn.Module:
        kind = getattr(layers, layer.type, None) or getattr(nn, layer.type)
        module: nn.Module = kind(**layer.arguments)
        for parameter, other in layer.tied.items():
            setattr(module, parameter, self.get_parameter(other))
        return module

    def _put(self, path: str, part: nn.Module) -> None:
        """Register a module, in empty modules for the rest of its path."""
        *parents, last = path.split(".")
        module: nn.Module = self
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.add_module(last, part)

    def forward(self, x: Tensor) -> Tensor:
        kept = {INPUT: x} if INPUT in self._last else {}
        for at, (path, name, reads) in enumerate(self.order):
            read: Any = [kept[source] for source in reads]
            for source in reads:
                if self._last[source] == at:
                    kept.pop(source, None)  # no result outlives its last use
            x = self.get_submodule(path)(*read) if reads else self.get_submodule(path)(x)
            del read
            if name in self._last:
                kept[name] = x
        return x


class Built(Chain):
    """A description's network."""


class Block(Chain):
    """One round of layers that are more than a chain."""


class Loss(nn.Module):
    """One of :data:`flopratio.networks.description.LOSSES`, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, target: Tensor | None) -> Tensor:
        if self.name == "sum":
            return x.sum()
        if target is None:
            raise ValueError(f"{self.name} needs a target")
        if self.name == "mse":
            return functional.mse_loss(x, target)
        return functional.cross_entropy(x.flatten(0, -2), target.flatten())
