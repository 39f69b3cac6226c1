"""Operators that move bytes: they exist, cost nothing, and those called views are views."""

from collections.abc import Callable

import pytest
import torch

from flopratio.formulas import OPERATORS, Cost, Tensor
from flopratio.formulas.movement import MOVEMENT, OWN_FORMULA, VIEWS

SINCE = {"aten._foreach_clone": "2.13"}
"""Operators that are newer than the oldest supported torch -> the first one tested that has it."""


def test_names_are_operators_that_exist() -> None:
    missing = {name for name in MOVEMENT if not hasattr(torch.ops.aten, name.removeprefix("aten."))}
    assert missing == {name for name, version in SINCE.items() if torch.__version__ < version}


@pytest.mark.parametrize("name", sorted(MOVEMENT - OWN_FORMULA))
def test_no_flop(name: str) -> None:
    assert OPERATORS[name](Tensor((3, 4)), 1, dtype=None, out=Tensor((3, 4))) == Cost()


RETURNS_A_VIEW: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "alias": torch.ops.aten.alias,
    "as_strided": lambda x: x.as_strided((2, 2), (1, 2)),
    "detach": torch.detach,
    "diagonal": torch.diagonal,
    "expand": lambda x: x.expand(2, 3, 4),
    "permute": lambda x: x.permute(1, 0),
    "select": lambda x: x.select(0, 1),
    "slice": lambda x: x[1:],
    "split": lambda x: x.split(2)[0],
    "split_with_sizes": lambda x: x.split_with_sizes([1, 2])[0],
    "squeeze": torch.squeeze,
    "t": torch.t,
    "transpose": lambda x: x.transpose(0, 1),
    "unbind": lambda x: x.unbind()[0],
    "unfold": lambda x: x.unfold(1, 2, 1),
    "unsafe_split": lambda x: torch.ops.aten.unsafe_split(x, 2)[0],
    "unsqueeze": lambda x: x.unsqueeze(0),
    "view": lambda x: x.view(4, 3),
    "view_as_complex": lambda x: torch.view_as_complex(x.view(3, 2, 2)),
    "view_as_real": lambda x: torch.view_as_real(torch.view_as_complex(x.view(3, 2, 2))),
    "_unsafe_view": lambda x: torch.ops.aten._unsafe_view(x, [4, 3]),
    "_reshape_alias": lambda x: torch.ops.aten._reshape_alias(x, [4, 3], [3, 1]),
}


@pytest.mark.parametrize("name", RETURNS_A_VIEW)
def test_views_share_memory(name: str) -> None:
    x = torch.randn(3, 4)
    assert f"aten.{name}" in VIEWS
    assert RETURNS_A_VIEW[name](x).untyped_storage()._cdata == x.untyped_storage()._cdata


@pytest.mark.parametrize("name", ["aten.clone", "aten.cat", "aten.copy_", "aten.repeat"])
def test_copies_are_no_views(name: str) -> None:
    assert name not in VIEWS
