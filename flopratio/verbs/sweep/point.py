"""One point of a sweep: its step counted by independent sources, compared and, if asked, timed. The
sources: the formulas of a built-in network, the law, the executed operators, fvcore,
``FlopCounterMode``, autograd's own saved tensors. Equal means equal integers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from flopratio.errors import UsageError
from flopratio.ledger import LayerTotals, Ledger
from flopratio.networks.analytic import analyse
from flopratio.networks.description import DECAY_LAYER, Network
from flopratio.networks.library import describe
from flopratio.step.freezing import nothing_to_train
from flopratio.step.network import network_ledger
from flopratio.step.options import AUTO, StepOptions
from flopratio.step.random_state import own_random_state
from flopratio.step.real import spec_step
from flopratio.step.run import Step
from flopratio.text.grammar import is_spec
from flopratio.torch_private import parameters
from flopratio.trace.memory import peak_bytes
from flopratio.verbs.compare import differences
from flopratio.verbs.sweep import transformer
from flopratio.verbs.sweep.plan import swept_options
from flopratio.verbs.sweep.sources import Sources
from flopratio.verbs.traced import inference_peak, trace_step

ONE_PRODUCT = ("aten.addmm", "aten.mm", "aten.convolution")
"""The operators of a layer that is one product of data and a weight."""


def examine(
    model: str,
    settings: dict[str, Any],
    options: StepOptions | None = None,
    measure: str = "none",
) -> dict[str, Any]:
    """One point of a sweep: counted, executed, compared and, if asked, timed.

    Args:
        model, settings: a MODEL and its KEYs.
        options: of :func:`flopratio.verbs.sweep.plan.swept_options`.
        measure: ``none`` (executed on fake tensors: every operator, no arithmetic), ``cpu`` or
            ``cuda`` (really executed and timed).

    Returns:
        The columns of ``sweep.csv``, the keys apart.

    Raises:
        UsageError: the point can't be run; one sentence says why.
        torch.OutOfMemoryError: the point does not fit the device.
    """
    with own_random_state():
        return _examine(model, settings, options or swept_options(), measure)


def check(model: str, settings: dict[str, Any], options: StepOptions) -> None:
    """Check what would end a point, before any is examined: that its KEYs fit each other, and that
    the pattern of ``freeze`` matches some of the model's parameters, and leaves others to train.

    Args:
        model, settings, options: as of :func:`examine`.

    Raises:
        UsageError: it doesn't.
    """
    if is_spec(model):
        with own_random_state(), spec_step(model, settings, options).prepared():
            return
    network = describe(model, **settings)
    if options.freeze is None:
        return
    step = analyse(network, freeze=options.freeze, input_grad=options.input_grad)
    if not step.total("grad_input", "grad_weight"):
        raise nothing_to_train(options.freeze)


def layers_of(model: str, settings: dict[str, Any], options: StepOptions) -> list[LayerTotals]:
    """The layers of a point's ledger."""
    network = _network(model, settings, options)
    if network is not None and _is_plain(options):
        return network_ledger(network, options).layers()
    with own_random_state():
        return trace_step(spec_step(model, settings, options)).ledger.layers()


def _network(model: str, settings: dict[str, Any], options: StepOptions) -> Network | None:
    """The description of a built-in network."""
    if is_spec(model):
        return None
    loss = {} if options.loss == "auto" else {"loss": options.loss}
    return describe(model, **{**settings, **loss})


def _is_plain(options: StepOptions) -> bool:
    """Whether the formulas of the built-in networks are of such a step."""
    return (options.amp, options.checkpoint, options.accumulate) == (None, None, 1)


