"""What a training step leaves behind: values, modes, hooks, random state, memory."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import optimizer as optimizers
from torch.utils import checkpoint
from torch.utils._pytree import tree_leaves

from tests.wild.step import WildStep

Trace = dict[str, Any]
"""What is looked at -> a value that can be compared."""


def bits(tensor: torch.Tensor) -> Any:
    """A tensor's values, bit by bit."""
    if hasattr(tensor, "__tensor_flatten__"):
        parts = (getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
        return [bits(part) for part in parts if isinstance(part, torch.Tensor)]
    if tensor.layout is torch.sparse_coo:
        return bits(tensor._indices()), bits(tensor._values())
    if tensor.layout is not torch.strided:
        return bits(tensor.to_sparse_coo())
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return tuple(tensor.shape), str(tensor.dtype), plain.view(torch.uint8).numpy().tobytes()


def value(leaf: Any) -> Any:
    """Anything, so that it can be compared."""
    if isinstance(leaf, torch.Tensor):
        return bits(leaf)
    if isinstance(leaf, torch.Generator):
        return bits(leaf.get_state())
    return leaf if isinstance(leaf, int | float | str | bool | type(None)) else type(leaf)


def hooks(owner: Any) -> dict[str, int]:
    """How many hooks of each sort something has."""
    attributes = vars(owner) if hasattr(owner, "__dict__") else {}
    return {
        name: len(entry) for name, entry in attributes.items() if name.endswith("hooks") and entry
    }


def of_parameter(parameter: torch.Tensor) -> Any:
    return (
        bits(parameter),
        parameter.requires_grad,
        None if parameter.grad is None else bits(parameter.grad),
        hooks(parameter),
        len(parameter._backward_hooks or ()),
        len(getattr(parameter, "_post_accumulate_grad_hooks", None) or ()),
    )


def of_module(module: nn.Module) -> Trace:
    trace: Trace = {}
    for path, child in module.named_modules():
        trace[f"{path}: attributes"] = sorted(vars(child))
        trace[f"{path}: training"] = child.training
        trace[f"{path}: hooks"] = hooks(child)
    for name, parameter in nn.Module.named_parameters(module):
        trace[name] = of_parameter(parameter)
    for name, buffer in nn.Module.named_buffers(module):
        trace[name] = bits(buffer)
    return trace


def of_optimizer(optimizer: torch.optim.Optimizer) -> Trace:
    groups = [
        {name: entry for name, entry in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    return {
        "attributes": sorted(vars(optimizer)),
        "hooks": hooks(optimizer),
        "groups": list(map(value, tree_leaves(groups))),
        "parameters": [
            of_parameter(p) for group in optimizer.param_groups for p in group["params"]
        ],
        "state": [
            [value(leaf) for leaf in tree_leaves(optimizer.state.get(p, {}))]
            for group in optimizer.param_groups
            for p in group["params"]
        ],
    }


def trace_of(step: WildStep, losses: Any) -> Trace:
    """What a step has left behind."""
    trace: Trace = {
        "losses": list(map(value, tree_leaves(losses))),
        "torch's random state": bits(torch.get_rng_state()),
        "Python's random state": random.getstate(),
        "NumPy's random state": repr(np.random.get_state()),
    }
    for index, owner in enumerate([step.model, *step.state]):
        if isinstance(owner, nn.Module):
            own = of_module(owner)
        elif isinstance(owner, torch.optim.Optimizer):
            own = of_optimizer(owner)
        elif isinstance(owner, torch.Tensor):
            own = {"": of_parameter(owner)}
        else:
            own = {"": list(map(value, tree_leaves(owner)))}
        trace |= {f"{index}: {type(owner).__name__} {name}": entry for name, entry in own.items()}
    return trace


PLACES: tuple[Any, ...] = (
    torch,
    torch.Tensor,
    torch.autograd,
    torch.autograd.graph,
    torch.autograd.graph.saved_tensors_hooks,
    torch.autograd.function,
    torch.autograd.Function,
    torch.nn.Module,
    torch.nn.functional,
    torch.optim.Optimizer,
    optimizers,
    checkpoint,
)
"""Where a profiler might put functions of its own."""


def of_process() -> Trace:
    """Modes and functions of the whole process, which no profiled step may change."""
    private, stance = torch._C, None
    if "torch._dynamo" in sys.modules:
        stance = torch._dynamo.eval_frame._stance.stance
    functions = {
        f"{place.__name__}.{name}": id(entry)
        for place in PLACES
        for name, entry in vars(place).items()
        if callable(entry) or isinstance(entry, classmethod | staticmethod | property)
    }
    return functions | {
        "engine": id(torch.autograd.Variable._execution_engine),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomalies": torch.is_anomaly_enabled(),
        "threads": private._is_multithreading_enabled(),
        "dtype": torch.get_default_dtype(),
        "dispatch modes": private._len_torch_dispatch_stack(),
        "function modes": private._len_torch_function_stack(),
        "hooks on saved tensors": private._autograd._top_saved_tensors_default_hooks(True),
        "are allowed": private._autograd._saved_tensors_hooks_is_enabled(),
        "hooks on optimizers": (
            len(optimizers._global_optimizer_pre_hooks),
            len(optimizers._global_optimizer_post_hooks),
        ),
        "hooks on modules": {
            name: len(entry)
            for name, entry in vars(torch.nn.modules.module).items()
            if name.startswith("_global") and name.endswith("hooks")
        },
        "compiler": stance,
    }


def differences(one: Trace, other: Trace) -> list[str]:
    """What differs between two traces."""
    names: Iterable[str] = dict.fromkeys([*one, *other])
    return [name for name in names if one.get(name) != other.get(name)]
