"""Running and timing the step on a device."""

from flopratio.measure.hardware import machine
from flopratio.measure.interval import Interval
from flopratio.measure.profiled import Profiled, StepEvent
from flopratio.measure.roofs import measured_roofs, roofs_of, roofs_path
from flopratio.measure.timing import LayerTiming, Timing, measure_step

__all__ = [
    "Interval",
    "LayerTiming",
    "Profiled",
    "StepEvent",
    "Timing",
    "machine",
    "measure_step",
    "measured_roofs",
    "roofs_of",
    "roofs_path",
]
