"""The figures that PyTorch's own test/test_flop_counter.py asserts of FlopCounterMode.

Its convention is the ledger's: contractions only, 2 FLOP a multiply-add, a causal mask not
discounted. One difference: what a fused attention evaluates again in backward counts as backward
there; here it is recompute, so those figures are hardware FLOPs, and the model FLOPs are the same
for all backends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import flopratio as fr
from experiments.literature.reference import rows
from experiments.literature.steps import hardware_flops, model_flops, part, profiled, trained
from flopratio.models import load

aten = torch.ops.aten

FIGURES: dict[tuple[str, str], Callable[[], int]] = {}
"""(case, quantity) -> the count."""


def figure(case: str, *quantities: str) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Register the count of one line, or of several that say the same."""

    def register(count: Callable[[], int]) -> Callable[[], int]:
        FIGURES.update({(case, quantity): count for quantity in quantities})
        return count

    return register


@pytest.mark.parametrize(
    "line",
    rows("pytorch_test_flop_counter_literals"),
    ids=lambda line: f"{line['case']}: {line['quantity']}",
)
def test_literal(line: dict[str, str]) -> None:
    assert FIGURES[line["case"], line["quantity"]]() == int(line["flops"])


def forward(step: Callable[[], Any]) -> int:
    with torch.no_grad():
        return profiled(step).totals.forward


def both(step: Callable[[], Tensor]) -> int:
    """Forward and backward of the sum."""
    ledger = profiled(lambda: step().sum().backward())
    assert ledger.totals.recompute == 0
    return model_flops(ledger)


def r(*shape: int, grad: bool = False) -> Tensor:
    return torch.rand(shape, requires_grad=grad)


# -- ResNet-18, one image -------------------------------------------------------------------------

GRAD = "resnet18 batch1 3x224x224, INPUT requires_grad=True"
NO_GRAD = "resnet18 batch1, input requires_grad=False"


@cache
def resnet(*, input_grad: bool) -> fr.Ledger:
    example = load("torchvision:resnet18", {"batch": 1})
    (image,) = example.args
    with example.context():
        return trained(example.module, image.requires_grad_(input_grad))


@figure(GRAD, "fwd+bwd total")
def resnet_with_input_gradient() -> int:
    return model_flops(resnet(input_grad=True))


@figure(NO_GRAD, "fwd+bwd total")
def resnet_without_input_gradient() -> int:
    return model_flops(resnet(input_grad=False))


@figure("resnet18 same", "fwd total (=total/3)")
def resnet_forward() -> int:
    return resnet(input_grad=True).totals.forward


@figure("resnet18 same", "layer1 conv fwd")
def layer1_forward() -> int:
    return part(resnet(input_grad=True), "layer1.*").totals.forward


@figure("resnet18 same", "layer1 conv bwd")
def layer1_backward() -> int:
    return part(resnet(input_grad=True), "layer1.*").totals.backward


def test_the_stem_alone_makes_the_difference() -> None:
    stem = part(resnet(input_grad=False), "conv1").totals
    assert (stem.grad_input, stem.ratio) == (0, 1.0)
    assert resnet_with_input_gradient() - resnet_without_input_gradient() == stem.forward


# -- matrix products and convolutions -------------------------------------------------------------


@figure("mm 4x5 @ 5x6", "fwd")
def mm() -> int:
    return forward(lambda: torch.mm(r(4, 5), r(5, 6)))


@figure("mm 10x10", "fwd")
def square_mm() -> int:
    return forward(lambda: torch.mm(r(10, 10), r(10, 10)))


@figure("bmm 3x4x5 @ 3x5x6", "fwd")
def bmm() -> int:
    return forward(lambda: torch.bmm(r(3, 4, 5), r(3, 5, 6)))


@figure("3 addmm", "fwd")
def addmm() -> int:
    def step() -> None:
        for bias in (r(4, 6), r(6), r(1)):
            torch.addmm(bias, r(4, 5), r(5, 6), beta=0.5, alpha=0.5)

    return forward(step)


@figure("baddbmm", "fwd")
def baddbmm() -> int:
    return forward(lambda: torch.baddbmm(r(3, 4, 6), r(3, 4, 5), r(3, 5, 6)))


@figure("mm+addmm+matmul+einsum+Linear(9,10)(8x9)", "fwd")
def five_products() -> int:
    linear = nn.Linear(9, 10)

    def step() -> None:
        torch.mm(r(4, 5), r(5, 6))
        torch.addmm(r(4, 6), r(4, 5), r(5, 6))
        torch.matmul(r(5, 6), r(6, 7))
        torch.einsum("ab,bc->ac", r(6, 7), r(7, 8))
        linear(r(8, 9))

    return forward(step)


@figure("conv2d x(2,3,6,6) w(6,3,4,4) pad1", "fwd")
def conv2d() -> int:
    return forward(lambda: functional.conv2d(r(2, 3, 6, 6), r(6, 3, 4, 4), padding=1))


@figure("conv1d x(2,3,6) w(6,3,4) pad1", "fwd")
def conv1d() -> int:
    return forward(lambda: functional.conv1d(r(2, 3, 6), r(6, 3, 4), padding=1))


@figure("conv2d x(1,1,2,2) w(1,1,1,1)", "fwd")
def small_conv2d() -> int:
    return forward(lambda: functional.conv2d(r(1, 1, 2, 2), r(1, 1, 1, 1)))


@figure("conv_transpose2d x(1,1,2,2) w(1,1,2,2)", "fwd")
def small_conv_transpose2d() -> int:
    return forward(lambda: functional.conv_transpose2d(r(1, 1, 2, 2), r(1, 1, 2, 2)))


