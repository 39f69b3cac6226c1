"""The time of a step, layer by layer."""

from __future__ import annotations

import torch
from torch import nn

from flopratio.measure import measure_step
from flopratio.step.options import StepOptions
from flopratio.step.run import Step


def layers_of(module, *batch):
    step = Step.of_module(module, batch, StepOptions(loss=torch.sum, optimizer="sgd"))
    timing = measure_step(step, repeats=3)
    return {layer.name: layer for layer in timing.layers}


def test_layers_of_a_convolutional_network():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(512, 4)
    )
    layers = layers_of(module, torch.randn(2, 3, 12, 12))
    assert [layer.type for layer in layers.values()][:5] == [
        "Conv2d",
        "ReLU",
        "Conv2d",
        "Flatten",
        "Linear",
    ]
    assert layers["0"].grad_input_ms == 0  # its input is data
    assert layers["1"].grad_weight_ms == 0  # it has no weight
    for name in ("2", "4"):
        assert layers[name].grad_input_ms > 0
        assert layers[name].grad_weight_ms > 0
    assert [name for name, layer in layers.items() if layer.update_ms] == ["0", "2", "4"]
    assert "loss" in layers


def test_module_that_is_applied_twice_is_one_layer():
    shared = nn.Linear(4, 4)
    layers = layers_of(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 4))
    assert [name for name, layer in layers.items() if layer.type == "Linear"] == ["0"]
    assert layers["0"].grad_input_ms > 0


def test_backward_that_can_not_be_divided_says_so():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4)

        def forward(self, x):
            return self.rnn(x)[0]

    layers = layers_of(nn.Sequential(nn.Linear(3, 3), Last()), torch.randn(5, 2, 3))
    assert layers["1.rnn"].grad_input_ms is None
    assert layers["1.rnn"].backward_ms > 0
