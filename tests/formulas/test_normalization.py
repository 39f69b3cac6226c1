"""Normalizations, against plain loops and against torch.

Every norm is written on x[G, n], a row for each group that shares one mean and variance; torch's
tensors are brought into that form and back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, OPERATORS, Cost, Tensor
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.executed import (
    Work,
    agrees_on_arrays_and_symbols,
    agrees_with_autograd,
    agrees_with_torch,
    analytic,
    executed,
    subsets,
)

EPSILON = 1e-5
OPERANDS = ("input", "weight", "bias")

sizes = st.integers(1, 4)
many = st.integers(2, 4)


def total(row: np.ndarray) -> Counted:
    accumulator = Counted(0)
    for x in row:
        accumulator = accumulator + x
    return accumulator


def totals(rows: np.ndarray) -> np.ndarray:
    return np.array([total(row) for row in rows], dtype=object)


def reciprocal_root(x: Counted) -> Counted:
    return x._did(x.value**-0.5)


reciprocal_roots = np.vectorize(reciprocal_root, otypes=[object])


def column(x: np.ndarray) -> np.ndarray:
    return x[:, None]


def normalize(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y, mean, variance and 1 / standard deviation of x[G, n]."""
    n = x.shape[1]
    mean = totals(x) / n
    d = x - column(mean)
    variance = totals(d * d) / n
    rstd = reciprocal_roots(variance + EPSILON)
    y = d * column(rstd)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y, mean, variance, rstd


def normalize_backward(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    weight: np.ndarray,
    parameter: np.ndarray,
    asked: Sequence[str],
) -> dict[str, np.ndarray]:
    """The gradients of x[G, n] and of the parameters, whose number at each place ``parameter``
    tells, as far as they are asked for."""
    n = x.shape[1]
    found = {}
    if "input" in asked or "weight" in asked:
        x_hat = (x - column(mean)) * column(rstd)
    if "weight" in asked:
        found["weight"] = zeros((parameter.max() + 1,))
        for place in np.ndindex(*x.shape):
            own = parameter[place]
            found["weight"][own] = found["weight"][own] + g[place] * x_hat[place]
    if "bias" in asked:
        found["bias"] = zeros((parameter.max() + 1,))
        for place in np.ndindex(*x.shape):
            own = parameter[place]
            found["bias"][own] = found["bias"][own] + g[place]
    if "input" in asked:
        h = g * weight
        a = totals(h) / n
        b = totals(h * x_hat) / n
        found["input"] = (h - column(a) - x_hat * column(b)) * column(rstd)
    return found


def batch_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    weight: np.ndarray,
    asked: Sequence[str],
) -> dict[str, np.ndarray]:
    """As ``normalize_backward`` with a weight and a bias for each row, whose sums it shares."""
    n = x.shape[1]
    found = {}
    if "input" in asked or "weight" in asked:
        x_hat = (x - column(mean)) * column(rstd)
        found["weight"] = totals(g * x_hat)
    if "input" in asked or "bias" in asked:
        found["bias"] = totals(g)
    if "input" in asked:
        centered = g - column(found["bias"] / n) - x_hat * column(found["weight"] / n)
        found["input"] = column(weight * rstd) * centered
    return {name: found[name] for name in asked}


def batch_norm_eval_backward(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    weight: np.ndarray,
    asked: Sequence[str],
) -> dict[str, np.ndarray]:
    """Mean and variance are constants."""
    found = {}
    if "input" in asked or "weight" in asked:
        rstd = reciprocal_roots(variance + EPSILON)
    if "input" in asked:
        found["input"] = column(weight * rstd) * g
    if "weight" in asked:
        found["weight"] = totals(g * ((x - column(mean)) * column(rstd)))
    if "bias" in asked:
        found["bias"] = totals(g)
    return found


def real(array: np.ndarray, *, grad: bool = False) -> torch.Tensor:
    return torch.tensor(values(array), dtype=torch.float64, requires_grad=grad)


