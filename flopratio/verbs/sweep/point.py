"""The same step counted by independent sources: formulas, the executed operators, fvcore,
``FlopCounterMode``, autograd's own saved tensors; joined and judged. Equal means equal integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from flopratio.errors import UsageError
from flopratio.ledger import Ledger, Row
from flopratio.networks.analytic import analytic_ledger
from flopratio.networks.description import LOSS_LAYER, Network
from flopratio.networks.library import describe
from flopratio.networks.modules import batch_of, build, build_loss
from flopratio.peers import forward_by_fvcore, saved_by_autograd, total_by_flop_counter
from flopratio.step.checkpointing import AUTO, checkpointed
from flopratio.step.optimizers import make_optimizer
from flopratio.trace.memory import peak_bytes
from flopratio.trace.profiler import Profiler


@dataclass(frozen=True)
class Difference:
    """One place where two sources part ways."""

    layer: str
    phase: str
    op: str
    expected: int
    found: int


def work_by_operator(rows: Iterable[Row]) -> dict[tuple[str, str, str], int]:
    """(layer, phase, operator) -> FLOP of all kinds; operators without arithmetic are left out."""
    work: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        flops = row.flops + row.elementwise
        if flops:
            work[row.layer, row.phase, row.op] += flops
    return dict(work)


def compare(analytic: Ledger, executed: Ledger) -> list[Difference]:
    """Every (layer, phase, operator) whose FLOP differ; empty where the two agree."""
    expected, found = work_by_operator(analytic.rows), work_by_operator(executed.rows)
    return [
        Difference(*key, expected.get(key, 0), found.get(key, 0))
        for key in [*expected, *(key for key in found if key not in expected)]
        if expected.get(key, 0) != found.get(key, 0)
    ]


@dataclass
class Step:
    """A built-in network's training step, ready to run on a device or on fake tensors."""

    network: Network
    optimizer: str
    dtype: torch.dtype
    device: torch.device
    freeze: str | None = None
    input_grad: bool = False

    def __post_init__(self) -> None:
        # Made where and as it is wanted: fake parameters can't be converted afterwards.
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with self.device:
                self.module = build(self.network)
                self.loss = build_loss(self.network)
                x, self.target = batch_of(self.network)
        finally:
            torch.set_default_dtype(before)
        self.x = x.requires_grad_(self.input_grad)
        if self.freeze is not None:
            self._freeze(self.freeze)
        self.update = make_optimizer(self.optimizer, self.module.parameters())

    def _freeze(self, pattern: str) -> None:
        from fnmatch import fnmatch

        for name, parameter in self.module.named_parameters():
            if fnmatch(name, pattern) or fnmatch(name.rpartition(".")[0], pattern):
                parameter.requires_grad_(False)
        if not any(tensor.requires_grad for tensor in (*self.module.parameters(), self.x)):
            raise UsageError(
                f"--freeze {pattern} leaves nothing to train, so there is no backward: freeze less"
            )

    def forward(self) -> torch.Tensor:
        loss: torch.Tensor = self.loss(self.module(self.x), self.target)
        return loss

    def run(self) -> None:
        """Forward, loss, backward, update."""
        self.forward().backward()
        if self.update is not None:
            self.update.step()

    def by_peers(self) -> tuple[int, int]:
        """Saved bytes by autograd's hooks, and FLOP by ``FlopCounterMode``, of one step."""
        saved = 0

        def run() -> None:
            nonlocal saved
            loss: list[torch.Tensor] = []
            saved = saved_by_autograd(lambda: loss.append(self.forward()), self.module.parameters())
            loss[0].backward()

        flops = total_by_flop_counter(run)
        return saved, flops

    def clear(self) -> None:
        """Forget the gradients, as ``zero_grad(set_to_none=True)``."""
        self.module.zero_grad(set_to_none=True)
        self.x.grad = None


def trace_step(step: Step, checkpoint: str | None = None) -> Profiler:
    """Run a step under the Profiler, its update as in the steady state: an optimizer that has no
    state yet makes it first, unseen.

    Args:
        checkpoint: what is computed again in backward, see :mod:`flopratio.step.checkpointing`.
    """
    profiler = Profiler(step.module, names={LOSS_LAYER: step.loss})
    with (
        checkpointed(
            step.module,
            checkpoint,
            step.forward,
            layer=profiler.layer,
            preserve_rng_state=False,  # nothing is random
        ),
        profiler,
    ):
        step.forward().backward()
        if step.update is not None:
            with profiler.paused():
                step.update.step()
            step.update.step()
    step.clear()
    return profiler