@pytest.mark.parametrize(
    ("convolution", "weight"),
    [(functional.conv2d, (1, 1, 1, 1)), (functional.conv_transpose2d, (1, 1, 2, 2))],
)
def test_backward_of_the_small_convolutions_is_twice_forward(
    convolution: Callable[..., Tensor], weight: tuple[int, ...]
) -> None:
    x, w = r(1, 1, 2, 2, grad=True), r(*weight, grad=True)
    total = profiled(lambda: convolution(x, w).sum().backward()).totals
    assert total.grad_input + total.grad_weight == 2 * total.forward


# -- forward and backward -------------------------------------------------------------------------


@figure("mm(4x5 grad,5x6 nograd)->expand 7->bmm(7x6x7 nograd), sum().backward()", "total fwd+bwd")
def products_with_constants() -> int:
    a, b, c = r(4, 5, grad=True), r(5, 6), r(7, 6, 7)
    return both(lambda: torch.bmm(torch.mm(a, b).expand(7, 4, 6), c))


@figure("a(4x5).mm(a.t()) x2 with backward each", "total")
def two_backwards() -> int:
    a = r(4, 5, grad=True)

    def step() -> None:
        for _ in range(2):
            a.mm(a.t()).sum().backward()

    return model_flops(profiled(step))


class Squared(torch.autograd.Function):
    """x @ x, whose backward someone wrote by hand as two products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.mm(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad.mm(x.t()) + x.t().mm(grad)


@figure("custom autograd fn 5x5 mm fwd, 2 mm bwd", "total")
def custom_function() -> int:
    x = r(5, 5, grad=True)
    return both(lambda: Squared.apply(x))


@figure("ConvTranspose2d(4,8,2,stride 2), x(1,4,30,2) no grad, 50 iterations", "total fwd+bwd")
def conv_transpose_in_a_loop() -> int:
    layer, x = nn.ConvTranspose2d(4, 8, 2, stride=2), r(1, 4, 30, 2)

    def step() -> None:
        for _ in range(50):
            layer(x).sum().backward()

    return model_flops(profiled(step, layer))


class Mod2(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mm(x)


class Mod(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nested = Mod2()

    def forward(self, x: Tensor) -> Tensor:
        return self.nested(x).mm(x)


@cache
def nested() -> fr.Ledger:
    return trained(Mod(), r(10, 10, grad=True))


@figure("Mod: two nested mm(x,x) 10x10 with backward", "total")
def outer_module() -> int:
    return model_flops(nested())


@figure("Mod2: mm(x,x) 10x10 with backward", "total")
def inner_module() -> int:
    return model_flops(part(nested(), "nested"))


# -- scaled-dot-product attention -----------------------------------------------------------------

CAUSAL = "SDPA B4 H8 Sq=Sk=128 D64 causal (mask not discounted)"
CROSS = "SDPA Sq128 Sk256"


def math_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)


def cpu_flash_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)


# The operators that a GPU dispatches have shapes without one.


def cuda_flash_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    out: Tensor = aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal)[0]
    return out


def cuda_efficient_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    operator = aten._scaled_dot_product_efficient_attention
    out: Tensor = operator(query, key, value, None, True, 0.0, causal)[0]
    return out


def cudnn_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    operator = aten._scaled_dot_product_cudnn_attention
    out: Tensor = operator(query, key, value, None, True, 0.0, causal)[0]
    return out


Backend = Callable[[Tensor, Tensor, Tensor, bool], Tensor]

FUSED = [cpu_flash_attention, cuda_flash_attention, cuda_efficient_attention, cudnn_attention]


def attention(backend: Backend, keys: int) -> fr.Ledger:
    """128 queries, causal if there are as many keys."""
    device = "meta" if "cud" in backend.__name__ else "cpu"

    def operand(length: int) -> Tensor:
        return torch.rand(4, 8, length, 64, device=device, requires_grad=True)

    operands = operand(128), operand(keys), operand(keys)
    return profiled(lambda: backend(*operands, keys == 128).sum().backward())


for _case, _keys in ((CAUSAL, 128), (CROSS, 256)):
    figure(_case, "fwd")(lambda keys=_keys: attention(math_attention, keys).totals.forward)


@figure("SDPA same, math backend", "fwd+bwd")
def causal_math() -> int:
    return hardware_flops(attention(math_attention, 128))


@figure("SDPA same, flash/mem-efficient", "fwd+bwd")
def causal_fused() -> int:
    (flops,) = {hardware_flops(attention(backend, 128)) for backend in FUSED}
    return flops


@figure("SDPA Sq128 Sk256 math", "fwd+bwd")
def cross_math() -> int:
    return hardware_flops(attention(math_attention, 256))


@figure("SDPA Sq128 Sk256 mem-efficient", "fwd+bwd")
def cross_efficient() -> int:
    return hardware_flops(attention(cuda_efficient_attention, 256))


@pytest.mark.parametrize("keys", [128, 256])
@pytest.mark.parametrize("backend", [math_attention, *FUSED])
def test_model_flops_are_three_times_forward_for_every_backend(backend: Backend, keys: int) -> None:
    ledger = attention(backend, keys)
    query_key = 2 * 4 * 8 * 128 * keys * 64
    assert ledger.totals.forward == 2 * query_key
    assert model_flops(ledger) == 3 * ledger.totals.forward
    assert ledger.totals.recompute == (0 if backend is math_attention else query_key)
