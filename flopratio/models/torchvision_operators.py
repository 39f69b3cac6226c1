"""torchvision without its compiled operators, which fit one build of torch only.

The models are Python and run without them, but importing the package asks for the schemas of two,
and region-based detection falls back to compiled Python code that no fake tensor may enter. On an
ordinary installation nothing here does anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
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


_ALIGNED = "aligned_by_flopratio"
"""Marks the module whose function has been replaced."""

_COMPILED = ("_C", "_C_stable")
"""The file of the compiled operators, by the release of torchvision."""

_library: torch.library.Library | None = None
"""The schemas live as long as this object."""


def import_torchvision() -> Any:
    """The torchvision package; ModelError if it is not installed."""
    with torchvision_importable():
        return import_package("torchvision")


@contextmanager
def torchvision_importable() -> Iterator[None]:
    """Meanwhile, whoever imports torchvision (a user's file, timm, transformers) finds the
    operators that it asks for."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        torchvision = sys.modules.get("torchvision")
        if _library is not None and torchvision is not None:
            _align_fake_regions(torchvision, _library)


class _Finder(MetaPathFinder):
    """Finds nothing, but sees torchvision being imported before it is."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision":
            _define_operators()


def _define_operators() -> None:
    """Define the schemas of the compiled operators, where these can't be loaded."""
    global _library
    if has_compiled_operators():
        return
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]  # what an import that failed left half done
    library = _library or torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
    _library = library


def has_compiled_operators() -> bool:
    """Whether torchvision's compiled operators can be loaded; then they are."""
    found = PathFinder.find_spec("torchvision")
    if found is None or found.submodule_search_locations is None:
        return True  # whoever imports it is told so
    places = list(found.submodule_search_locations)
    for name in _COMPILED:
        compiled = PathFinder.find_spec(name, places)
        if compiled is not None and compiled.origin is not None:
            with suppress(OSError):  # of another build of torch
                torch.ops.load_library(compiled.origin)
                return True
    return False


def _align_fake_regions(torchvision: Any, library: torch.library.Library) -> None:
    """Let `roi_align` be the compiled operator for fake tensors: its shapes and its gradient."""
    python: Any = sys.modules.get("torchvision.ops.roi_align")
    if python is None or hasattr(python, _ALIGNED):
        return
    setattr(python, _ALIGNED, True)
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
    eager = python._roi_align.__wrapped__

    def roi_align(input: Tensor, *args: Any) -> Any:
        align = operators.roi_align if isinstance(input, FakeTensor) else eager
        return align(input, *args)

    python._roi_align = roi_align