def inference_peak(step: Step) -> int:
    """Peak bytes of the forward alone, without a graph."""
    with (
        Profiler(step.module, names={LOSS_LAYER: step.loss}) as profiler,
        torch.inference_mode(),
    ):
        step.module(step.x)
    return peak_bytes(profiler.recording)


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def examine(
    model: str,
    settings: dict[str, Any],
    *,
    measure: str = "none",
    loss: str = "auto",
    optimizer: str = "sgd",
    dtype: str = "float32",
    freeze: str | None = None,
    input_grad: bool = False,
) -> dict[str, Any]:
    """One point of a sweep: counted, executed, compared and, if asked, timed.

    Args:
        model, settings: a built-in network and its keys.
        measure: ``none`` (executed on fake tensors: every operator, no arithmetic), ``cpu`` or
            ``cuda`` (really executed and timed).

    Returns:
        The columns of ``sweep.csv``, the keys apart.

    Raises:
        torch.OutOfMemoryError: the point does not fit the device.
    """
    from flopratio.torch_private import FakeTensorMode

    chosen = settings if loss == "auto" else {**settings, "loss": loss}
    network = describe(model, **chosen)
    torch_dtype = getattr(torch, dtype)
    analytic = analytic_ledger(
        network,
        optimizer=optimizer,
        freeze=freeze,
        input_grad=input_grad,
        itemsize=torch_dtype.itemsize,
    )

    def prepare(device: str) -> Step:
        return Step(network, optimizer, torch_dtype, torch.device(device), freeze, input_grad)

    with FakeTensorMode():
        fake = prepare("cpu")
        profiler = trace_step(fake)
        peak = peak_bytes(profiler.recording)
        inference = inference_peak(fake)
        thrifty = trace_step(fake, checkpoint=AUTO).ledger
        saved, flop_counter = fake.by_peers()
    executed = profiler.ledger
    timing: dict[str, Any] = {}
    if measure != "none":
        from flopratio.measure.timing import measure_step

        real = prepare(measure)
        executed = trace_step(real).ledger
        timing = measure_step(
            real.module,
            (real.x,),
            lambda output: real.loss(output, real.target),
            optimizer,
            measure,
            layers=False,
        ).columns()
    differences = compare(analytic, executed)
    total = analytic.totals
    layers = [layer for layer in analytic.layers() if layer.forward]
    first, others = layers[0], layers[1:]
    activations = [row for row in analytic.rows if row.flops == 0 and row.phase != "update"]
    minor = sum(row.elementwise for row in activations if row.type not in {"Linear", "Conv2d"})
    everything = sum(row.flops + row.elementwise for row in analytic.rows if row.phase != "update")
    return {
        "forward": total.forward,
        "grad_input": total.grad_input,
        "grad_weight": total.grad_weight,
        "backward": total.backward,
        "recompute": total.recompute,
        "update": total.update,
        "elementwise_forward": total.elementwise_forward,
        "elementwise_backward": total.elementwise_backward,
        "ratio": analytic.ratio.backward_to_forward,
        "ratio_with_update": analytic.ratio.with_update,
        "first_layer_ratio": first.ratio,
        "other_layers_ratio": _ratio(
            sum(layer.backward for layer in others),
            sum(layer.forward for layer in others),
        ),
        "first_layer_share": _ratio(first.forward, total.forward),
        "minor_share": _ratio(minor, everything),
        "parameters": total.parameters,
        "saved_bytes": total.saved_bytes,
        "peak_bytes": peak,
        "inference_peak_bytes": inference,
        "checkpointed_saved_bytes": thrifty.memory["saved_activations"],
        "checkpointed_peak_bytes": thrifty.memory["peak"],
        "checkpointed_recompute": thrifty.totals.recompute,
        **timing,
        "executed_equal": not differences and not executed.uncounted_ops,
        "saved_equal": total.saved_bytes == saved == executed.totals.saved_bytes,
        "fvcore_equal": total.forward == forward_by_fvcore(network),
        "flop_counter_equal": total.forward + total.backward == flop_counter,
        "optimizer": optimizer,
        "loss": network.loss,
        "convention": "flop_per_mac=2",
        "attention": "none",
        "device": measure if measure != "none" else "fake cpu",
        "dtype": dtype,
        "torch": torch.__version__,
        "status": "ok",
    }