def _examine(
    model: str, settings: dict[str, Any], options: StepOptions, measure: str
) -> dict[str, Any]:
    network = _network(model, settings, options)
    step = replace(spec_step(model, settings, options), holds_loss=False)
    profiler = trace_step(step)
    executed = profiler.ledger
    analytic = executed
    if network is not None and _is_plain(options):
        analytic = network_ledger(network, options)
    timing: dict[str, Any] = {}
    ran = executed
    if measure != "none":
        from flopratio.measure.timing import measure_step

        real = spec_step(model, settings, options, torch.device(measure))
        ran = trace_step(real).ledger
        timing = real.explained(partial(measure_step, real, layers=False)).columns()
    total = analytic.totals
    sources = Sources(step, analytic, executed)
    formulas = analytic is not executed
    sources.compare_executed(
        ran,
        differences(analytic, ran, options, on_cuda=measure == "cuda") if formulas else (),
    )
    sources.compare_saved()
    sources.compare_fvcore(network, model, settings)
    sources.compare_flop_counter(profiler.recording)
    return {
        "forward": total.forward,
        "grad_input": total.grad_input,
        "grad_weight": total.grad_weight,
        "backward": total.backward,
        "recompute": total.recompute,
        "update": total.update,
        "elementwise_forward": total.elementwise_forward,
        "elementwise_backward": total.elementwise_backward,
        "elementwise_recompute": total.elementwise_recompute,
        "ratio": analytic.ratio.backward_to_forward,
        "ratio_with_update": analytic.ratio.with_update,
        **_parts(analytic, step, network),
        **transformer.columns(analytic),
        "parameters": total.parameters,
        "saved_bytes": total.saved_bytes,
        "peak_bytes": peak_bytes(profiler.recording),
        "inference_peak_bytes": inference_peak(step),
        **_checkpointed(step),
        **timing,
        **sources.columns(),
        "optimizer": options.optimizer,
        "loss": options.loss if network is None else network.loss,
        "convention": f"flop_per_mac=2{'' if options.causal == 'full' else ' causal=half'}",
        "attention": ran.convention["attention"],
        "device": measure if measure != "none" else "fake cpu",
        "dtype": step.dtype,
        "torch": torch.__version__,
        "status": "ok",
    }


def _parts(ledger: Ledger, step: Step, network: Network | None) -> dict[str, float | None]:
    """The first layer beside the others, and what has no products beside all. The first layer of a
    model is told where its one product is with data; that all others have inputs that need a
    gradient, and what has no products of them, is known of a built-in network alone."""
    layers = [layer for layer in ledger.layers() if layer.forward]
    is_lookup = not any(tensor.is_floating_point() for tensor in step.inputs.tensors)
    first = layers[0] if layers and not is_lookup else None
    others = layers[1:] if first else layers
    told: dict[str, float | None] = {
        "first_layer_ratio": first.ratio if first else None,
        "other_layers_ratio": _ratio(
            sum(layer.backward for layer in others),
            sum(layer.forward for layer in others),
        ),
        "first_layer_share": _ratio(first.forward if first else 0, ledger.totals.forward),
    }
    if network is None:
        products = [
            row
            for row in ledger.rows
            if first and row.layer == first.name and row.phase == "forward" and row.flops
        ]
        trained = all(parameter.requires_grad for parameter in parameters(step.module))
        one = [row.op for row in products if row.op in ONE_PRODUCT]
        return (
            told
            if len(products) == len(one) == 1 and trained
            else {**told, "first_layer_ratio": None}
        )
    rows = [row for row in ledger.rows if row.phase != "update" and row.layer != DECAY_LAYER]
    minor = sum(
        row.elementwise for row in rows if row.flops == 0 and row.type not in {"Linear", "Conv2d"}
    )
    share = _ratio(minor, sum(row.flops + row.elementwise for row in rows))
    return {**told, "minor_share": share}


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _checkpointed(step: Step) -> dict[str, Any]:
    """The same step with its chain of layers in checkpoints; nothing where it has none."""
    if step.options.checkpoint is not None:
        return {}
    try:
        ledger = trace_step(replace(step, options=replace(step.options, checkpoint=AUTO))).ledger
    except UsageError as error:
        if isinstance(error, MemoryError):
            raise
        return {}
    return {
        "checkpointed_saved_bytes": ledger.memory["saved_activations"],
        "checkpointed_peak_bytes": ledger.memory["peak"],
        "checkpointed_recompute": ledger.totals.recompute,
        "checkpointed_elementwise_recompute": ledger.totals.elementwise_recompute,
    }
