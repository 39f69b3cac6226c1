"""The training step on a device: how long it takes, and what it runs on. This imports torch."""

from flopratio.measure.hardware import machine
from flopratio.measure.interval import Interval
from flopratio.measure.memory import MeasuredMemory, measured_memory
from flopratio.measure.profiled import Profiled, StepEvent
from flopratio.measure.roofs import measured_roofs, roofs_of, roofs_path
from flopratio.measure.timing import LayerTiming, Timing, measure_step

__all__ = [
    "Interval",
    "LayerTiming",
    "MeasuredMemory",
    "Profiled",
    "StepEvent",
    "Timing",
    "machine",
    "measure_step",
    "measured_memory",
    "measured_roofs",
    "roofs_of",
    "roofs_path",
]
