"""A training step on real tensors: a MODEL that is built and initialised on a device, with inputs
that are drawn; or a module and a batch as they are handed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flopratio.errors import UsageError
from flopratio.models import Inputs, load
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.network import network_step
from flopratio.step.options import StepOptions
from flopratio.step.run import Step
from flopratio.text.dtypes import dtype_name, parse_dtype
from flopratio.text.suggestions import not_among
from flopratio.torch_private import FakeTensor, buffers, parameters

DEVICES = ("cpu", "cuda")


def parse_device(name: str | torch.device) -> torch.device:
    """A device that is there: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UsageError: it is of another kind, or this machine or this torch has none such.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise not_among("device", name, DEVICES) from None
    if device.type not in DEVICES:
        raise not_among("device", name, DEVICES)
    if device.type == "cpu":
        return torch.device("cpu")
    if torch.version.cuda is None:
        raise UsageError(
            f"device={name}: this torch ({torch.__version__}) was built without CUDA; install a "
            "CUDA build, or take device=cpu"
        )
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or count == 0:
        raise UsageError(f"device={name}: torch finds no CUDA device here; take device=cpu")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= count:
        raise UsageError(f"device={name}: there are {count} here, the first of them cuda:0")
    return torch.device("cuda", index)


def spec_step(
    model: str,
    settings: Mapping[str, Any],
    options: StepOptions,
    device: torch.device | None = None,
) -> Step:
    """The step of a MODEL spec: with its own initialisation and random inputs, both from the
    generators as they are, on a device; None: on fake tensors.

    Raises:
        UsageError: it can't be built; one sentence says why.
    """
    if model in NETWORKS:
        if isinstance(options.loss, str) and options.loss != "auto":
            settings = {**settings, "loss": options.loss}
        return network_step(describe(model, **settings), options, device)
    dtype = None if options.dtype is None else str(options.dtype)
    if device is None:
        return Step(load(model, settings, dtype=dtype), options)
    return Step(load(model, settings, dtype=dtype, real=True, device=device), options)


def module_step(module: nn.Module, batch: Any, options: StepOptions, device: torch.device) -> Step:
    """The step of a module as it is.

    Args:
        batch: a tuple of positional or a dict of keyword inputs, or one input.

    Raises:
        UsageError: the module or the batch have no values, or are not on the device, or not in the
            dtype that the options say.
    """
    inputs = Inputs.of(batch)
    wanted = None if options.dtype is None else parse_dtype(options.dtype)
    for kind, tensors in (
        ("module", [*parameters(module), *buffers(module)]),
        ("batch", inputs.tensors),
    ):
        _check_is_real(kind, tensors)
        _check_is_there(kind, tensors, device)
        _check_dtype(kind, tensors, wanted)
    return Step.of_module(module, batch, options)


def _check_is_real(kind: str, tensors: list[Tensor]) -> None:
    if any(tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in tensors):
        raise UsageError(
            f"the {kind} has tensors without values, and a step that is timed computes: give it "
            "real ones (of a module: to_empty(device=...), and its initialisation)"
        )


def _check_is_there(kind: str, tensors: list[Tensor], device: torch.device) -> None:
    for tensor in tensors:
        if tensor.device != device:
            raise UsageError(
                f"the {kind} has tensors on {tensor.device}, and device={device} was asked for: "
                f"move it, .to({str(device)!r}), or profile it there, "
                f"device={str(tensor.device)!r}"
            )


def _check_dtype(kind: str, tensors: list[Tensor], dtype: torch.dtype | None) -> None:
    for tensor in tensors:
        if dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype:
            raise UsageError(
                f"the {kind} has tensors of {dtype_name(tensor.dtype)}, and dtype="
                f"{dtype_name(dtype)} was asked for: convert it, .to({dtype}), or leave dtype out"
            )
