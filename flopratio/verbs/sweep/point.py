"""One point of a sweep: its step counted by independent sources, compared and, if asked, timed. The
sources: formulas, the executed operators, fvcore, ``FlopCounterMode``, autograd's own saved
tensors. Equal means equal integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from flopratio.ledger import Ledger
from flopratio.networks.analytic import CPU_ATTENTION, KERNELS_DIFFER, analyse
from flopratio.networks.library import describe
from flopratio.peers import forward_by_fvcore, saved_by_autograd, total_by_flop_counter
from flopratio.step.freezing import nothing_to_train
from flopratio.step.network import network_ledger, network_step
from flopratio.step.options import AUTO, StepOptions
from flopratio.step.random_state import own_random_state
from flopratio.step.run import Step
from flopratio.torch_private import parameters
from flopratio.trace.memory import peak_bytes
from flopratio.verbs.compare import compare
from flopratio.verbs.sweep import transformer
from flopratio.verbs.sweep.plan import swept_options
from flopratio.verbs.traced import inference_peak, trace_step


def examine(
    model: str,
    settings: dict[str, Any],
    options: StepOptions | None = None,
    measure: str = "none",
) -> dict[str, Any]:
    """One point of a sweep: counted, executed, compared and, if asked, timed.

    Args:
        model, settings: a built-in network and its keys.
        options: of :func:`flopratio.verbs.sweep.plan.swept_options`.
        measure: ``none`` (executed on fake tensors: every operator, no arithmetic), ``cpu`` or
            ``cuda`` (really executed and timed).

    Returns:
        The columns of ``sweep.csv``, the keys apart.

    Raises:
        torch.OutOfMemoryError: the point does not fit the device.
    """
    with own_random_state():
        return _examine(model, settings, options or swept_options(), measure)


def check(model: str, settings: dict[str, Any], options: StepOptions) -> None:
    """Check what would end a point, before any is examined: that its sizes fit each other, and that
    the pattern of ``freeze`` matches some of the network's parameters, and leaves others to train.

    Args:
        model, settings, options: as of :func:`examine`.

    Raises:
        UsageError: it doesn't.
    """
    network = describe(model, **settings)
    if options.freeze is None:
        return
    step = analyse(network, freeze=options.freeze, input_grad=options.input_grad)
    if not step.total("grad_input", "grad_weight"):
        raise nothing_to_train(options.freeze)


def _examine(
    model: str, settings: dict[str, Any], options: StepOptions, measure: str
) -> dict[str, Any]:
    network = describe(
        model, **(settings if options.loss == "auto" else {**settings, "loss": options.loss})
    )
    step = replace(network_step(network, options), holds_loss=False)
    profiler = trace_step(step)
    executed = profiler.ledger
    analytic = network_ledger(network, options)
    checkpointed = trace_step(replace(step, options=replace(options, checkpoint=AUTO))).ledger
    saved, flop_counter = _by_torch(step)
    timing: dict[str, Any] = {}
    if measure != "none":
        from flopratio.measure.timing import measure_step

        real = network_step(network, options, measure)
        executed = trace_step(real).ledger
        timing = measure_step(real, layers=False).columns()
    total = analytic.totals
    by_fvcore = forward_by_fvcore(network)
    attention = sum(layer.forward for layer in analytic.layers() if layer.type == "Attention")
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
        **_parts(analytic, is_lookup=network.tokens is not None),
        **transformer.columns(analytic),
        "parameters": total.parameters,
        "saved_bytes": total.saved_bytes,
        "peak_bytes": peak_bytes(profiler.recording),
        "inference_peak_bytes": inference_peak(step),
        "checkpointed_saved_bytes": checkpointed.memory["saved_activations"],
        "checkpointed_peak_bytes": checkpointed.memory["peak"],
        "checkpointed_recompute": checkpointed.totals.recompute,
        "checkpointed_elementwise_recompute": checkpointed.totals.elementwise_recompute,
        **timing,
        **_comparisons(analytic, profiler.ledger, executed, saved),
        # fvcore skips attention.
        "fvcore_equal": None if by_fvcore is None else total.forward - attention == by_fvcore,
        "flop_counter_equal": total.forward + total.backward == flop_counter,
        "optimizer": options.optimizer,
        "loss": network.loss,
        "convention": "flop_per_mac=2",
        "attention": executed.convention["attention"],
        "device": measure if measure != "none" else "fake cpu",
        "dtype": options.dtype,
        "torch": torch.__version__,
        "status": "ok",
    }


def _comparisons(
    analytic: Ledger, on_cpu: Ledger, executed: Ledger, saved: int
) -> dict[str, bool | None]:
    """Formulas and executions of one step, held against each other.

    Args:
        on_cpu: of the step on fake tensors, with the CPU's operators.
        executed: of the step that is judged, the same or one on a device.
        saved: bytes, by autograd's hooks on the CPU.
    """

    def as_formulas(ledger: Ledger) -> bool:
        """Whether the operators are those that the formulas are of."""
        on_cuda = ledger.convention["device"].startswith("cuda")
        other = on_cuda or ledger.convention["attention"] not in CPU_ATTENTION
        return not other or {*KERNELS_DIFFER}.isdisjoint(analytic.types.values())

    by_law = () if as_formulas(executed) else KERNELS_DIFFER
    total = analytic.totals.saved_bytes
    return {
        "executed_equal": not compare(analytic, executed, by_law=by_law)
        and not executed.uncounted_ops,
        "saved_equal": total == saved and (bool(by_law) or total == executed.totals.saved_bytes)
        if as_formulas(on_cpu)
        else None,
    }


def _parts(ledger: Ledger, *, is_lookup: bool) -> dict[str, float | None]:
    """The first layer beside the others, and what has no products beside all.

    Args:
        is_lookup: whether the first layer is, which has no products; all others have inputs that
            need a gradient.
    """
    layers = [layer for layer in ledger.layers() if layer.forward]
    first, others = (None, layers) if is_lookup else (layers[0], layers[1:])
    step = [row for row in ledger.rows if row.phase != "update"]
    minor = sum(
        row.elementwise for row in step if row.flops == 0 and row.type not in {"Linear", "Conv2d"}
    )
    return {
        "first_layer_ratio": first.ratio if first else None,
        "other_layers_ratio": _ratio(
            sum(layer.backward for layer in others),
            sum(layer.forward for layer in others),
        ),
        "first_layer_share": _ratio(first.forward if first else 0, ledger.totals.forward),
        "minor_share": _ratio(minor, sum(row.flops + row.elementwise for row in step)),
    }


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _by_torch(step: Step) -> tuple[int, int]:
    """Saved bytes by autograd's hooks, and FLOP by ``FlopCounterMode``, of one step. Of attention
    that counts the products alone: it knows no fused operator of the CPU's."""
    with step.prepared() as prepared:
        saved = saved_by_autograd(prepared.forward, parameters(step.module))
    products = replace(step, options=replace(step.options, attention="math"))
    with products.prepared() as prepared:
        flops = total_by_flop_counter(lambda: prepared.forward().backward())
    return saved, flops
