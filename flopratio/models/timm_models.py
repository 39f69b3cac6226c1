"""`timm:NAME`: image models of timm."""

from __future__ import annotations

from functools import partial

from flopratio.models.construct import construct, resized
from flopratio.models.example import Draft, ModelError, Request
from flopratio.models.inputs import take_images
from flopratio.models.packages import import_package
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.text.suggestions import did_you_mean


def timm_draft(request: Request) -> Draft:
    """The timm model of that name, untrained, with images of the size in its own configuration."""
    import_torchvision()  # timm imports it
    timm = import_package("timm")
    if not timm.is_model(request.name):
        hint = did_you_mean(request.name.partition(".")[0], timm.list_models())
        raise ModelError(f"timm has no model '{request.name}'{hint}")

    options = request.take_rest(but=("batch", "image", "input"))
    make = partial(timm.create_model, request.name, pretrained=False)
    module = construct(request, make, options)
    channels, *native = module.default_cfg["input_size"]
    if "in_chans" in options:
        channels = options["in_chans"]
    images = take_images(request, channels, (native[0], native[1]))
    if list(images.shape[-2:]) != native:
        module = resized(request, make, options, module, images)
    return Draft(module, (images,), kind="classifier")
