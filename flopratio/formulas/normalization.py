"""Normalizations: batch, instance, layer, group and RMS norm; weight norm.

Each takes groups of elements to mean 0 and variance 1 (RMS norm: to mean square 1), then scales and
shifts them. In the formulas N is the number of elements, G the number of groups that share one mean
and variance, n = N / G, and g the gradient of the output. Every line is computed once, for all
elements, and kept; no lines are folded into one. What two gradients share (the normalized input) is
done once, for either; the ledger puts it under the gradient of the input, if that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    OperatorFormula,
    Part,
    Size,
    Tensor,
    asked_for,
    layer,
    operator,
    prod,
    restricted,
)
from flopratio.version import torch_release

STATISTICS_BYTES = 4
"""Mean and 1 / standard deviation are kept in fp32."""


def affine_flops(elements: Size, weight: Tensor | None, bias: Tensor | None) -> Size:
    """y = x_hat * weight + bias: a multiplication and an addition an element, if they are there."""
    return elements * ((weight is not None) + (bias is not None))


def standardization_flops(elements: Size, groups: Size) -> Size:
    """x_hat = (x - mean) / sqrt(var + eps) within each group.

    1. mean = sum(x) / n: N additions, G divisions.
    2. d = x - mean: N subtractions.
    3. var = sum(d d) / n: N multiplications, N additions, G divisions.
    4. rstd = 1 / sqrt(var + eps): G additions, G reciprocal roots.
    5. x_hat = d * rstd: N multiplications.
    6. Together 5 N + 4 G.
    """
    return 5 * elements + 4 * groups


def gradients_of(op: str, parts: Sequence[Part], *saves: Tensor | None) -> tuple[Gradient, ...]:
    """What forward says of a fused backward operator: its parts, each of which keeps all that the
    operator wants (torch's node saves everything if any gradient is asked for)."""
    kept = tuple(tensor for tensor in saves if tensor is not None)
    return tuple(Gradient(part.operand, op, part.flops, part.elementwise, kept) for part in parts)


def present(parts: Sequence[Part], **affine: Tensor | None) -> tuple[Part, ...]:
    """The parts without what the layer does not have (a layer norm without a bias)."""
    there = {name for name, tensor in affine.items() if tensor is not None}
    return restricted(parts, {"input", *there})


def masked(parts: Sequence[Part], output_mask: Sequence[bool]) -> Cost:
    """The cost of what a mask asks for, of input, weight and (an RMS norm has none) bias."""
    operands = ("input", "weight", "bias")[: len(output_mask)]
    return Cost.fused(*asked_for(parts, operands, output_mask))


# Batch norm: one group a channel -----------------------------------------------------------------


def batch_norm_backward_parts(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
) -> tuple[Part, ...]:
    """The gradients of batch norm over G channels (Ioffe and Szegedy 2015, section 3, gathered).

    In training, where mean and variance depend on x:

    1. x_hat = (x - mean) * rstd: 2 N, for input and weight.
    2. s = sum(g): N, the gradient of the bias, and for the input.
    3. t = sum(g x_hat): 2 N, the gradient of the weight, and for the input.
    4. grad_input = (weight * rstd) * (g - s / n - x_hat * (t / n)): 4 N, and 2 G for the divisions,
       G for weight * rstd.

    In evaluation mean and variance are constants:

    1. rstd = 1 / sqrt(running_var + eps): 2 G, for input and weight.
    2. grad_input = (weight * rstd) * g: N, and G for weight * rstd.
    3. grad_weight = sum(g * (x - mean) * rstd): 4 N. 4. grad_bias = sum(g): N.
    """
    n, groups = input.numel, input.shape[1]
    factor = 0 if weight is None else groups
    parts: tuple[Part, ...]
    if training:
        parts = (
            Part(("input", "weight"), elementwise=4 * n),
            Part(("input", "bias"), elementwise=n),
            Part("input", elementwise=4 * n + 2 * groups + factor),
        )
    else:
        parts = (
            Part(("input", "weight"), elementwise=2 * groups),
            Part("input", elementwise=n + factor),
            Part("weight", elementwise=4 * n),
            Part("bias", elementwise=n),
        )
    return present(parts, weight=weight, bias=bias)


def batch_norm_cost(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor | None, Tensor | None],
    training: bool,
    backward: str,
    statistics: tuple[Tensor, ...],
) -> Cost:
    """Batch norm of x[B, C, *], over all but the channels C.

    In training, ``standardization_flops`` and, if running statistics are kept with momentum m:

    - running_mean = (1 - m) * running_mean + m * mean: 3 G;
    - running_var = (1 - m) * running_var + m * (var * n / (n - 1)): 4 G.

    In evaluation, rstd = 1 / sqrt(running_var + eps), 2 G, and x_hat = (x - running_mean) * rstd,
    2 N.
    """
    n, groups = input.numel, input.shape[1]
    if training:
        work = standardization_flops(n, groups) + (0 if running[0] is None else 7 * groups)
    else:
        work = 2 * n + 2 * groups
    parts = batch_norm_backward_parts(input, weight, bias, training)
    return Cost(
        elementwise=work + affine_flops(n, weight, bias),
        gradients=gradients_of(backward, parts, input, weight, *running, *statistics),
    )


