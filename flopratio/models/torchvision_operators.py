"""torchvision without its compiled operators, which fit one build of torch only.

The models are Python and run without them, but importing the package asks for the schemas of two,
and region-based detection falls back to compiled Python code that no fake tensor may enter. On an
ordinary installation nothing here does anything.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor

from flopratio.models.packages import import_package
from flopratio.torch_private import FakeTensor

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height,"
    " SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height,"
    " SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width,"
    " int sampling_ratio, bool aligned) -> Tensor",
)


@functools.cache
def import_torchvision() -> Any:
    """The torchvision package; ModelError if it is not installed."""
    try:
        return import_package("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left half done
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    torchvision = import_package("torchvision")
    torchvision.flopratio_operators = library  # the schemas live as long as this object
    _align_fake_regions(torchvision, library)
    return torchvision


def _align_fake_regions(torchvision: Any, library: torch.library.Library) -> None:
    """Let `roi_align` be the compiled operator for fake tensors: its shapes and its gradient."""
    shapes = torchvision._meta_registrations
    library.impl("roi_align", shapes.meta_roi_align, "Meta")
    library.impl("_roi_align_backward", shapes.meta_roi_align_backward, "Meta")
    operators = torch.ops.torchvision

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, ctx.rois, ctx.scale, *ctx.pooled, ctx.sampling_ratio, ctx.aligned = inputs
        ctx.shape = input.shape

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_input = operators._roi_align_backward(
            grad, ctx.rois, ctx.scale, *ctx.pooled, *ctx.shape, ctx.sampling_ratio, ctx.aligned
        )
        return grad_input, *[None] * 6

    torch.library.register_autograd(
        "torchvision::roi_align", backward, setup_context=keep, lib=library
    )
    # The attribute torchvision.ops.roi_align is the function; its module is found by name only.
    python: Any = sys.modules["torchvision.ops.roi_align"]
    eager = python._roi_align.__wrapped__

    def roi_align(input: Tensor, *args: Any) -> Any:
        align = operators.roi_align if isinstance(input, FakeTensor) else eager
        return align(input, *args)

    python._roi_align = roi_align
