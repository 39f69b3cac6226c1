"""Activation functions: all elementwise but for the softmaxes, which work along one dimension.

In the derivations x is the input, y the output, grad_x and grad_y their gradients. A selection
between two values by a comparison is 1 FLOP. What a gradient keeps is x or y: y where the
derivative can be told from it.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    Part,
    Size,
    Tensor,
    layer,
    operator,
    prod,
    same_shape,
)


def in_place(self: Tensor, out: Tensor) -> bool:
    return out.storage is self.storage


def activation_cost(elementwise: Size, backward: str, gradient: Cost, *saves: Tensor) -> Cost:
    """The cost of an activation: its own, and that of its backward operator."""
    return Cost(
        elementwise=elementwise,
        gradients=(Gradient("self", backward, elementwise=gradient.elementwise, saves=saves),),
    )


def kept_input(self: Tensor, out: Tensor) -> Tensor:
    """The input that a gradient needs: a copy of it, where the operator overwrites it."""
    return self.copy() if in_place(self, out) else self


@operator("aten.relu", "aten.relu_")
def relu(self: Tensor, *, out: Tensor) -> Cost:
    """y = x if x > 0 else 0: a selection, 1 an element."""
    gradient = threshold_backward(out, out, 0, out=self)
    return activation_cost(out.numel, "aten.threshold_backward", gradient, out)


def again(grad_output: Tensor, **kept: Tensor) -> tuple[Gradient, ...]:
    """What a backward operator keeps if it is differentiated itself (in forward mode, or by a
    user): for the gradient of grad_output the other operand, for that of the other both."""
    ((name, other),) = kept.items()
    return (
        Gradient("grad_output", "", saves=(other,)),
        Gradient(name, "", saves=(grad_output, other)),
    )


@operator("aten.threshold_backward")
def threshold_backward(grad_output: Tensor, self: Tensor, threshold: float, *, out: Tensor) -> Cost:
    """grad_x = grad_y if x > threshold else 0: a selection, 1 an element."""
    return Cost(elementwise=out.numel)


@operator("aten.threshold", "aten.threshold_")
def threshold(self: Tensor, threshold: float, value: float, *, out: Tensor) -> Cost:
    """y = x if x > threshold else value: a selection, 1 an element."""
    kept = kept_input(self, out)
    gradient = threshold_backward(out, kept, threshold, out=self)
    return activation_cost(out.numel, "aten.threshold_backward", gradient, kept)


@operator("aten.hardshrink")
def hardshrink(self: Tensor, lambd: float = 0.5, *, out: Tensor) -> Cost:
    """y = 0 if -lambd <= x <= lambd else x: 2 comparisons an element."""
    gradient = hardshrink_backward(out, self, lambd, out=self)
    return activation_cost(2 * out.numel, "aten.hardshrink_backward", gradient, self)


@operator("aten.hardshrink_backward")
def hardshrink_backward(grad_out: Tensor, self: Tensor, lambd: float, *, out: Tensor) -> Cost:
    """grad_x = 0 if -lambd <= x <= lambd else grad_y: 2 comparisons an element."""
    return Cost(elementwise=2 * out.numel)


@operator("aten.softshrink")
def softshrink(self: Tensor, lambd: float = 0.5, *, out: Tensor) -> Cost:
    """y = x - lambd if x > lambd, x + lambd if x < -lambd, else 0: subtraction, addition, 2
    selections; 4 an element."""
    gradient = softshrink_backward(out, self, lambd, out=self)
    return activation_cost(4 * out.numel, "aten.softshrink_backward", gradient, self)


@operator("aten.softshrink_backward")
def softshrink_backward(grad_output: Tensor, self: Tensor, lambd: float, *, out: Tensor) -> Cost:
    """grad_x = 0 if -lambd <= x <= lambd else grad_y: 2 comparisons an element."""
    return Cost(elementwise=2 * out.numel)


@operator("aten.leaky_relu", "aten.leaky_relu_")
def leaky_relu(self: Tensor, negative_slope: float = 0.01, *, out: Tensor) -> Cost:
    """y = x if x > 0 else slope x: a multiplication and a selection, 2 an element."""
    overwritten = in_place(self, out)
    kept = out if overwritten else self
    gradient = leaky_relu_backward(out, kept, negative_slope, overwritten, out=self)
    return activation_cost(2 * out.numel, "aten.leaky_relu_backward", gradient, kept)


@operator("aten.leaky_relu_backward")
def leaky_relu_backward(
    grad_output: Tensor,
    self: Tensor,
    negative_slope: float,
    self_is_result: bool,
    *,
    out: Tensor,
) -> Cost:
    """grad_x = grad_y if x > 0 else slope grad_y: a multiplication and a selection, 2 an element.
    The result has the sign of x and serves as well."""
    return Cost(elementwise=2 * out.numel)


@operator("aten.rrelu_with_noise", "aten.rrelu_with_noise_")
def rrelu(
    self: Tensor, noise: Tensor, lower: float = 0.125, upper: float = 1 / 3, *rest: Any, out: Tensor
) -> Cost:
    """y = x if x > 0 else slope x, the slope drawn for each element and kept as its noise: a
    multiplication and a selection, 2 an element."""
    kept = out if in_place(self, out) else self
    gradient = Gradient(
        "self", "aten.rrelu_with_noise_backward", elementwise=out.numel, saves=(kept, noise)
    )
    return Cost(elementwise=2 * out.numel, gradients=(gradient,))


@operator("aten.rrelu_with_noise_backward")
def rrelu_backward(grad_output: Tensor, *arguments: Any, out: Tensor) -> Cost:
    """grad_x = noise grad_y, the noise being 1 where x > 0: one multiplication an element."""
    return Cost(elementwise=out.numel)


@operator("aten.rrelu_with_noise_functional")
def rrelu_with_noise(self: Tensor, *arguments: Any, out: tuple[Tensor, Tensor]) -> Cost:
    """``rrelu_with_noise``, whose noise is a result too."""
    y, noise = out
    return Cost(elementwise=2 * y.numel, gradients=(Gradient("self", "", saves=(self, noise)),))


@operator("aten.sigmoid", "aten.sigmoid_")
def sigmoid(self: Tensor, *, out: Tensor) -> Cost:
    """y = 1 / (1 + exp(-x)): negation, exp, addition, division; 4 an element."""
    gradient = sigmoid_backward(out, out, out=self)
    return activation_cost(4 * out.numel, "aten.sigmoid_backward", gradient, out)


@operator("aten.sigmoid_backward")
def sigmoid_backward(grad_output: Tensor, output: Tensor, *, out: Tensor) -> Cost:
    """grad_x = grad_y (1 - y) y: subtraction, 2 multiplications; 3 an element."""
    return Cost(elementwise=3 * out.numel, gradients=again(output=output, grad_output=grad_output))


@operator("aten.tanh", "aten.tanh_")
def tanh(self: Tensor, *, out: Tensor) -> Cost:
    """y = tanh(x): 1 an element."""
    gradient = tanh_backward(out, out, out=self)
    return activation_cost(out.numel, "aten.tanh_backward", gradient, out)


@operator("aten.tanh_backward")
def tanh_backward(grad_output: Tensor, output: Tensor, *, out: Tensor) -> Cost:
    """grad_x = grad_y (1 - y y): 2 multiplications, subtraction; 3 an element."""
    return Cost(elementwise=3 * out.numel, gradients=again(output=output, grad_output=grad_output))


@operator("aten.gelu", "aten.gelu_")
def gelu(self: Tensor, *, approximate: str = "none", out: Tensor) -> Cost:
    """GELU (Hendrycks and Gimpel, 2016), x times the normal distribution function.

    Exact, y = (x / 2) (1 + erf(x / sqrt 2)), 5 an element:

    1. x / sqrt 2, erf, 1 + ..: 3;
    2. x / 2 and the product: 2.

    ``approximate="tanh"``, y = (x / 2) (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), 9 an element:

    1. x^3: 2;
    2. times 0.044715, x + .., times sqrt(2 / pi), tanh, 1 + ..: 5;
    3. x / 2 and the product: 2.
    """
    kept = kept_input(self, out)
    gradient = gelu_backward(out, kept, approximate=approximate, out=self)
    an_element = 9 if approximate == "tanh" else 5
    return activation_cost(an_element * out.numel, "aten.gelu_backward", gradient, kept)


@operator("aten.gelu_backward")
def gelu_backward(
    grad_output: Tensor, self: Tensor, *, approximate: str = "none", out: Tensor
) -> Cost:
    """The gradient of GELU.

    Exact, grad_x = grad_y (P + x p) with the normal distribution function P and its density p,
    11 an element:

    1. P = (1 + erf(x / sqrt 2)) / 2: 4;
    2. p = exp(-x x / 2) / sqrt(2 pi): 4;
    3. x p, P + .., times grad_y: 3.

    ``approximate="tanh"``: with t = tanh(u), u = sqrt(2 / pi) (x + 0.044715 x^3) and
    u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2),
    grad_x = grad_y ((1 + t) / 2 + (x / 2) (1 - t t) u'), 18 an element:

    1. x^2 and x^3: 2;
    2. u: 3, and t: 1;
    3. (1 + t) / 2: 2;
    4. x / 2: 1, and 1 - t t: 2;
    5. u', where 3 * 0.044715 is one number: 3;
    6. the product of three, the sum, times grad_y: 4.
    """
    an_element = 18 if approximate == "tanh" else 11
    return Cost(elementwise=an_element * out.numel)


@operator("aten.silu", "aten.silu_")
def silu(self: Tensor, *, out: Tensor) -> Cost:
    """y = x / (1 + exp(-x)): negation, exp, addition, division; 4 an element."""
    kept = kept_input(self, out)
    gradient = silu_backward(out, kept, out=self)
    return activation_cost(4 * out.numel, "aten.silu_backward", gradient, kept)


@operator("aten.silu_backward")
def silu_backward(grad_output: Tensor, self: Tensor, *, out: Tensor) -> Cost:
    """grad_x = grad_y s (1 + x (1 - s)) with s = 1 / (1 + exp(-x)), 9 an element:

    1. s: negation, exp, addition, division, 4;
    2. 1 - s, times x, 1 + ..: 3;
    3. grad_y s, and the product: 2.
    """
    return Cost(elementwise=9 * out.numel, gradients=again(self=self, grad_output=grad_output))


@operator("aten.mish", "aten.mish_")
def mish(self: Tensor, *, out: Tensor) -> Cost:
    """y = x tanh(log(1 + exp(x))): exp, addition, log, tanh, multiplication; 5 an element."""
    kept = kept_input(self, out)
    gradient = mish_backward(out, kept, out=self)
    return activation_cost(5 * out.numel, "aten.mish_backward", gradient, kept)


@operator("aten.mish_backward")
def mish_backward(grad_output: Tensor, self: Tensor, *, out: Tensor) -> Cost:
    """grad_x = grad_y (t + x s (1 - t t)) with t = tanh(log(1 + e)), s = e / (1 + e), e = exp(x),
    11 an element:

    1. e, 1 + e, log, tanh: 4;
    2. s: 1;
    3. t t, 1 - ..: 2;
    4. x s, the product, t + .., times grad_y: 4.
    """
    return Cost(elementwise=11 * out.numel)


@operator("aten.hardtanh", "aten.hardtanh_")
def hardtanh(self: Tensor, min_val: float = -1, max_val: float = 1, *, out: Tensor) -> Cost:
    """y = min(max(x, min_val), max_val): 2 selections an element. ReLU6 is this with 0 and 6."""
    kept = kept_input(self, out)
    gradient = hardtanh_backward(out, kept, min_val, max_val, out=self)
    return activation_cost(2 * out.numel, "aten.hardtanh_backward", gradient, kept)


@operator("aten.hardtanh_backward")
def hardtanh_backward(
    grad_output: Tensor, self: Tensor, min_val: float, max_val: float, *, out: Tensor
) -> Cost:
    """grad_x = grad_y if min_val < x < max_val else 0: 2 comparisons an element."""
    return Cost(elementwise=2 * out.numel)


@operator("aten.hardsigmoid", "aten.hardsigmoid_")
def hardsigmoid(self: Tensor, *, out: Tensor) -> Cost:
    """y = min(max(x + 3, 0), 6) / 6: addition, 2 selections, division; 4 an element."""
    kept = kept_input(self, out)
    gradient = hardsigmoid_backward(out, kept, out=self)
    return activation_cost(4 * out.numel, "aten.hardsigmoid_backward", gradient, kept)


@operator("aten.hardsigmoid_backward")
def hardsigmoid_backward(grad_output: Tensor, self: Tensor, *, out: Tensor) -> Cost:
    """grad_x = grad_y / 6 if -3 < x < 3 else 0: division, 2 comparisons; 3 an element."""
    return Cost(elementwise=3 * out.numel)


@operator("aten.hardswish", "aten.hardswish_")
def hardswish(self: Tensor, *, out: Tensor) -> Cost:
    """y = x min(max(x + 3, 0), 6) / 6: addition, 2 selections, multiplication, division; 5 an
    element."""
    kept = kept_input(self, out)
    gradient = hardswish_backward(out, kept, out=self)
    return activation_cost(5 * out.numel, "aten.hardswish_backward", gradient, kept)


@operator("aten.hardswish_backward")
def hardswish_backward(grad_output: Tensor, self: Tensor, *, out: Tensor) -> Cost:
    """grad_x = 0 if x <= -3, grad_y if x >= 3, else grad_y (x / 3 + 1/2): division, addition,
    multiplication, 2 selections; 5 an element."""
    return Cost(elementwise=5 * out.numel)


@operator("aten.elu", "aten.elu_")
def elu(
    self: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1, *, out: Tensor
) -> Cost:
    """y = scale x if x > 0 else scale alpha (exp(input_scale x) - 1): exp, subtraction, selection,
    3 an element; and a multiplication for each factor that is not 1. SELU and CELU are this."""
    overwritten = in_place(self, out)
    kept = out if overwritten else self
    gradient = elu_backward(out, alpha, scale, input_scale, overwritten, kept, out=self)
    an_element = 3 + (scale != 1) + (scale * alpha != 1) + (input_scale != 1)
    return activation_cost(an_element * out.numel, "aten.elu_backward", gradient, kept)


@operator("aten.celu", "aten.celu_")
def celu(self: Tensor, alpha: float = 1, *, out: Tensor) -> Cost:
    """y = x if x > 0 else alpha (exp(x / alpha) - 1): ``elu`` with an input_scale of 1 / alpha."""
    return elu(self, alpha, 1, 1 / alpha, out=out)


@operator("aten.elu_backward")
def elu_backward(
    grad_output: Tensor,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
    self_or_result: Tensor,
    *,
    out: Tensor,
) -> Cost:
    """The gradient of ELU, 3 an element and a multiplication for each factor that is not 1:

    - from x: grad_x = scale grad_y if x > 0 else grad_y c exp(input_scale x), where
      c = scale alpha input_scale is one number: exp, multiplication, selection;
    - from y: grad_x = scale grad_y if y > 0 else grad_y input_scale (y + scale alpha): addition,
      multiplication, selection.
    """
    an_element = 3 + (scale != 1) + (input_scale != 1)
    if not is_result:
        an_element += scale * alpha * input_scale != 1
    return Cost(elementwise=an_element * out.numel)


@operator("aten.softplus")
def softplus(self: Tensor, beta: float = 1, threshold: float = 20, *, out: Tensor) -> Cost:
    """y = x if beta x > threshold else log(1 + exp(beta x)) / beta: exp, addition, log, selection,
    4 an element; and 2 for a beta that is not 1."""
    gradient = softplus_backward(out, self, beta, threshold, out=self)
    an_element = 4 + 2 * (beta != 1)
    return activation_cost(an_element * out.numel, "aten.softplus_backward", gradient, self)


@operator("aten.softplus_backward")
def softplus_backward(
    grad_output: Tensor, self: Tensor, beta: float, threshold: float, *, out: Tensor
) -> Cost:
    """grad_x = grad_y if beta x > threshold else grad_y e / (1 + e) with e = exp(beta x): exp,
    addition, division, multiplication, selection, 5 an element; and 1 for a beta that is not 1."""
    return Cost(elementwise=(5 + (beta != 1)) * out.numel)


@operator("aten.log_sigmoid_forward")
def log_sigmoid(self: Tensor, *, out: tuple[Tensor, Tensor]) -> Cost:
    """y = min(x, 0) - log(1 + z) with z = exp(-|x|), which never overflows: selection, absolute
    value, negation, exp, addition, log, subtraction; 7 an element. The second result keeps z."""
    y, buffer = out
    gradient = log_sigmoid_backward(y, self, buffer, out=self)
    return activation_cost(7 * y.numel, "aten.log_sigmoid_backward", gradient, self, buffer)


@operator("aten.log_sigmoid_backward")
def log_sigmoid_backward(grad_output: Tensor, self: Tensor, buffer: Tensor, *, out: Tensor) -> Cost:
    """grad_x = grad_y (1 if x < 0 else z) / (1 + z): selection, addition, division,
    multiplication, 4 an element. CUDA keeps no z (its buffer is empty) and takes exp(-|x|) again:
    3 more."""
    an_element = 4 if same_shape(buffer.shape, self.shape) else 7
    return Cost(elementwise=an_element * out.numel)


@operator("aten.glu")
def glu(self: Tensor, dim: int = -1, *, out: Tensor) -> Cost:
    """y = a / (1 + exp(-b)), where a and b are the halves of x along ``dim``: negation, exp,
    addition, division; 4 an element of y."""
    gradient = glu_backward(out, self, dim, out=self)
    return activation_cost(4 * out.numel, "aten.glu_backward", gradient, self)


@operator("aten.glu_backward")
def glu_backward(grad_output: Tensor, self: Tensor, dim: int, *, out: Tensor) -> Cost:
    """grad_a = grad_y s, grad_b = grad_a (1 - s) a with s = 1 / (1 + exp(-b)): s is 4, grad_a 1,
    grad_b 3; 8 an element of y."""
    return Cost(elementwise=8 * grad_output.numel)


@operator("aten.glu_jvp")
def glu_jvp(glu: Tensor, x: Tensor, dx: Tensor, dim: int, *, out: Tensor) -> Cost:
    """Forward mode: dy = s da + (y - s y) db with s = 1 / (1 + exp(-b)): s is 4, the rest 5; 9 an
    element of y."""
    return Cost(elementwise=9 * out.numel)


@operator("aten.glu_backward_jvp")
def glu_backward_jvp(grad_x: Tensor, *arguments: Any, out: Tensor) -> Cost:
    """Forward mode of ``glu_backward``. With s = 1 / (1 + exp(-b)), 4, and its derivative ds = s (1
    - s) db, 3: dgrad_a = dgrad_y s + grad_y ds, 3; dgrad_b = (dgrad_a a + grad_a da) (1 - s) -
    grad_a a ds, 7; 17 an element of y, of which x has two."""
    return Cost(elementwise=17 * (grad_x.numel // 2))


@operator("aten._prelu_kernel")
def prelu(self: Tensor, weight: Tensor, *, out: Tensor) -> Cost:
    """y = x if x > 0 else w x: a multiplication and a selection, 2 an element.

    One fused operator gives grad_x and grad_w at every element, whichever is asked for; grad_w is
    then summed over what w was repeated along, an addition an element.
    """
    backward = "aten._prelu_kernel_backward"
    gradient = prelu_backward(out, self, weight, out=(self, out))
    of_input, of_weight = (part.elementwise for part in gradient.parts)
    kept = (self, weight)
    gradients = [
        Gradient(("self", "weight"), backward, elementwise=of_input, saves=kept),
        Gradient(("weight", "self"), backward, elementwise=of_weight, saves=kept),
    ]
    if not same_shape(weight.shape, out.shape):
        gradients.append(Gradient("weight", "aten.sum", elementwise=out.numel))
    return Cost(elementwise=2 * out.numel, gradients=tuple(gradients))


@operator("aten._prelu_kernel_backward")
def prelu_backward(
    grad_output: Tensor, self: Tensor, weight: Tensor, *, out: tuple[Tensor, Tensor]
) -> Cost:
    """Both gradients at every element:

    - grad_x = grad_y if x > 0 else w grad_y: a multiplication and a selection, 2;
    - grad_w = 0 if x > 0 else x grad_y: a multiplication and a selection, 2.
    """
    return Cost.fused(
        Part(("self", "weight"), elementwise=2 * self.numel),
        Part(("weight", "self"), elementwise=2 * self.numel),
    )


def rows(x: Tensor, dim: int) -> Size:
    """How many vectors lie along ``dim``."""
    if not x.shape:
        return 1
    return prod(size for index, size in enumerate(x.shape) if index != dim % len(x.shape))


@operator("aten._softmax")
def softmax(self: Tensor, dim: int, half_to_float: bool, *, out: Tensor) -> Cost:
    """y = exp(x - max x) / sum exp(x - max x) along ``dim``, 5 an element: a comparison for the
    maximum, subtraction, exp, an addition into the sum, division."""
    gradient = softmax_backward(out, out, dim, None, out=self)
    return activation_cost(5 * out.numel, "aten._softmax_backward_data", gradient, out)


@operator("aten._safe_softmax")
def safe_softmax(self: Tensor, dim: int, dtype: object = None, *, out: Tensor) -> Cost:
    """``softmax``, where a row of nothing but -inf (all of it masked) gives zeros: 5 an element,
    and for each row a comparison of its maximum with -inf."""
    gradient = softmax_backward(out, out, dim, None, out=self)
    return activation_cost(
        5 * out.numel + rows(out, dim), "aten._softmax_backward_data", gradient, out
    )


@operator("aten.softmax")
def whole_softmax(self: Tensor, dim: int, dtype: object = None, *, out: Tensor) -> Cost:
    """``_softmax``, where it is called whole."""
    return softmax(self, dim, False, out=out)


@operator("aten._masked_softmax")
def masked_softmax(
    self: Tensor, mask: Tensor, dim: int | None = None, mask_type: object = None, *, out: Tensor
) -> Cost:
    """``_softmax``, and a selection by the mask for each element."""
    gradient = Gradient(
        "self", "aten._masked_softmax_backward", elementwise=5 * out.numel, saves=(mask, out)
    )
    return Cost(elementwise=6 * out.numel, gradients=(gradient,))


@operator("aten._masked_softmax_backward")
def masked_softmax_backward(
    grad_output: Tensor, output: Tensor, mask: Tensor, dim: int | None = None, *, out: Tensor
) -> Cost:
    """``_softmax_backward_data``, and a selection by the mask for each element."""
    return Cost(elementwise=5 * out.numel)


@operator("aten._softmax_backward_data")
def softmax_backward(
    grad_output: Tensor, output: Tensor, dim: int, input_dtype: object, *, out: Tensor
) -> Cost:
    """grad_x = y (grad_y - sum grad_y y), 4 an element: a product, an addition into the sum,
    subtraction, multiplication."""
    return Cost(elementwise=4 * out.numel, gradients=again(output=output, grad_output=grad_output))


@operator("aten._log_softmax")
def log_softmax(self: Tensor, dim: int, half_to_float: bool, *, out: Tensor) -> Cost:
    """y = (x - max x) - log sum exp(x - max x) along ``dim``: 5 an element (a comparison for the
    maximum, subtraction, exp, an addition into the sum, subtraction) and a log for each row."""
    gradient = log_softmax_backward(out, out, dim, None, out=self)
    return activation_cost(
        5 * out.numel + rows(out, dim), "aten._log_softmax_backward_data", gradient, out
    )


@operator("aten.log_softmax")
def whole_log_softmax(self: Tensor, dim: int, dtype: object = None, *, out: Tensor) -> Cost:
    """``_log_softmax``, where it is called whole."""
    return log_softmax(self, dim, False, out=out)


@operator("aten._log_softmax_backward_data")
def log_softmax_backward(
    grad_output: Tensor, output: Tensor, dim: int, input_dtype: object, *, out: Tensor
) -> Cost:
    """grad_x = grad_y - exp(y) sum grad_y, 4 an element: an addition into the sum, exp,
    multiplication, subtraction."""
    return Cost(elementwise=4 * out.numel, gradients=again(output=output, grad_output=grad_output))


def elementwise_layer(x: Tensor, op: str, *, inplace: bool = False, **arguments: Any) -> LayerCost:
    """One operator; in place, the result takes the input's memory."""
    out = x.view(*x.shape) if inplace else x.new(*x.shape)
    return LayerCost(out, (Call(f"{op}_" if inplace else op, {"self": x, **arguments}, out),))


@layer("ReLU")
def relu_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.relu", inplace=inplace)


@layer("Threshold")
def threshold_layer(
    x: Tensor, *, threshold: float, value: float, inplace: bool = False
) -> LayerCost:
    return elementwise_layer(x, "aten.threshold", threshold=threshold, value=value, inplace=inplace)


@layer("Hardshrink")
def hardshrink_layer(x: Tensor, *, lambd: float = 0.5) -> LayerCost:
    return elementwise_layer(x, "aten.hardshrink", lambd=lambd)


@layer("Softshrink")
def softshrink_layer(x: Tensor, *, lambd: float = 0.5) -> LayerCost:
    return elementwise_layer(x, "aten.softshrink", lambd=lambd)


@layer("LeakyReLU")
def leaky_relu_layer(
    x: Tensor, *, negative_slope: float = 0.01, inplace: bool = False
) -> LayerCost:
    return elementwise_layer(x, "aten.leaky_relu", negative_slope=negative_slope, inplace=inplace)


@layer("Sigmoid")
def sigmoid_layer(x: Tensor) -> LayerCost:
    return elementwise_layer(x, "aten.sigmoid")


@layer("Tanh")
def tanh_layer(x: Tensor) -> LayerCost:
    return elementwise_layer(x, "aten.tanh")


@layer("GELU")
def gelu_layer(x: Tensor, *, approximate: str = "none") -> LayerCost:
    return elementwise_layer(x, "aten.gelu", approximate=approximate)


@layer("SiLU")
def silu_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.silu", inplace=inplace)


@layer("Mish")
def mish_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.mish", inplace=inplace)


@layer("Hardtanh")
def hardtanh_layer(
    x: Tensor, *, min_val: float = -1, max_val: float = 1, inplace: bool = False
) -> LayerCost:
    return elementwise_layer(x, "aten.hardtanh", min_val=min_val, max_val=max_val, inplace=inplace)


@layer("ReLU6")
def relu6_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    return hardtanh_layer(x, min_val=0, max_val=6, inplace=inplace)


@layer("Hardsigmoid")
def hardsigmoid_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.hardsigmoid", inplace=inplace)


@layer("Hardswish")
def hardswish_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.hardswish", inplace=inplace)


@layer("ELU")
def elu_layer(x: Tensor, *, alpha: float = 1, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.elu", alpha=alpha, inplace=inplace)


@layer("CELU")
def celu_layer(x: Tensor, *, alpha: float = 1, inplace: bool = False) -> LayerCost:
    return elementwise_layer(x, "aten.celu", alpha=alpha, inplace=inplace)


@layer("SELU")
def selu_layer(x: Tensor, *, inplace: bool = False) -> LayerCost:
    """``elu`` with the two constants of Klambauer et al., 2017."""
    return elementwise_layer(
        x, "aten.elu", alpha=1.6732632423543772, scale=1.0507009873554805, inplace=inplace
    )


@layer("Softplus")
def softplus_layer(x: Tensor, *, beta: float = 1, threshold: float = 20) -> LayerCost:
    return elementwise_layer(x, "aten.softplus", beta=beta, threshold=threshold)


@layer("LogSigmoid")
def log_sigmoid_layer(x: Tensor) -> LayerCost:
    y = x.new(*x.shape)
    return LayerCost(y, (Call("aten.log_sigmoid_forward", {"self": x}, (y, x.new(*x.shape))),))


@layer("GLU")
def glu_layer(x: Tensor, *, dim: int = -1) -> LayerCost:
    half = list(x.shape)
    half[dim] = half[dim] // 2
    y = x.new(*half)
    return LayerCost(y, (Call("aten.glu", {"self": x, "dim": dim}, y),))


@layer("PReLU")
def prelu_layer(x: Tensor, *, num_parameters: Size = 1) -> LayerCost:
    """One slope for all channels, or one a channel, seen as weight[1, C, 1, ...]."""
    weight = Tensor((num_parameters,), x.itemsize)
    trailing = (1,) * (len(x.shape) - 2)
    seen = weight.view(1, num_parameters, *trailing) if len(x.shape) > 1 else weight
    y = x.new(*x.shape)
    call = Call("aten._prelu_kernel", {"self": x, "weight": seen}, y)
    return LayerCost(y, (call,), {"weight": weight})


@layer("Softmax")
def softmax_layer(x: Tensor, *, dim: int) -> LayerCost:
    return elementwise_layer(x, "aten._softmax", dim=dim, half_to_float=False)


@layer("LogSoftmax")
def log_softmax_layer(x: Tensor, *, dim: int) -> LayerCost:
    return elementwise_layer(x, "aten._log_softmax", dim=dim, half_to_float=False)


EXAMPLES += [
    Example(
        "ReLU",
        {"x": Tensor((4, 6))},
        {"flops": 0, "elementwise": 24},
        "a selection for 24 elements",
    ),
    Example(
        "GELU",
        {"x": Tensor((4, 6))},
        {"elementwise": 120},
        "x / sqrt 2, erf, 1 + .., x / 2, product: 5 * 24 = 120",
    ),
    Example(
        "GELU",
        {"x": Tensor((4, 6)), "approximate": "tanh"},
        {"elementwise": 216},
        "x^3 2, the argument of tanh 3, tanh, 1 + .., x / 2, product: 9 * 24 = 216",
    ),
    Example(
        "aten.gelu_backward",
        {"grad_output": Tensor((4, 6)), "self": Tensor((4, 6)), "out": Tensor((4, 6))},
        {"elementwise": 264},
        "distribution 4, density 4, x p, sum, times grad_y: 11 * 24 = 264",
    ),
    Example(
        "aten.silu_backward",
        {"grad_output": Tensor((4, 6)), "self": Tensor((4, 6)), "out": Tensor((4, 6))},
        {"elementwise": 216},
        "s 4, 1 + x (1 - s) 3, grad_y s and the product 2: 9 * 24 = 216",
    ),
    Example(
        "LogSoftmax",
        {"x": Tensor((4, 6)), "dim": -1},
        {"elementwise": 124},
        "maximum, subtraction, exp, sum, subtraction: 5 * 24 = 120; a log for each of 4 rows",
    ),
    Example(
        "PReLU",
        {"x": Tensor((2, 4, 3)), "num_parameters": 4},
        {"elementwise": 48, "parameters": 4},
        "product and selection: 2 * 24 = 48",
    ),
]
