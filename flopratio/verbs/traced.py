"""A step under the Profiler."""

from __future__ import annotations

from dataclasses import replace

from flopratio.models.explain import VALUE_READERS
from flopratio.step.options import StepOptions
from flopratio.step.random_state import own_random_state
from flopratio.step.run import Step
from flopratio.trace.memory import peak_bytes
from flopratio.trace.patches import PATCHING
from flopratio.trace.profiler import Profiler


def trace_step(step: Step) -> Profiler:
    """Run a step, and watch it."""
    options = step.options
    profiler = Profiler(step.module, names=step.names, target=options.target, causal=options.causal)
    profiler.note_inputs(step.inputs.tensors)
    with PATCHING, own_random_state(), step.prepared(profiler) as prepared, profiler:
        result = prepared.run()
    del result  # alive until here, as in most people's steps
    return profiler


def inference_peak(step: Step) -> int | None:
    """Peak bytes of the forward alone, in eval mode and without a graph; None where the model then
    chooses by values (of boxes, say)."""
    options = step.options
    forward = replace(
        step,
        options=StepOptions(
            dtype=options.dtype,
            amp=options.amp,
            attention=options.attention,
            inference=True,
            target=options.target,
        ),
    )
    profiler = Profiler(step.module, names=step.names)
    try:
        with PATCHING, own_random_state(), forward.prepared(profiler) as prepared, profiler:
            prepared.output()
    except VALUE_READERS:
        return None
    return peak_bytes(profiler.recording)
