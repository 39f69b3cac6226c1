"""Other people's counts of the same step: fvcore's, ``FlopCounterMode``'s, and what autograd's own
hooks see kept. None shares code with the trace."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from flopratio.networks.description import Network
from flopratio.networks.library import describe
from flopratio.networks.modules import batch_of, build
from flopratio.torch_private import storage_address


def saved_by_autograd(forward: Callable[[], Any], parameters: Iterable[torch.Tensor]) -> int:
    """Bytes that autograd keeps during a forward, by its own hooks: each storage once, parameters
    apart. Shares no code with the trace."""
    owned = {storage_address(parameter.untyped_storage()) for parameter in parameters}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage_address(storage) not in owned:
            kept[storage_address(storage)] = storage.nbytes()
        alive.append(tensor)  # an address must not be given to another storage meanwhile
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())


class ByFvcore(NamedTuple):
    """fvcore's count of a forward.

    Args:
        flops: twice its multiply-adds, of contractions alone: it counts norms and pooling too, by
            conventions of its own.
        skipped: the operators that it does not know.
    """

    flops: int
    skipped: tuple[str, ...]


def products_by_fvcore(module: torch.nn.Module, args: tuple[Any, ...]) -> ByFvcore:
    """fvcore's count of a forward, which it really executes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore's own imports are deprecated
        from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(module, args)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        operators = analysis.tracer_warnings("none").by_operator()
        skipped = tuple(sorted(analysis.unsupported_ops()))
    names = ("linear", "addmm", "matmul", "conv", "bmm", "einsum")
    return ByFvcore(2 * sum(int(operators.get(name, 0)) for name in names), skipped)


@lru_cache(maxsize=256)
def _forward_by_fvcore(model: str, settings: tuple[tuple[str, Any], ...]) -> int:
    """fvcore's forward count of one example, doubled to FLOP. It traces a forward that is really
    executed, so it is asked for a batch of 1; but of products alone, which need no values to be
    traced as convolutions do, nothing is computed."""
    network = describe(model, **{**dict(settings), "batch": 1})
    with torch.device("cpu" if network.tokens is None else "meta"):
        module, (x, _) = build(network).eval(), batch_of(network)
    return products_by_fvcore(module, (x,)).flops


def forward_by_fvcore(network: Network) -> int | None:
    """fvcore's forward count x 2, for the network's batch; None where fvcore is not installed."""
    if find_spec("fvcore") is None:
        return None
    settings = {key: value for key, value in network.settings.items() if key != "batch"}
    return int(network.settings["batch"]) * _forward_by_fvcore(
        network.model, tuple(sorted(settings.items()))
    )


def unknown_to_flop_counter(operators: Iterable[str]) -> list[str]:
    """Those of some operators (``aten.mv``) for which ``FlopCounterMode`` has no formula."""
    from torch.utils.flop_counter import flop_registry

    known = {str(packet) for packet in flop_registry}
    return sorted({*operators} - known)


def total_by_flop_counter(run: Callable[[], Any]) -> int:
    """``FlopCounterMode``'s count of forward and backward together."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
