"""The training step of a built-in network."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.models import Example, StepMode
from flopratio.networks.analytic import analytic_ledger
from flopratio.networks.description import Network
from flopratio.networks.modules import batch_of, build, build_loss
from flopratio.step.options import StepOptions
from flopratio.step.run import Step
from flopratio.text.dtypes import FLOATING, dtype_name, parse_dtype


def network_step(
    network: Network, options: StepOptions, device: str | torch.device | None = None
) -> Step:
    """The step of a network, with its loss and target.

    Args:
        options: float32 unless they say another dtype.
        device: where parameters and batch really are; None: they are fake.

    Raises:
        UsageError: its parameters can't be made in that dtype.
    """
    if options.dtype is not None and options.dtype not in FLOATING:
        raise UsageError(
            f"{network.model} can't be made in {options.dtype}: dtype should be one of "
            f"{', '.join(FLOATING)}"
        )
    mode = StepMode() if device is None else None
    dtype = torch.get_default_dtype()
    # Made where and as it is wanted: fake parameters can't be converted afterwards.
    torch.set_default_dtype(parse_dtype(options.dtype or "float32"))
    try:
        with mode or nullcontext(), torch.device(device or "cpu"):
            module, loss_module = build(network), build_loss(network)
            x, target = batch_of(network)
    finally:
        torch.set_default_dtype(dtype)
    example = Example(
        module=module,
        args=(x,),
        kwargs={},
        mode=mode,
        enter_mode=True,
        settings=dict(network.settings),
        kind="module",
        tokens=None if network.tokens is None else x.numel(),
    )
    return Step(example, options, loss_module, target)


def network_ledger(network: Network, options: StepOptions) -> Ledger:
    """The ledger of that step by the network's formulas alone, of a plain update, without autocast,
    checkpoints and micro-batches."""
    return analytic_ledger(
        network,
        optimizer=options.optimizer,
        freeze=options.freeze,
        input_grad=options.input_grad,
        inference=options.inference,
        dtype=dtype_name(options.dtype or "float32"),
        weight_decay=options.decay.update,
        loss_decay=options.decay.loss,
    )
