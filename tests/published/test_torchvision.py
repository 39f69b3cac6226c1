"""The ``_ops`` and ``num_params`` that torchvision prints of each set of its weights: every row.

Its convention: multiply-adds in 1e9 of matrix products and convolutions, a forward in evaluation
mode, rounded to three decimals; so here forward FLOP / 2. The inputs are those of its
test/common_extended_utils.py: noise of 512x512, for videos 16 frames, which the transform of the
weights crops or resizes (segmentation: to 520); optical flow takes it as it is, and detection
models resize it themselves.

What the rows of region-based detectors hold beyond shapes is how many regions the trained weights
saw in that noise. There are no weights here: the number is stated below, and is the only whole
number that meets the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import flopratio as fr
from experiments.literature.reference import rows
from experiments.literature.steps import profiled
from flopratio.models import load

ROWS = rows("torchvision_weights_ops")

OBJECTS = {
    ("MaskRCNN_ResNet50_FPN_V2", "COCO_V1"): 100,  # as many as it reports of an image at most
    ("KeypointRCNN_ResNet50_FPN", "COCO_V1"): 1,
}
"""Objects detected in the noise, whose masks or keypoints are then worked out; none elsewhere."""

PROPOSALS = {
    # These two drop proposals that score below 0.05, and so all of the noise's.
    "FasterRCNN_MobileNet_V3_Large_FPN": 0,
    "FasterRCNN_MobileNet_V3_Large_320_FPN": 0,
}
"""Regions in which objects are looked for; elsewhere as many as a model allows, 1000."""

UNPRINTED_PARAMETERS = {"MobileNet_V2": "3504872"}
"""Where the table has none; torchvision's documentation does."""


class Case(NamedTuple):
    """What decides the figures of a row."""

    area: str
    model: str
    crop: str
    objects: int

    @classmethod
    def of(cls, row: dict[str, str]) -> Case:
        area, slash, _ = row["task_file"].partition("/")
        objects = OBJECTS.get((row["model"], row["weights"]), 0)
        return cls(area if slash else "classification", row["model"], row["crop_size"], objects)

    def __str__(self) -> str:
        return f"{self.model}-{self.crop}-{self.objects}"

    @property
    def settings(self) -> dict[str, Any]:
        """The model as its weights need it, and the size of its input."""
        image = {"segmentation": 520, "optical_flow": 512, "detection": 512}.get(self.area)
        settings: dict[str, Any] = {"image": image or int(self.crop.strip("()").partition(",")[0])}
        if self.area == "video":
            settings["frames"] = 16
        if self.model == "GoogLeNet":
            settings["aux_logits"] = False
        if self.model.startswith(("FCN", "DeepLab")):
            settings["aux_loss"] = True
        return settings


CASES = {case: [row for row in ROWS if Case.of(row) == case] for case in map(Case.of, ROWS)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_multiply_adds_and_parameters(case: Case) -> None:
    example = load(f"torchvision:{case.model.lower()}", {"batch": 1, **case.settings})
    module, inputs = example.module.eval(), example.args
    if case.area == "detection":
        inputs = inputs[:1]  # without the targets that it trains on
        settle_findings(module, PROPOSALS.get(case.model, 1000), case.objects)
    with example.context(), torch.no_grad():
        ledger = profiled(lambda: module(*inputs), module)

    for row in CASES[case]:
        printed = row["num_params"] or UNPRINTED_PARAMETERS[case.model]
        assert ledger.totals.forward % 2 == 0
        assert round(ledger.totals.forward / 2 / 1e9, 3) == float(row["gmacs_ops"])
        assert ledger.totals.parameters - frozen_norms(case, ledger) == int(printed)


def frozen_norms(case: Case, ledger: fr.Ledger) -> int:
    """Parameters of batch norms that are constants in the detectors with trained weights, but for
    version 2 of them and for SSD."""
    if case.area != "detection" or case.model.endswith("_V2") or case.model.startswith("SSD"):
        return 0
    norms = (layer for layer, kind in ledger.types.items() if kind == "BatchNorm2d")
    return sum(ledger.parameters[layer] for layer in norms)


def settle_findings(module: Any, proposals: int, objects: int) -> None:
    """Let a detector find so many regions in its one image, whatever the values."""
    if isinstance(getattr(module, "rpn", None), nn.Module):
        found = [torch.zeros(objects, 4)], [torch.ones(objects)], [torch.ones(objects).long()]
        regions = [torch.zeros(proposals, 4)], [torch.ones(proposals)]
        module.rpn.filter_proposals = lambda *_: regions
        module.roi_heads.postprocess_detections = lambda *_: found
    else:
        module.postprocess_detections = lambda *_: []