@operator("aten.native_batch_norm", "aten._native_batch_norm_legit_functional")
def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """out = (y, mean, rstd); both statistics are empty in evaluation."""
    running = (running_mean, running_var)
    backward = "aten.native_batch_norm_backward"
    return batch_norm_cost(input, weight, bias, running, training, backward, out[1:3])


@operator("aten._native_batch_norm_legit")
def native_batch_norm_legit(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *arguments: Any,
    out: tuple[Tensor, ...],
    **named: Any,
) -> Cost:
    """``native_batch_norm``; the overload ``no_stats`` has no running statistics."""
    names = ("running_mean", "running_var", "training", "momentum", "eps")
    without_statistics = len(arguments) + len(named) == 3
    given = zip(names[2:] if without_statistics else names, arguments, strict=False)
    named = {**dict(given), **named}
    running = (named.get("running_mean"), named.get("running_var"))
    backward = "aten.native_batch_norm_backward"
    return batch_norm_cost(input, weight, bias, running, named["training"], backward, out[1:])


@operator("aten._native_batch_norm_legit_no_training")
def native_batch_norm_legit_no_training(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """``native_batch_norm`` in evaluation."""
    running = (running_mean, running_var)
    backward = "aten.native_batch_norm_backward"
    return batch_norm_cost(input, weight, bias, running, False, backward, out[1:])


@operator("aten._batch_norm_with_update")
def batch_norm_with_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """``native_batch_norm`` in training; out = (y, mean, rstd, workspace)."""
    running = (running_mean, running_var)
    return batch_norm_cost(input, weight, bias, running, True, "aten.batch_norm_backward", out[1:])


@operator("aten._batch_norm_no_update")
def batch_norm_no_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """``native_batch_norm`` in evaluation; out = (y, mean, rstd, workspace)."""
    running = (running_mean, running_var)
    return batch_norm_cost(input, weight, bias, running, False, "aten.batch_norm_backward", out[1:])


@operator("aten._batch_norm_with_update_functional")
def batch_norm_with_update_functional(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *running: Any, out: tuple[Any, ...]
) -> Cost:
    """The same, with the new running statistics as results."""
    backward = "aten.batch_norm_backward"
    return batch_norm_cost(input, weight, bias, running[:2], True, backward, out[1:4])


# Batch norm over several devices (``SyncBatchNorm``), whose steps are operators of their own.


@operator("aten.batch_norm_stats")
def batch_norm_stats(input: Tensor, eps: float, *, out: tuple[Tensor, Tensor]) -> Cost:
    """Steps 1 to 4 of :func:`standardization_flops`, 4 N + 4 G."""
    return Cost(elementwise=4 * input.numel + 4 * input.shape[1])


@operator("aten.batch_norm_update_stats")
def batch_norm_update_stats(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """Mean and variance, 4 N + 2 G; the running ones, 3 G and 4 G."""
    groups = input.shape[1]
    running = 3 * (running_mean is not None) + 4 * (running_var is not None)
    return Cost(elementwise=4 * input.numel + (2 + running) * groups)


@operator("aten.batch_norm_gather_stats", "aten.batch_norm_gather_stats_with_counts")
def batch_norm_gather_stats(
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *settings: Any,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """Mean and variance of all devices from those of each, mean[D, G] and invstd[D, G].

    1. Of each device: its variance, 1 / invstd^2 - eps, 3; the distance of its mean from that so
       far, 1; the sum of squares, var n + distance^2 n (share of the elements), 5; the mean, 4.
    2. Of each channel: var / n, + eps, root, 4; running statistics 3 and 4.
    """
    groups = mean.shape[-1]
    running = 3 * (running_mean is not None) + 4 * (running_var is not None)
    return Cost(elementwise=13 * mean.numel + (4 + running) * groups)


@operator("aten.batch_norm_elemt")
def batch_norm_elements(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    eps: float,
    *,
    out: Tensor,
) -> Cost:
    """y = (x - mean) * rstd * weight + bias."""
    n = input.numel
    return Cost(elementwise=2 * n + affine_flops(n, weight, bias))


@operator("aten.batch_norm_backward_reduce")
def batch_norm_backward_reduce(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    input_g: bool,
    weight_g: bool,
    bias_g: bool,
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """sum(g), N, and sum(g (x - mean)), 3 N; the weight's gradient is that times rstd, G."""
    return Cost(elementwise=4 * input.numel + weight_g * input.shape[1])


@operator("aten.batch_norm_backward_elemt")
def batch_norm_backward_elements(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    count: Tensor,
    *,
    out: Tensor,
) -> Cost:
    """grad_input = (weight rstd) (g - s / n - (x - mean) (rstd^2 t / n)): 5 N; s / n, t / n,
    rstd^2 and their product, 4 G; weight * rstd, G."""
    groups = input.shape[1]
    return Cost(elementwise=5 * input.numel + (4 + (weight is not None)) * groups)


def vendor_batch_norm(backward_in_training: str) -> OperatorFormula:
    """``native_batch_norm`` by a vendor's library; out = (y, mean, rstd, workspace if any)."""

    def formula(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        exponential_average_factor: float,
        epsilon: float,
        *,
        out: tuple[Tensor, ...],
    ) -> Cost:
        running = (running_mean, running_var)
        backward = backward_in_training if training else "aten.native_batch_norm_backward"
        return batch_norm_cost(input, weight, bias, running, training, backward, out[1:])

    return formula


for _vendor in ("cudnn", "miopen"):
    _name = f"aten.{_vendor}_batch_norm"
    operator(_name)(vendor_batch_norm(f"{_name}_backward"))


@operator("aten.native_batch_norm_backward")
def native_batch_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    train: bool,
    eps: float,
    output_mask: Sequence[bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    parts = batch_norm_backward_parts(input, weight, weight, train)
    return masked(parts, output_mask)


@operator("aten.batch_norm_backward")
def batch_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_var: Tensor | None,
    update: bool,
    eps: float,
    output_mask: Sequence[bool],
    reserve: Tensor,
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    parts = batch_norm_backward_parts(input, weight, weight, update)
    return masked(parts, output_mask)


@operator("aten.cudnn_batch_norm_backward", "aten.miopen_batch_norm_backward")
def cudnn_batch_norm_backward(
    input: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    *arguments: Any,
    out: tuple[Tensor | None, ...],
    **named: Any,
) -> Cost:
    """All three gradients, asked for or not."""
    return Cost.fused(*batch_norm_backward_parts(input, weight, weight, True))


# Layer and group norm: one group a row, one a sample and group of channels -----------------------


def layer_norm_backward_parts(
    elements: Size, groups: Size, weight: Tensor | None, bias: Tensor | None
) -> tuple[Part, ...]:
    """The gradients of a norm whose weight varies within a group (layer and group norm).

    1. x_hat = (x - mean) * rstd: 2 N, for input and weight.
    2. grad_weight = sum(g x_hat): 2 N. 3. grad_bias = sum(g): N.
    4. h = g * weight, the gradient of x_hat: N.
    5. a = sum(h) / n: N additions, G divisions. 6. b = sum(h x_hat) / n: 2 N, and G divisions.
    7. grad_input = rstd * (h - a - x_hat * b): 4 N.
    """
    scaled = 0 if weight is None else elements
    parts = (
        Part(("input", "weight"), elementwise=2 * elements),
        Part("input", elementwise=7 * elements + 2 * groups + scaled),
        Part("weight", elementwise=2 * elements),
        Part("bias", elementwise=elements),
    )
    return present(parts, weight=weight, bias=bias)


@operator("aten.native_layer_norm")
def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[Size],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """Over the last dimensions, those of ``normalized_shape`` (Ba, Kiros and Hinton 2016); out =
    (y, mean, rstd). Torch keeps the bias too, of which it needs the shape."""
    _, mean, rstd = out
    parts = layer_norm_backward_parts(input.numel, mean.numel, weight, bias)
    return Cost(
        elementwise=standardization_flops(input.numel, mean.numel)
        + affine_flops(input.numel, weight, bias),
        gradients=gradients_of(
            "aten.native_layer_norm_backward", parts, input, weight, bias, mean, rstd
        ),
    )


@operator("aten.native_layer_norm_backward")
def native_layer_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Sequence[Size],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    output_mask: Sequence[bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    parts = layer_norm_backward_parts(input.numel, mean.numel, weight, bias)
    return masked(parts, output_mask)


@operator("aten.native_group_norm")
def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *arguments: Any,
    out: tuple[Tensor, Tensor, Tensor],
    **named: Any,
) -> Cost:
    """Over a group of channels and all positions of a sample (Wu and He 2018); out = (y, mean,
    rstd)."""
    _, mean, rstd = out
    parts = layer_norm_backward_parts(input.numel, mean.numel, weight, bias)
    return Cost(
        elementwise=standardization_flops(input.numel, mean.numel)
        + affine_flops(input.numel, weight, bias),
        gradients=gradients_of("aten.native_group_norm_backward", parts, input, weight, mean, rstd),
    )


@operator("aten.native_group_norm_backward")
def native_group_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    N: Size,
    C: Size,
    HxW: Size,
    group: Size,
    output_mask: Sequence[bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    parts = layer_norm_backward_parts(input.numel, mean.numel, weight, weight)
    return masked(parts, output_mask)


# RMS norm ----------------------------------------------------------------------------------------


def rms_norm_backward_parts(
    elements: Size, groups: Size, weight: Tensor | None
) -> tuple[Part, ...]:
    """The gradients of RMS norm.

    1. x_hat = x * rstd: N, for input and weight.
    2. grad_weight = sum(g x_hat): 2 N.
    3. h = g * weight: N.
    4. b = sum(h x_hat) / n: 2 N, and G divisions.
    5. grad_input = rstd * (h - x_hat * b): 3 N.
    """
    scaled = 0 if weight is None else elements
    parts = (
        Part(("input", "weight"), elementwise=elements),
        Part("input", elementwise=5 * elements + groups + scaled),
        Part("weight", elementwise=2 * elements),
    )
    return present(parts, weight=weight)


@operator("aten._fused_rms_norm")
def fused_rms_norm(
    input: Tensor,
    normalized_shape: Any,
    /,
    weight: Tensor | None,
    eps: float | None,
    *,
    out: tuple[Tensor, Tensor] | Tensor,
) -> Cost:
    """y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019); out = (y, rstd).

    1. q = sum(x x) / n: 2 N, and G divisions.
    2. rstd = 1 / sqrt(q + eps): 2 G.
    3. x_hat = x * rstd: N. 4. y = x_hat * weight: N.

    (In torch 2.8 MPS alone has it, for inference: it is told how many dimensions are normalized,
    and out = y.)
    """
    n = input.numel
    if isinstance(out, Tensor):
        groups = prod(input.shape[: len(input.shape) - normalized_shape])
        return Cost(elementwise=3 * n + 3 * groups + affine_flops(n, weight, None))
    rstd = out[1]
    parts = rms_norm_backward_parts(n, rstd.numel, weight)
    return Cost(
        elementwise=3 * n + 3 * rstd.numel + affine_flops(n, weight, None),
        gradients=gradients_of("aten._fused_rms_norm_backward", parts, input, weight, rstd),
    )


@operator("aten._fused_rms_norm_backward")
def fused_rms_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Sequence[Size],
    rstd: Tensor,
    weight: Tensor | None,
    output_mask: Sequence[bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    parts = rms_norm_backward_parts(input.numel, rstd.numel, weight)
    return masked(parts, output_mask)


# Weight norm -------------------------------------------------------------------------------------


@operator("aten._weight_norm_interface")
def weight_norm(v: Tensor, g: Tensor, dim: int = 0, *, out: tuple[Tensor, Tensor]) -> Cost:
    """w = v * (g / norm(v)), a norm for each of the G entries of g (Salimans and Kingma 2016).

    out = (w, norms).

    1. norms = sqrt(sum(v v)): 2 N + G. 2. g / norms: G. 3. w: N.
    """
    gradient = weight_norm_backward(out[0], v, g, out[1], dim, out=(v, g))
    return Cost(
        elementwise=3 * v.numel + 2 * g.numel,
        gradients=gradients_of(
            "aten._weight_norm_interface_backward", gradient.parts, v, g, out[1]
        ),
    )


@operator("aten._weight_norm_interface_backward")
def weight_norm_backward(
    grad_w: Tensor,
    saved_v: Tensor,
    saved_g: Tensor,
    saved_norms: Tensor,
    dim: int,
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """Both gradients, asked for or not.

    1. t = sum(grad_w v): 2 N, for both. 2. grad_g = t / norms: G.
    3. grad_v = (g / norms) * (grad_w - v * (t / (norms norms))): 3 N and 3 G.
    """
    n, groups = saved_v.numel, saved_g.numel
    return Cost.fused(
        Part(("v", "g"), elementwise=2 * n),
        Part("v", elementwise=3 * n + 3 * groups),
        Part("g", elementwise=groups),
    )


# The layers --------------------------------------------------------------------------------------


def affine_parameters(x: Tensor, affine: bool, bias: bool, *shape: Size) -> dict[str, Tensor]:
    """The scale, and the shift if there is one."""
    names = ("weight", "bias")[: affine * (1 + bias)]
    return {name: Tensor(shape, x.itemsize) for name in names}


def batch_norm_call(
    x: Tensor,
    affine: dict[str, Tensor],
    running: tuple[Tensor | None, Tensor | None],
    training: bool,
    y: Tensor,
) -> Call:
    """One ``native_batch_norm``; the statistics that it returns are empty in evaluation."""
    kept = x.shape[1] if training else 0
    statistics = (Tensor((kept,), STATISTICS_BYTES), Tensor((kept,), STATISTICS_BYTES))
    operands = {
        "input": x,
        "weight": affine.get("weight"),
        "bias": affine.get("bias"),
        "running_mean": running[0],
        "running_var": running[1],
        "training": training,
        "momentum": 0.1,
        "eps": 1e-5,
    }
    return Call("aten.native_batch_norm", operands, (y, *statistics))


@layer("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
def batch_norm(
    x: Tensor,
    *,
    num_features: Size,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
    bias: bool = True,
    training: bool = True,
) -> LayerCost:
    """y[B, C, *] = (x - mean) / sqrt(var + eps) * weight[C] + bias[C], in training also one step
    counted (an integer addition) if running statistics are kept."""
    parameters = affine_parameters(x, affine, bias, num_features)
    buffers: dict[str, Tensor] = {}
    calls = []
    if track_running_stats:
        buffers = {
            "running_mean": Tensor((num_features,), x.itemsize),
            "running_var": Tensor((num_features,), x.itemsize),
            "num_batches_tracked": Tensor((), itemsize=8),
        }
        if training:
            steps = buffers["num_batches_tracked"]
            calls.append(Call("aten.add_", {"self": steps, "other": 1}, steps))
    y = x.new(*x.shape)
    running = (buffers.get("running_mean"), buffers.get("running_var"))
    from_batch = training or not track_running_stats
    calls.append(batch_norm_call(x, parameters, running, from_batch, y))
    return LayerCost(y, tuple(calls), parameters, buffers)


@layer("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
def instance_norm(
    x: Tensor,
    *,
    num_features: Size,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = False,
    track_running_stats: bool = False,
    bias: bool = True,
    training: bool = True,
) -> LayerCost:
    """Each channel of each sample by itself (Ulyanov, Vedaldi and Lempitsky 2016): batch norm of
    the batch seen as B * C channels of one sample, with everything of length C repeated B times;
    in training the B copies of the running statistics are averaged again afterwards (in torch 2.8
    in evaluation too)."""
    batch, *positions = x.shape[0], *x.shape[2:]
    channels = batch * num_features
    parameters = affine_parameters(x, affine, bias, num_features)
    names = ("running_mean", "running_var") if track_running_stats else ()
    buffers = {name: Tensor((num_features,), x.itemsize) for name in names}
    repeated = {name: Tensor((channels,), x.itemsize) for name in (*parameters, *buffers)}
    calls = [
        Call("aten.repeat", {"self": tensor, "repeats": (batch,)}, repeated[name])
        for name, tensor in (*parameters.items(), *buffers.items())
    ]
    y = x.new(*x.shape)
    running = (repeated.get("running_mean"), repeated.get("running_var"))
    from_batch = training or not track_running_stats
    seen = (1, channels, *positions)
    calls.append(batch_norm_call(x.view(*seen), repeated, running, from_batch, y.view(*seen)))
    for name in buffers if training or torch_release() < (2, 11) else ():
        copies = repeated[name].view(batch, num_features)
        mean = Tensor((num_features,), x.itemsize)
        calls.append(Call("aten.mean", {"self": copies, "dim": (0,)}, mean))
    if track_running_stats:
        buffers["num_batches_tracked"] = Tensor((), itemsize=8)
    return LayerCost(y, tuple(calls), parameters, buffers)


def last_dimensions(x: Tensor, normalized_shape: Any) -> tuple[tuple[Size, ...], tuple[Size, ...]]:
    """The sizes of x before the normalized ones, and these; one number is the last size."""
    several = isinstance(normalized_shape, Sequence)
    within = tuple(normalized_shape) if several else (normalized_shape,)
    return x.shape[: len(x.shape) - len(within)], within


@layer("LayerNorm")
def layer_norm(
    x: Tensor,
    *,
    normalized_shape: Any,
    eps: float = 1e-5,
    elementwise_affine: bool = True,
    bias: bool = True,
) -> LayerCost:
    """y[*B, D] = (x - mean) / sqrt(var + eps) * weight[D] + bias[D], over D, which may be several
    dimensions. (The CPU keeps the statistics in the type of x.)"""
    rows, within = last_dimensions(x, normalized_shape)
    parameters = affine_parameters(x, elementwise_affine, bias, *within)
    y = x.new(*x.shape)
    statistics = (*rows, *((1,) * len(within)))
    operands = {
        "input": x,
        "normalized_shape": within,
        "weight": parameters.get("weight"),
        "bias": parameters.get("bias"),
        "eps": eps,
    }
    kept = (x.new(*statistics), x.new(*statistics))
    return LayerCost(y, (Call("aten.native_layer_norm", operands, (y, *kept)),), parameters)


@layer("GroupNorm")
def group_norm(
    x: Tensor,
    *,
    num_groups: Size,
    num_channels: Size,
    eps: float = 1e-5,
    affine: bool = True,
    bias: bool = True,
) -> LayerCost:
    """y[B, C, *] = (x - mean) / sqrt(var + eps) * weight[C] + bias[C], over each sample's groups of
    C / num_groups channels."""
    parameters = affine_parameters(x, affine, bias, num_channels)
    y = x.new(*x.shape)
    operands = {
        "input": x,
        "weight": parameters.get("weight"),
        "bias": parameters.get("bias"),
        "N": x.shape[0],
        "C": num_channels,
        "HxW": prod(x.shape[2:]),
        "group": num_groups,
        "eps": eps,
    }
    statistics = (x.shape[0], num_groups)
    kept = (Tensor(statistics, STATISTICS_BYTES), Tensor(statistics, STATISTICS_BYTES))
    return LayerCost(y, (Call("aten.native_group_norm", operands, (y, *kept)),), parameters)


@layer("RMSNorm")
def rms_norm(
    x: Tensor,
    *,
    normalized_shape: Any,
    eps: float | None = None,
    elementwise_affine: bool = True,
) -> LayerCost:
    """y[*B, D] = x / sqrt(mean(x^2) + eps) * weight[D], over D.

    On the CPU torch runs it as a chain of ``pow, mean, add_, rsqrt, mul, mul``; only CUDA has the
    fused operator. The chain's forward is ``fused_rms_norm`` FLOP for FLOP; its backward is longer.
    x is used twice (by ``pow`` and by ``mul``), so autograd adds two gradients of it. What has less
    than 32 bits is made fp32 before, and made what it was after.
    """
    rows, within = last_dimensions(x, normalized_shape)
    parameters = affine_parameters(x, elementwise_affine, False, *within)
    calls = []
    given, widened = x, x.itemsize < 4
    if widened:
        x = x.new(*x.shape, itemsize=4)
        calls.append(Call("aten._to_copy", {"self": given}, x))
    squares, x_hat = x.new(*x.shape), x.new(*x.shape)
    row = (*rows, *((1,) * len(within)))
    means, rstd = x.new(*row), x.new(*row)
    shifted = means.view(*row)
    dims = tuple(range(len(rows), len(x.shape)))
    calls += [
        Call("aten.pow", {"self": x, "exponent": 2}, squares),
        Call("aten.mean", {"self": squares, "dim": dims, "keepdim": True}, means),
        Call("aten.add_", {"self": means, "other": eps}, shifted),
        Call("aten.rsqrt", {"self": shifted}, rstd),
        Call("aten.mul", {"self": x, "other": rstd}, x_hat),
    ]
    y = x_hat
    if elementwise_affine:
        y = x.new(*x.shape)
        calls.append(Call("aten.mul", {"self": x_hat, "other": parameters["weight"]}, y))
    if widened:
        wide, y = y, given.new(*x.shape)
        calls.append(Call("aten._to_copy", {"self": wide}, y))
    return LayerCost(y, tuple(calls), parameters)


EXAMPLES += [
    Example(
        "BatchNorm2d",
        {"x": Tensor((2, 3, 4, 4)), "num_features": 3},
        {"flops": 0, "elementwise": 706, "parameters": 6},
        "96 elements: + - * + * for x_hat, * and + affine, 7 * 96 = 672; 3 channels: 4 for the"
        " statistics and 7 for the running ones, 33; 1 step counted",
    ),
    Example(
        "BatchNorm2d",
        {"x": Tensor((2, 3, 4, 4)), "num_features": 3, "training": False},
        {"elementwise": 390},
        "96 elements: - * * +, 384; 3 channels: + eps and the root, 6",
    ),
    Example(
        "LayerNorm",
        {"x": Tensor((2, 3, 10)), "normalized_shape": 10},
        {"elementwise": 444, "parameters": 20},
        "7 * 60 elements = 420; 6 rows, 4 each for the statistics: 24",
    ),
    Example(
        "GroupNorm",
        {"x": Tensor((2, 6, 5)), "num_groups": 3, "num_channels": 6},
        {"elementwise": 444, "parameters": 12},
        "7 * 60 elements = 420; 2 * 3 groups, 4 each: 24",
    ),
    Example(
        "RMSNorm",
        {"x": Tensor((2, 3, 10)), "normalized_shape": 10},
        {"elementwise": 258, "parameters": 10},
        "x^2, its sum, x rstd, times weight: 4 * 60; / n, + eps, root: 3 * 6 rows; 258",
    ),
    Example(
        "InstanceNorm2d",
        {"x": Tensor((2, 3, 4, 4)), "num_features": 3},
        {"elementwise": 504, "parameters": 0},
        "5 * 96 elements = 480; 2 * 3 groups, 4 each: 24",
    ),
]
