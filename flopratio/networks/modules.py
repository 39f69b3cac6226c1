"""The built-in networks as ``nn.Module``, with their losses and example batches: what is really
run. Of this package, the only file that needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flopratio.networks.description import Layer, Network


def build(network: Network) -> nn.Module:
    """The module of a description; its submodules have the ledger's layer names."""
    return Built(network)


def build_loss(network: Network) -> nn.Module:
    """The loss of a network as a module of the output and the target."""
    return Loss(network.loss)


def batch_of(network: Network) -> tuple[Tensor, Tensor | None]:
    """An example batch, and its target: class 0 or zeros; None where the loss takes none. Both are
    made under whatever tensor mode is in force."""
    x = torch.randn(network.input_shape)
    batch, classes = network.input_shape[0], network.settings["classes"]
    if network.loss == "sum":
        return x, None
    if network.loss == "mse":
        return x, torch.zeros(batch, classes)
    return x, torch.zeros(batch, dtype=torch.long)


class Built(nn.Module):
    """A description's layers, applied in order."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.order: list[str] = []
        """The path of the layer that is applied at each step."""
        for item in network.layers:
            if isinstance(item, Layer):
                self._put(item.name, item)
                self.order.append(item.name)
                continue
            for number in range(item.times):
                prefix = item.name if item.shared else f"{item.name}.{number}"
                for layer in item.layers:
                    path = f"{prefix}.{layer.name}"
                    if number == 0 or not item.shared:
                        self._put(path, layer)
                    self.order.append(path)

    def _put(self, path: str, layer: Layer) -> None:
        """Register a layer's module, in empty modules for the rest of its path."""
        *parents, last = path.split(".")
        module: nn.Module = self
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.add_module(last, getattr(nn, layer.type)(**layer.arguments))

    def forward(self, x: Tensor) -> Tensor:
        for path in self.order:
            x = self.get_submodule(path)(x)
        return x


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
        return functional.cross_entropy(x, target)
