"""Operators that move bytes: they exist, cost nothing, and those called views are views."""

from collections.abc import Callable

import pytest
import torch

import flopratio as fr
from flopratio.formulas import OPERATORS, Cost, Tensor
from flopratio.formulas.movement import MOVEMENT, VIEWS, names

NEWER = names(
    """
    _foreach_clone _philox_key_fold_in _philox_key_split _philox_normal _philox_normal_
    _philox_randint _philox_randint_ _philox_uniform _philox_uniform_ _use_miopen_ctc_loss
    shallow_copy_data_
    """
)
"""Operators that are newer than the oldest supported torch."""


def test_names_are_operators_that_exist() -> None:
    every = MOVEMENT | VIEWS
    missing = {name for name in every if not hasattr(torch.ops.aten, name.removeprefix("aten."))}
    assert missing <= NEWER


@pytest.mark.parametrize("name", sorted(MOVEMENT | VIEWS))
def test_no_flop(name: str) -> None:
    cost = OPERATORS[name](Tensor((3, 4)), 1, dtype=None, out=Tensor((3, 4)))
    assert cost == Cost(view=name in VIEWS)


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
    further = (2, 1) if name == "unfold" else ()
    assert OPERATORS[f"aten.{name}"](Tensor((3, 4)), 1, *further, out=Tensor((3, 4))).view
    assert RETURNS_A_VIEW[name](x).untyped_storage()._cdata == x.untyped_storage()._cdata


MOVED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "clone": torch.clone,
    "cat": lambda x: torch.cat([x, x]),
    "flip": lambda x: x.flip(0),
    "pixel_shuffle": lambda x: torch.pixel_shuffle(x, 2),
    "roll": lambda x: x.roll(1, 0),
    "tril": torch.tril,
}


@pytest.mark.parametrize("name", MOVED)
def test_copies_are_the_same_values_in_another_place(name: str) -> None:
    """And a trace of them counts bytes, but no FLOP."""
    x = torch.rand(2, 4, 3, 3)
    with fr.Profiler() as profiler:
        y = MOVED[name](x)
    assert set(y.flatten().tolist()) <= {0.0, *x.flatten().tolist()}
    assert y.untyped_storage()._cdata != x.untyped_storage()._cdata
    (row,) = profiler.ledger.rows
    assert (row.op, row.flops, row.elementwise) == (f"aten.{name}", 0, 0)
    assert row.bytes_read > 0
    assert row.bytes_written == y.nbytes
    assert profiler.ledger.uncounted_ops == {}


@pytest.mark.parametrize("name", ["aten.clone", "aten.cat", "aten.copy_", "aten.repeat"])
def test_copies_are_no_views(name: str) -> None:
    assert not OPERATORS[name](Tensor((3, 4)), 1, out=Tensor((3, 4))).view
