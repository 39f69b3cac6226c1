"""`torchvision:NAME`: classification, segmentation, detection, video and optical-flow models."""

from __future__ import annotations

import inspect
from typing import Any

from flopratio.models.construct import construct, resized
from flopratio.models.detection import detection_inputs, settle_choices
from flopratio.models.example import Draft, ModelError, Request
from flopratio.models.inputs import floats, take_images
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.text.suggestions import did_you_mean

_FRAMES = 16
"""Frames of a clip, as torchvision's own training of its video models has them."""

_KINDS = {"segmentation": "segmentation", "detection": "detection", "optical_flow": "module"}
"""By the part of torchvision.models that a model comes from; all others are classifiers."""


def torchvision_draft(request: Request) -> Draft:
    """The torchvision model of that name, with images, clips or pairs of images of its own size."""
    models = import_torchvision().models
    if request.name not in models.list_models():
        hint = did_you_mean(request.name, models.list_models())
        raise ModelError(f"torchvision has no model '{request.name}'{hint}")
    builder = models.get_model_builder(request.name)
    area = builder.__module__.removeprefix("torchvision.models.").partition(".")[0]

    frames = (request.take_int("frames", _FRAMES),) if area == "video" else ()
    # Weights of the backbone would be downloaded by default.
    options = dict.fromkeys(k for k in inspect.signature(builder).parameters if "weights" in k)
    options |= request.take_rest(but=("batch", "image", "input"))
    module = construct(request, builder, options)

    native = _native_size(models, request.name, module)
    images = take_images(request, 3, native, frames=frames)
    if tuple(images.shape[-2:]) != native:
        module = resized(request, builder, options, module, images)
    args: tuple[Any, ...] = (images,)
    kwargs: dict[str, Any] = {}
    if area == "optical_flow":
        args = (images, floats(*images.shape))
    elif area == "detection":
        settle_choices(module)
        listed, targets = detection_inputs(images)
        args, kwargs = (listed,), {"targets": targets}

    return Draft(
        module,
        args,
        kwargs,
        kind=_KINDS.get(area, "classifier"),
        # Detection matches boxes with anchors by value: real ones, which need the mode not entered.
        enter_mode=area != "detection",
        select_all=area == "detection",
        for_loss=frozenset(kwargs),
    )


def _native_size(models: Any, name: str, module: Any) -> tuple[int, int]:
    """(height, width) that a model is built for, or that its published weights were trained at."""
    weights = list(models.get_model_weights(name))
    preset = getattr(weights[0].transforms, "keywords", {}) if weights else {}
    size = preset.get("crop_size", preset.get("resize_size", 224))
    if hasattr(module, "image_size"):  # of a vision transformer
        size = module.image_size
    elif hasattr(module, "transform"):  # the first layer of a detection model, which resizes
        size = module.transform.fixed_size or max(module.transform.min_size)
    return (size, size) if isinstance(size, int) else (size[0], size[-1])
