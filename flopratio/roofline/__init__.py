"""What a step should take on a device, from its ledger and the device's measured roofs; and why a
ratio of times is not that of FLOPs, in reasons that add up. Without torch, and without the
device."""

from flopratio.roofline.explanation import Explanation, Reason, explain
from flopratio.roofline.prediction import Expected, ExpectedLayer, Prediction, predict
from flopratio.roofline.times import StepTimes

__all__ = [
    "Expected",
    "ExpectedLayer",
    "Explanation",
    "Prediction",
    "Reason",
    "StepTimes",
    "explain",
    "predict",
]
