"""Modules without weights: what torch refuses to build isn't built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flopratio.models.weightless import build_weightless


def by_method() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(3, 4))
    return weight.uniform_()  # type: ignore[return-value]


def by_initialiser() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(3, 4))
    nn.init.normal_(tensor=weight, std=0.1)
    return nn.init.kaiming_uniform_(weight)  # type: ignore[return-value]


def test_a_parameter_changed_in_place_is_refused_as_by_torch() -> None:
    for build in (by_method, lambda: build_weightless(by_method)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            build()


def test_an_initialiser_leaves_a_parameter_without_values_as_it_is() -> None:
    weight = build_weightless(by_initialiser)
    assert weight.is_meta
    assert weight._version == 0
    assert weight.requires_grad


def test_a_vector_has_no_fans() -> None:
    for build in (nn.init.xavier_uniform_, nn.init.kaiming_normal_):
        with pytest.raises(ValueError, match="Fan in and fan out can not be computed"):
            build_weightless(lambda build=build: build(torch.empty(3)))  # type: ignore[misc]
