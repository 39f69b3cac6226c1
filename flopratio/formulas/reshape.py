"""Layers that only look at the same memory under another shape."""

from __future__ import annotations

from flopratio.formulas.formula import LayerCost, Tensor, layer, prod


@layer("Flatten")
def flatten(x: Tensor) -> LayerCost:
    """y[B, prod(rest)] is x[B, *rest], seen as rows."""
    return LayerCost(x.view(x.shape[0], prod(x.shape[1:])))
