"""A second count of a step's contractions that shares no code with the trace: a dispatch mode that
adds up multiply-adds from operand shapes, forward and backward together."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "addmm_", "addbmm"}


class SecondCount(TorchDispatchMode):
    """``total``: FLOP of the contractions that ran. ``attention``: apart from it, what a fused
    attention's backward did again (Q @ K^T)."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.attention = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in PRODUCTS:
            self.total += 2 * self.macs(name, args)
        elif name == "convolution":
            self.total += 2 * self.convolution(args[0], args[1], out, args[6])
        elif name == "convolution_backward":
            grad, x, weight, transposed = args[0], args[1], args[2], args[7]
            for wanted in args[10][:2]:
                if wanted:
                    self.total += 2 * self.convolution(x, weight, grad, transposed)
        elif "attention" in name and "scaled_dot_product" in name:
            self.attention_products(name, args)
        elif name == "mkldnn_rnn_layer":
            self.total += 2 * self.recurrent(args[0], *args[1:3])
        elif name == "mkldnn_rnn_layer_backward":
            # Twice forward, the hidden state before the first step included.
            self.total += 2 * 2 * self.recurrent(args[0], *args[1:3])
        elif name == "_cudnn_rnn":
            self.total += 2 * self.recurrent(args[0], *args[1])
        elif name == "_cudnn_rnn_backward":
            self.total += 2 * 2 * self.recurrent(args[0], *args[1])
        elif name == "_euclidean_dist":
            # (-2 x, x x, 1) with (y, 1, y y), of every pair of points.
            self.total += 2 * out.numel() * (args[0].shape[-1] + 2)
        elif name in ("_grouped_mm", "transformers::grouped_mm_fallback"):
            # Every row of a is multiplied with one of the matrices, or contracted with b's rows.
            a, b = args[:2]
            self.total += 2 * a.numel() * b.shape[-1]
        elif name == "transformers::grouped_mm_fallback_backward":
            # Of transformers, with torch before it had the operator: both gradients at once.
            a, b = args[:2]
            self.total += 2 * 2 * a.numel() * b.shape[-1]
        return out

    @staticmethod
    def macs(name: str, args: Any) -> int:
        a, b = args[1:3] if name.startswith(("addm", "baddb", "addb")) else args[:2]
        if b.dim() == 1:
            return int(a.numel())
        return int(a.numel() * b.shape[-1])

    @staticmethod
    def convolution(x: Any, weight: Any, out: Any, transposed: bool) -> int:
        """Each output position of a plain convolution (each input position of a transposed one)
        meets every weight once, for each example."""
        positions = prod((x if transposed else out).shape[2:])
        return int(weight.numel() * out.shape[0] * positions)

    @staticmethod
    def recurrent(x: Any, *weights: Any) -> int:
        """Each example of each time step meets every weight once; biases are added."""
        return prod(x.shape[:-1]) * sum(w.numel() for w in weights if w.dim() == 2)

    def attention_products(self, name: str, args: Any) -> None:
        if name.endswith("_backward"):
            query, key, value = args[1:4]
        else:
            query, key, value = args[:3]
        rows = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
        scores, mixed = 2 * rows * query.shape[3], 2 * rows * value.shape[3]
        if name.endswith("_backward"):
            # dQ and dK of the scores' size, dV and dP of the mixture's; the scores once more.
            self.total += 2 * scores + 2 * mixed
            self.attention += scores
        else:
            self.total += scores + mixed
