"""Inputs of torchvision's detection models, and the one choice by value that they make for sure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flopratio.models.inputs import floats, integers

_OBJECTS = 4
"""Objects an image, in a 2 x 2 grid; the count enters the losses only."""
_KEYPOINTS = 17
"""Keypoints of a person in COCO, which torchvision's model has by default."""


def detection_inputs(images: Tensor) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """A list of the images [N, C, H, W] and their targets: boxes, labels, masks and keypoints.

    The targets are real tensors, for which anchors match which box is read in every step; but
    not the masks, which are only ever sampled.
    """
    batch, channels, height, width = images.shape
    boxes = _grid(height, width)
    target = {
        "boxes": boxes,
        "labels": integers(_OBJECTS, value=1),
        "masks": torch.empty((_OBJECTS, height, width), dtype=torch.uint8, device="meta"),
        # x, y, visible: in the middle of the box
        "keypoints": torch.cat([boxes.view(-1, 2, 2).mean(1), torch.ones(_OBJECTS, 1)], dim=1)
        .unsqueeze(1)
        .repeat(1, _KEYPOINTS, 1),
    }
    targets = [dict(target) for _ in range(batch)]
    return [floats(channels, height, width) for _ in targets], targets


def settle_choices(module: Any) -> None:
    """Fix what a detection model draws by lot, or chooses by its weights, in every step.

    Images are resized to the largest of the sizes to draw from. And a proposal network proposes as
    a trained one does: `post_nms_top_n` regions an image, with so many objects among them that the
    second stage can draw its whole sample with the share of objects that it asks for.
    """
    module.transform.min_size = (max(module.transform.min_size),)
    network: Any = getattr(module, "rpn", None)
    if network is None:
        return

    def filter_proposals(
        proposals: Tensor, objectness: Tensor, image_shapes: list[tuple[int, int]], _: object
    ) -> tuple[list[Tensor], list[Tensor]]:
        count = network.post_nms_top_n()
        boxes = [_proposals(count, *size).to(proposals.device) for size in image_shapes]
        return boxes, [torch.ones(count, device=each.device) for each in boxes]

    network.filter_proposals = filter_proposals


def _proposals(count: int, height: int, width: int) -> Tensor:
    """Boxes [count, 4] in pixels: half of them on the objects, half in a corner of the first."""
    objects = _grid(height, width)
    hits = objects.repeat(count // 2 // _OBJECTS + 1, 1)[: count // 2]
    misses = torch.tensor([[0.0, 0.0, width / 16, height / 16]]).repeat(count - len(hits), 1)
    return torch.cat([hits, misses])


def _grid(height: int, width: int) -> Tensor:
    """Four boxes [4, 4] as x1, y1, x2, y2 in pixels, one in each quarter of the image."""
    starts = torch.tensor([[0.05, 0.05], [0.55, 0.05], [0.05, 0.55], [0.55, 0.55]])
    return torch.cat([starts, starts + 0.4], dim=1) * torch.tensor([width, height] * 2)