def close(found: torch.Tensor | None, expected: np.ndarray) -> None:
    assert found is not None
    np.testing.assert_allclose(found.detach().numpy(), values(expected), rtol=1e-5, atol=1e-9)


def elementwise_forward(layer: str, x: Tensor, **arguments: Any) -> int:
    calls = LAYERS[layer](x, **arguments).calls
    return sum(call.cost.elementwise for call in calls if call.op.startswith("aten.native"))


def parts_of(cost: Cost, asked: Sequence[str]) -> int:
    """What a forward formula says of the gradients asked for."""
    wanted = 0
    for gradient in cost.gradients:
        names = (gradient.operand,) if isinstance(gradient.operand, str) else gradient.operand
        if set(names) & set(asked):
            wanted += gradient.elementwise
    return wanted


# Batch norm --------------------------------------------------------------------------------------


def undefined_but(asked: Sequence[str], *gradients: Tensor) -> tuple[Tensor | None, ...]:
    """What a backward operator returns: the gradients asked for."""
    pairs = zip(OPERANDS, gradients, strict=True)
    return tuple(gradient if name in asked else None for name, gradient in pairs)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """x[B, C, L] as [C, B L]."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


@pytest.mark.oracle
@settings(max_examples=15, deadline=None)
@given(batch=many, channels=sizes, length=sizes, training=st.booleans())
def test_batch_norm_in_loops(batch: int, channels: int, length: int, training: bool) -> None:
    shape = (batch, channels, length)
    x, g = tensor((channels, batch * length), 1), tensor((channels, batch * length), 2)
    weight, bias = tensor((channels,), 3), tensor((channels,), 4)
    mean, variance = tensor((channels,), 5), np.vectorize(abs)(tensor((channels,), 6))
    running = [real(mean), real(variance)]
    n, momentum = batch * length, 0.1

    reset()
    if training:
        y, own_mean, own_variance, rstd = normalize(x, column(weight), column(bias))
        mean = mean * (1 - momentum) + own_mean * momentum
        unbiased = own_variance * (n / (n - 1))
        variance = variance * (1 - momentum) + unbiased * momentum
    else:
        rstd = reciprocal_roots(variance + EPSILON)
        y = (x - column(mean)) * column(rstd) * column(weight) + column(bias)
    # 1 - momentum and n / (n - 1) are numbers of the call, not of the tensors
    forward = counted()

    arguments = {"num_features": channels, "training": training}
    assert elementwise_forward("BatchNorm1d", Tensor(shape), **arguments) == forward
    inputs = [real(array, grad=True) for array in (x, weight, bias)]
    image = inputs[0].reshape(channels, batch, length).transpose(0, 1)
    out = torch.nn.functional.batch_norm(
        image, running[0], running[1], inputs[1], inputs[2], training, momentum, EPSILON
    )
    close(channels_first(out), y)
    close(running[0], mean)
    close(running[1], variance)
    channels_first(out).backward(real(g))

    cost = LAYERS["BatchNorm1d"](Tensor(shape), **arguments).calls[-1].cost
    for asked in subsets(OPERANDS):
        reset()
        if training:
            found = batch_norm_backward(g, x, own_mean, rstd, weight, asked)
        else:
            found = batch_norm_eval_backward(g, x, mean, variance, weight, asked)
        count = counted()
        for name, operand in zip(OPERANDS, inputs, strict=True):
            if name in asked:
                close(operand.grad, found[name])
        mask = [name in asked for name in OPERANDS]
        statistics = [Tensor((channels,))] * 5
        fused = OPERATORS["aten.native_batch_norm_backward"](
            Tensor(shape),
            Tensor(shape),
            *statistics,
            training,
            EPSILON,
            mask,
            out=undefined_but(asked, Tensor(shape), Tensor((channels,)), Tensor((channels,))),
        )
        assert fused.elementwise == count == parts_of(cost, asked)


# Layer norm and group norm -----------------------------------------------------------------------


@pytest.mark.oracle
@settings(max_examples=15, deadline=None)
@given(rows=sizes, size=many, other=sizes)
def test_layer_norm_in_loops(rows: int, size: int, other: int) -> None:
    n = size * other
    x, g = tensor((rows, n), 1), tensor((rows, n), 2)
    weight, bias = tensor((n,), 3), tensor((n,), 4)
    reset()
    y, mean, _, rstd = normalize(x, weight, bias)
    shape = Tensor((rows, size, other))
    arguments = {"normalized_shape": (size, other)}
    assert elementwise_forward("LayerNorm", shape, **arguments) == counted()

    inputs = [real(array, grad=True) for array in (x, weight, bias)]
    out = torch.nn.functional.layer_norm(inputs[0], (n,), inputs[1], inputs[2], EPSILON)
    close(out, y)
    out.backward(real(g))
    cost = LAYERS["LayerNorm"](shape, **arguments).calls[0].cost
    parameter = np.tile(np.arange(n), (rows, 1))
    for asked in subsets(OPERANDS):
        reset()
        found = normalize_backward(g, x, mean, rstd, weight, parameter, asked)
        count = counted()
        for name, operand in zip(OPERANDS, inputs, strict=True):
            if name in asked:
                close(operand.grad, found[name])
        statistics, affine = [Tensor((rows, 1, 1))] * 2, [Tensor((size, other))] * 2
        fused = OPERATORS["aten.native_layer_norm_backward"](
            shape,
            shape,
            (size, other),
            *statistics,
            *affine,
            [name in asked for name in OPERANDS],
            out=undefined_but(asked, shape, *affine),
        )
        assert fused.elementwise == count == parts_of(cost, asked)


@pytest.mark.oracle
@settings(max_examples=15, deadline=None)
@given(batch=sizes, groups=sizes, width=sizes, length=many)
def test_group_norm_in_loops(batch: int, groups: int, width: int, length: int) -> None:
    channels = groups * width
    rows, n = batch * groups, width * length
    x, g = tensor((rows, n), 1), tensor((rows, n), 2)
    weight, bias = tensor((channels,), 3), tensor((channels,), 4)
    places = np.arange(channels).reshape(groups, width, 1)
    parameter = np.broadcast_to(places, (batch, groups, width, length)).reshape(rows, n)
    reset()
    y, mean, _, rstd = normalize(x, weight[parameter], bias[parameter])
    shape = Tensor((batch, channels, length))
    arguments = {"num_groups": groups, "num_channels": channels}
    assert elementwise_forward("GroupNorm", shape, **arguments) == counted()

    inputs = [real(array, grad=True) for array in (x, weight, bias)]
    image = inputs[0].reshape(batch, channels, length)
    out = torch.nn.functional.group_norm(image, groups, inputs[1], inputs[2], EPSILON)
    close(out.reshape(rows, n), y)
    out.backward(real(g).reshape(out.shape))
    cost = LAYERS["GroupNorm"](shape, **arguments).calls[0].cost
    for asked in subsets(OPERANDS):
        reset()
        found = normalize_backward(g, x, mean, rstd, weight[parameter], parameter, asked)
        count = counted()
        for name, operand in zip(OPERANDS, inputs, strict=True):
            if name in asked:
                close(operand.grad, found[name])
        statistics, mask = [Tensor((batch, groups))] * 2, [name in asked for name in OPERANDS]
        fused = OPERATORS["aten.native_group_norm_backward"](
            shape,
            shape,
            *statistics,
            Tensor((channels,)),
            batch,
            channels,
            length,
            groups,
            mask,
            out=undefined_but(asked, shape, Tensor((channels,)), Tensor((channels,))),
        )
        assert fused.elementwise == count == parts_of(cost, asked)


# RMS norm and weight norm ------------------------------------------------------------------------


@pytest.mark.oracle
@settings(max_examples=15, deadline=None)
@given(rows=sizes, n=sizes, affine=st.booleans())
def test_rms_norm_in_loops(rows: int, n: int, affine: bool) -> None:
    x, g, weight = tensor((rows, n), 1), tensor((rows, n), 2), tensor((n,), 3)
    reset()
    rstd = reciprocal_roots(totals(x * x) / n + EPSILON)
    y = x * column(rstd)
    y = y * weight if affine else y
    forward = counted()

    shape = Tensor((rows, n))
    layer = LAYERS["RMSNorm"](shape, normalized_shape=n, elementwise_affine=affine)
    assert sum(call.cost.elementwise for call in layer.calls) == forward
    own = Tensor((n,)) if affine else None
    cost = OPERATORS["aten._fused_rms_norm"](
        shape, [n], own, EPSILON, out=(shape, Tensor((rows, 1)))
    )
    assert cost.elementwise == forward
    # As torch 2.8 calls it.
    assert (
        OPERATORS["aten._fused_rms_norm"](shape, 1, own, EPSILON, out=shape).elementwise == forward
    )
    inputs = [real(array, grad=True) for array in (x, weight)]
    out = torch.nn.functional.rms_norm(inputs[0], (n,), inputs[1] if affine else None, EPSILON)
    close(out, y)
    out.backward(real(g))

    for asked in subsets(("input", "weight") if affine else ("input",)):
        reset()
        x_hat = x * column(rstd)
        if "weight" in asked:
            grad_weight = zeros((n,))
            for row, place in np.ndindex(rows, n):
                grad_weight[place] = grad_weight[place] + g[row, place] * x_hat[row, place]
        if "input" in asked:
            h = g * weight if affine else g
            b = totals(h * x_hat) / n
            grad_x = (h - x_hat * column(b)) * column(rstd)
        count = counted()
        if "weight" in asked:
            close(inputs[1].grad, grad_weight)
        if "input" in asked:
            close(inputs[0].grad, grad_x)
        mask = [name in asked for name in ("input", "weight")]
        fused = OPERATORS["aten._fused_rms_norm_backward"](
            shape, shape, (n,), Tensor((rows, 1)), own, mask, out=(shape, own)
        )
        assert fused.elementwise == count == parts_of(cost, asked)


@pytest.mark.oracle
@settings(max_examples=15, deadline=None)
@given(rows=sizes, n=sizes)
def test_weight_norm_in_loops(rows: int, n: int) -> None:
    v, scale, grad_w = tensor((rows, n), 1), tensor((rows,), 2), tensor((rows, n), 3)
    reset()
    norms = np.array([norm.sqrt() for norm in totals(v * v)], dtype=object)
    w = v * column(scale / norms)
    shape, own = Tensor((rows, n)), Tensor((rows, 1))
    cost = OPERATORS["aten._weight_norm_interface"](shape, own, out=(shape, own))
    assert cost.elementwise == counted()

    reset()
    t = totals(grad_w * v)
    grad_scale = t / norms
    grad_v = column(scale / norms) * (grad_w - v * column(t / (norms * norms)))
    backward = OPERATORS["aten._weight_norm_interface_backward"](
        shape, shape, own, own, 0, out=(shape, own)
    )
    assert backward.elementwise == counted()

    inputs = [real(v, grad=True), real(scale, grad=True)]
    out = torch._weight_norm(inputs[0], column(inputs[1]), 0)
    close(out, w)
    out.backward(real(grad_w))
    close(inputs[0].grad, grad_v)
    close(inputs[1].grad, grad_scale)


# Executed ----------------------------------------------------------------------------------------

nn = torch.nn

MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (3, 4), {"num_features": 4}),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), (2, 4, 3, 5), {"num_features": 4}),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(4), (2, 4, 3, 2, 2), {"num_features": 4}),
    "BatchNorm2d in evaluation": (
        lambda: nn.BatchNorm2d(4).eval(),
        (2, 4, 3, 5),
        {"num_features": 4, "training": False},
    ),
    "BatchNorm2d without affine": (
        lambda: nn.BatchNorm2d(4, affine=False),
        (2, 4, 3, 5),
        {"num_features": 4, "affine": False},
    ),
    "BatchNorm2d without running statistics": (
        lambda: nn.BatchNorm2d(4, track_running_stats=False).eval(),
        (2, 4, 3, 5),
        {"num_features": 4, "track_running_stats": False, "training": False},
    ),
    "LayerNorm": (lambda: nn.LayerNorm(5), (2, 3, 5), {"normalized_shape": 5}),
    "LayerNorm of two": (
        lambda: nn.LayerNorm((3, 5)),
        (2, 4, 3, 5),
        {"normalized_shape": (3, 5)},
    ),
    "LayerNorm without bias": (
        lambda: nn.LayerNorm(5, bias=False),
        (2, 5),
        {"normalized_shape": 5, "bias": False},
    ),
    "LayerNorm without affine": (
        lambda: nn.LayerNorm(5, elementwise_affine=False),
        (2, 5),
        {"normalized_shape": 5, "elementwise_affine": False},
    ),
    "GroupNorm": (
        lambda: nn.GroupNorm(2, 4),
        (2, 4, 3, 5),
        {"num_groups": 2, "num_channels": 4},
    ),
    "GroupNorm without affine": (
        lambda: nn.GroupNorm(2, 4, affine=False),
        (3, 4, 5),
        {"num_groups": 2, "num_channels": 4, "affine": False},
    ),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), (2, 4, 3, 5), {"num_features": 4}),
    "InstanceNorm1d with affine": (
        lambda: nn.InstanceNorm1d(4, affine=True),
        (2, 4, 5),
        {"num_features": 4, "affine": True},
    ),
    "InstanceNorm2d with running statistics": (
        lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        (2, 4, 3, 5),
        {"num_features": 4, "affine": True, "track_running_stats": True},
    ),
    "InstanceNorm2d in evaluation": (
        lambda: nn.InstanceNorm2d(4, track_running_stats=True).eval(),
        (2, 4, 3, 5),
        {"num_features": 4, "track_running_stats": True, "training": False},
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_layers_are_what_torch_executes(name: str) -> None:
    make, shape, arguments = MODULES[name]
    layer = name.split()[0]
    module = make()
    agrees_with_torch(LAYERS[layer], module, torch.randn(shape), **arguments)
    buffers = LAYERS[layer](Tensor(shape), **arguments).buffers
    assert {key: (b.shape, b.nbytes) for key, b in buffers.items()} == {
        key: (tuple(b.shape), b.nbytes) for key, b in module.named_buffers()
    }


@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm_is_what_torch_executes(affine: bool) -> None:
    """A chain of operators, the input of which is used twice: autograd adds two gradients."""
    module = nn.RMSNorm(5, elementwise_affine=affine)
    for needed in subsets(("x", "weight") if affine else ("x",)):
        x = torch.randn(2, 3, 5, requires_grad="x" in needed)
        if affine:
            module.weight.requires_grad_("weight" in needed)
        operand = Tensor((2, 3, 5))
        layer = LAYERS["RMSNorm"](operand, normalized_shape=5, elementwise_affine=affine)
        tensors = {"x": operand, **layer.parameters}
        expected = analytic(layer, *(tensors[name] for name in needed))
        if "x" in needed:
            expected.backward.append(Work("aten.add", 0, 30))
        assert executed(module, x, parameters=module.parameters()) == expected


def test_other_operators_of_batch_norm_are_what_autograd_runs() -> None:
    aten = torch.ops.aten
    x, weight, bias = torch.randn(2, 4, 3), torch.rand(4), torch.rand(4)
    numbers = (0.1, EPSILON)
    runs: list[Callable[..., Any]] = [
        lambda x, w, b: aten._native_batch_norm_legit.no_stats(x, w, b, True, *numbers)[0],
        lambda x, w, b: aten._native_batch_norm_legit(x, w, b, M, V, True, *numbers)[0],
        lambda x, w, b: aten._native_batch_norm_legit(x, w, b, M, V, False, *numbers)[0],
        lambda x, w, b: aten._batch_norm_with_update(x, w, b, M, V, *numbers)[0],
    ]
    for run in runs:
        agrees_with_autograd(run, x, weight, bias)


M, V = torch.zeros(4), torch.ones(4)


def test_positional_and_named_arguments_of_the_overloads() -> None:
    x, w, s = Tensor((2, 4, 3)), Tensor((4,)), Tensor((4,))
    legit = OPERATORS["aten._native_batch_norm_legit"]
    out = (x, s, s)
    without = legit(x, w, w, True, 0.1, EPSILON, out=out)
    assert without == legit(x, w, w, training=True, momentum=0.1, eps=EPSILON, out=out)
    kept = legit(x, w, w, s, s, True, 0.1, EPSILON, out=out)
    assert kept.elementwise == without.elementwise + 7 * 4
    evaluated = OPERATORS["aten._native_batch_norm_legit_no_training"](
        x, w, w, s, s, 0.1, EPSILON, out=out
    )
    assert evaluated == legit(x, w, w, s, s, False, 0.1, EPSILON, out=out)


def test_vendor_libraries_do_the_same_work() -> None:
    x, w, s = Tensor((2, 4, 3)), Tensor((4,)), Tensor((4,))
    arguments = (x, w, w, s, s, True, 0.1, EPSILON)
    workspace = Tensor((7,), itemsize=1)
    cudnn = OPERATORS["aten.cudnn_batch_norm"](*arguments, out=(x, s, s, workspace))
    native = OPERATORS["aten.native_batch_norm"](*arguments, out=(x, s, s))
    assert cudnn.elementwise == native.elementwise
    assert workspace in cudnn.gradients[0].saves
    backward = OPERATORS["aten.cudnn_batch_norm_backward"](
        x, x, w, s, s, s, s, EPSILON, workspace, out=(x, w, w)
    )
    assert backward.elementwise == sum(g.elementwise for g in native.gradients)
    with_update = OPERATORS["aten._batch_norm_with_update"](
        x, w, w, s, s, 0.1, EPSILON, out=(x, s, s, workspace)
    )
    assert with_update.elementwise == native.elementwise
    no_update = OPERATORS["aten._batch_norm_no_update"](
        x, w, w, s, s, 0.1, EPSILON, out=(x, s, s, workspace)
    )
    assert no_update.elementwise == 4 * 24 + 2 * 4
    mask = [True, True, True]
    fused = OPERATORS["aten.batch_norm_backward"](
        x, x, w, s, s, s, s, True, EPSILON, mask, workspace, out=(x, w, w)
    )
    assert fused.elementwise == backward.elementwise


def test_weight_norm_is_what_torch_executes() -> None:
    v, g = torch.randn(3, 4, requires_grad=True), torch.rand(3, 1, requires_grad=True)
    step = executed(lambda *xs: torch.ops.aten._weight_norm_interface(*xs)[0], v, g)
    norms = Tensor((3, 1))
    cost = OPERATORS["aten._weight_norm_interface"](
        Tensor((3, 4)), Tensor((3, 1)), out=(Tensor((3, 4)), norms)
    )
    backward = sum(gradient.elementwise for gradient in cost.gradients)
    assert step.backward == [Work("aten._weight_norm_interface_backward", 0, backward)]
    assert step.saved_bytes == sum(tensor.nbytes for tensor in cost.gradients[0].saves)


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        ("BatchNorm2d", {"num_features": "c"}),
        ("InstanceNorm2d", {"num_features": "c", "affine": True, "track_running_stats": True}),
        ("GroupNorm", {"num_groups": 2, "num_channels": "c"}),
        ("LayerNorm", {"normalized_shape": "w"}),
        ("RMSNorm", {"normalized_shape": "w"}),
    ],
)
def test_arrays_and_symbols(layer: str, arguments: dict[str, Any]) -> None:
    def figures(b: Any, c: Any, w: Any) -> dict[str, Any]:
        x = Tensor((b, c, 3, w))
        named = {"c": c, "w": w}
        cost = LAYERS[layer](x, **{key: named.get(v, v) for key, v in arguments.items()})
        return analytic(cost, x, *cost.parameters.values()).figures

    agrees_on_arrays_and_symbols(figures, {"b": 2, "c": 4, "w": 3}, {"b": 5, "c": 2, "w": 7})
