"""How much memory the tensors of a step hold."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_iter

from tests.wild.operators import Operators, storages, takes_itself_apart


class Census(Operators):
    """Which storages that operators made are alive."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self._watches: dict[int, weakref.ref[Any]] = {}

    def alive(self) -> int:
        """Bytes."""
        return sum(self._alive.values())

    def runs(self, func: Any, args: Any, kwargs: Any) -> None:
        for value in tree_iter((args, kwargs)):
            self._note(value, made=False)

    def ran(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        for value in tree_iter(out):
            self._note(value, made=True)

    def _note(self, tensor: Any, *, made: bool) -> None:
        if not isinstance(tensor, torch.Tensor) or is_lazy(tensor):
            return
        if takes_itself_apart(type(tensor)):
            return
        for storage in storages(tensor):
            address = storage._cdata
            if address not in self._watches:
                self._alive[address] = storage.nbytes() if made else 0
                self._watches[address] = weakref.ref(storage, partial(self._released, address))

    def _released(self, address: int, _: Any) -> None:
        del self._alive[address], self._watches[address]
