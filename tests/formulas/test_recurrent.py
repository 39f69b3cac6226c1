"""Recurrent layers against plain loops that count, against their own products taken cell by cell,
and against what torch dispatches and keeps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor, exact, operands_of
from flopratio.formulas.recurrent import (
    GRU,
    LSTM,
    RELU,
    TANH,
    Direction,
    cudnn_reserve,
    network,
    onednn_workspace,
)
from flopratio.models.fakes import onednn_parts_here
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.fused import (
    Step,
    agrees_with_torch,
    executed,
    subsets,
    work_by_operand,
)

aten = torch.ops.aten
CELLS = {"RNN": TANH, "RNN relu": RELU, "GRU": GRU, "LSTM": LSTM}
CUDNN = {"RNN relu": 0, "RNN": 1, "LSTM": 2, "GRU": 3}
"""Its number of each."""


# -- the loops ----------------------------------------------------------------------------------


def sigmoid(x: Counted) -> Counted:
    return 1 / (1 + (-x).apply("exp"))


def sigmoid_derivative(grad: Counted, y: Counted) -> Counted:
    return grad * (1 - y) * y


def tanh_derivative(grad: Counted, y: Counted) -> Counted:
    return grad * (1 - y * y)


class RnnUnit:
    """What one unit of one row does: gates from the input (x) and from the last output (h)."""

    def forward(self, x: list[Counted], h: list[Counted], last: Any, _: Any) -> Any:
        self.y = (x[0] + h[0]).apply("tanh")
        return self.y, None

    def backward(self, grad: Counted, _: Any) -> Any:
        gate = tanh_derivative(grad, self.y)
        return [gate], [gate], None, None


class ReluUnit(RnnUnit):
    def forward(self, x: list[Counted], h: list[Counted], last: Any, _: Any) -> Any:
        self.y = x[0] + h[0]
        self.y = self.y if self.y > 0 else Counted(0.0)
        return self.y, None

    def backward(self, grad: Counted, _: Any) -> Any:
        gate = grad if self.y > 0 else Counted(0.0)
        return [gate], [gate], None, None


class GruUnit:
    def forward(self, x: list[Counted], h: list[Counted], last: Any, _: Any) -> Any:
        self.h_n = h[2]
        self.r, self.z = sigmoid(x[0] + h[0]), sigmoid(x[1] + h[1])
        self.n = (x[2] + self.r * self.h_n).apply("tanh")
        self.last = last
        return self.n + self.z * (last - self.n), None

    def backward(self, grad: Counted, _: Any) -> Any:
        z = sigmoid_derivative(grad * (self.last - self.n), self.z)
        n = tanh_derivative(grad * (1 - self.z), self.n)
        last = grad * self.z
        r = sigmoid_derivative(n * self.h_n, self.r)
        return [r, z, n], [r, z, n * self.r], last, None


class LstmUnit:
    def forward(self, x: list[Counted], h: list[Counted], _: Any, last: Any) -> Any:
        gates = [a + b for a, b in zip(x, h, strict=True)]
        self.i, self.f, self.o = (sigmoid(gates[index]) for index in (0, 1, 3))
        self.g = gates[2].apply("tanh")
        self.last = last
        c = self.f * last + self.i * self.g
        self.tanh_c = c.apply("tanh")
        return self.o * self.tanh_c, c

    def backward(self, grad: Counted, grad_c: Counted | None) -> Any:
        o = sigmoid_derivative(grad * self.tanh_c, self.o)
        inner = tanh_derivative(grad * self.o, self.tanh_c)
        grad_c = inner if grad_c is None else inner + grad_c
        i = sigmoid_derivative(grad_c * self.g, self.i)
        f = sigmoid_derivative(grad_c * self.last, self.f)
        g = tanh_derivative(grad_c * self.i, self.g)
        return [i, f, g, o], [i, f, g, o], None, grad_c * self.f


UNITS = {"RNN": RnnUnit, "RNN relu": ReluUnit, "GRU": GruUnit, "LSTM": LstmUnit}


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a[M, K] @ b[K, N]"""
    out = zeros((a.shape[0], b.shape[1]))
    multiply_into(out, a, b)
    return out


def multiply_into(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    for row, column in np.ndindex(*out.shape):
        for inner in range(a.shape[1]):
            out[row, column] += a[row, inner] * b[inner, column]


class Loops:
    """One layer, one direction. ``counts`` adds up what each kind of line did."""

    def __init__(self, kind: str, weights: list[np.ndarray], biased: bool) -> None:
        self.kind, self.biased = kind, biased
        self.w_ih, self.w_hh, self.b_ih, self.b_hh = weights
        self.gates = CELLS[kind].gates
        self.counts: dict[str, int] = {}

    def note(self, line: str, work: Callable[[], Any]) -> Any:
        reset()
        result = work()
        self.counts[line] = self.counts.get(line, 0) + counted()
        return result

    def gates_of(self, array: np.ndarray, row: int, unit: int) -> list[Counted]:
        units = array.shape[1] // self.gates
        return [array[row, gate * units + unit] for gate in range(self.gates)]

    def step(self, x: np.ndarray, h: np.ndarray, last: np.ndarray, c: np.ndarray) -> Any:
        if self.biased:
            x, h = x + self.b_ih, h + self.b_hh
        cells = np.empty(last.shape, dtype=object)
        out, inner = np.empty(last.shape, dtype=object), np.empty(last.shape, dtype=object)
        for row, unit in np.ndindex(*last.shape):
            cell = cells[row, unit] = UNITS[self.kind]()
            out[row, unit], inner[row, unit] = cell.forward(
                *(self.gates_of(array, row, unit) for array in (x, h)),
                last[row, unit],
                c[row, unit],
            )
        return out, inner, cells

    def forward(self, inputs: np.ndarray, h0: np.ndarray, c0: np.ndarray) -> np.ndarray:
        """inputs[T, B, I], h0 and c0[B, H]"""
        self.inputs, h, c = inputs, h0, c0
        self.lasts, self.cells, outputs = [], [], []
        for x in inputs:
            from_x = self.note("W x", lambda x=x: multiply(x, self.w_ih.T))
            from_h = self.note("W h", lambda h=h: multiply(h, self.w_hh.T))
            self.lasts.append(h)
            h, c, cells = self.note(
                "forward", lambda x=from_x, r=from_h, h=h, c=c: self.step(x, r, h, c)
            )
            self.cells.append(cells)
            outputs.append(h)
        return np.array(outputs)

    def step_back(self, cells: np.ndarray, grad: np.ndarray, grad_c: np.ndarray) -> Any:
        rows, units = cells.shape
        of_x, of_h = (np.empty((rows, self.gates * units), dtype=object) for _ in range(2))
        straight = np.empty(cells.shape, dtype=object)
        last_c = np.empty(cells.shape, dtype=object)
        for row, unit in np.ndindex(rows, units):
            x, h, straight[row, unit], last_c[row, unit] = cells[row, unit].backward(
                grad[row, unit], grad_c[row, unit]
            )
            for gate in range(self.gates):
                of_x[row, gate * units + unit] = x[gate]
                of_h[row, gate * units + unit] = h[gate]
        return of_x, of_h, straight, last_c

    def backward(self, grad_outputs: np.ndarray) -> dict[str, np.ndarray]:
        steps, rows, units = grad_outputs.shape
        grads = {
            "x": np.empty(self.inputs.shape, dtype=object),
            "w_ih": zeros(self.w_ih.shape),
            "w_hh": zeros(self.w_hh.shape),
            "b_ih": zeros(self.b_ih.shape),
            "b_hh": zeros(self.b_hh.shape),
        }
        carried: np.ndarray | None = None
        grad_c = np.full((rows, units), None, dtype=object)
        for t in reversed(range(steps)):
            grad = grad_outputs[t]
            if carried is not None:
                grad = self.note("backward", lambda g=grad, c=carried: g + c)
            of_x, of_h, straight, grad_c = self.note(
                "backward", lambda t=t, g=grad, c=grad_c: self.step_back(self.cells[t], g, c)
            )
            grads["x"][t] = self.note("grad x", lambda g=of_x: multiply(g, self.w_ih))
            self.note("grad W_ih", lambda g=of_x, t=t: multiply_into(
                grads["w_ih"], g.T, self.inputs[t]
            ))  # fmt: skip
            self.note("grad W_hh", lambda g=of_h, t=t: multiply_into(
                grads["w_hh"], g.T, self.lasts[t]
            ))  # fmt: skip
            self.note("grad b", lambda g=of_x: self.add_up(grads["b_ih"], g))
            if self.kind == "GRU":
                self.note("grad b", lambda g=of_h: self.add_up(grads["b_hh"], g))
            line = "grad h" if t else "grad h0"
            carried = self.note(line, lambda g=of_h: multiply(g, self.w_hh))
            if straight[0, 0] is not None and t:
                carried = self.note("backward", lambda c=carried, s=straight: c + s)
        if self.kind != "GRU":
            grads["b_hh"] = grads["b_ih"]
        return grads

    @staticmethod
    def add_up(out: np.ndarray, grad: np.ndarray) -> None:
        for row, entry in np.ndindex(*grad.shape):
            out[entry] = out[entry] + grad[row, entry]


def module_of(kind: str, width: int, units: int, biased: bool, **more: Any) -> torch.nn.RNNBase:
    if kind == "RNN relu":
        more = {**more, "nonlinearity": "relu"}
    return getattr(torch.nn, kind.split()[0])(width, units, bias=biased, **more)


@pytest.mark.oracle
@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(list(CELLS)),
    steps=st.integers(1, 3),
    rows=st.integers(1, 2),
    width=st.integers(1, 3),
    units=st.integers(1, 3),
    biased=st.booleans(),
)
def test_oracle(kind: str, steps: int, rows: int, width: int, units: int, biased: bool) -> None:
    """GIVEN a layer of any kind and size, THEN each figure of the formula is what the loops count,
    and the loops are torch's layer."""
    cell = CELLS[kind]
    wide = cell.gates * units
    shapes = [(wide, width), (wide, units), (wide,), (wide,)]
    weights = [tensor(shape, seed) for seed, shape in enumerate(shapes)]
    inputs = tensor((steps, rows, width), seed=5)
    h0, c0 = tensor((rows, units), seed=6), tensor((rows, units), seed=7)
    loops = Loops(kind, weights, biased)
    outputs = loops.forward(inputs, h0, c0)
    grad_outputs = tensor(outputs.shape, seed=8)
    gradients = loops.backward(grad_outputs)

    # The loops are torch's layer.
    module = module_of(kind, width, units, biased).double()
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), weights, strict=False):
            parameter.copy_(torch.tensor(values(weight)))
    x = torch.tensor(values(inputs), requires_grad=True)
    h, c = (torch.tensor(values(state))[None] for state in (h0, c0))
    out, _ = module(x, (h, c) if kind == "LSTM" else h)
    out.backward(torch.tensor(values(grad_outputs)))
    np.testing.assert_allclose(values(outputs), out.detach().numpy(), atol=1e-12)
    expected = [x, *module.parameters()]
    for found, operand in zip(gradients.values(), expected, strict=False):
        np.testing.assert_allclose(values(found), operand.grad.numpy(), atol=1e-12)

    # The formula is what the loops count.
    w_ih, w_hh = Tensor((wide, width)), Tensor((wide, units))
    direction = Direction(cell, steps * rows, rows, w_ih, w_hh, biased)
    counts = loops.counts
    assert direction.input_flops == counts["W x"] == counts["grad x"] == counts["grad W_ih"]
    assert direction.hidden_flops == counts["W h"] == counts["grad W_hh"]
    assert direction.inner_flops == counts.get("grad h", 0)
    assert direction.initial_flops == counts["grad h0"]
    assert direction.elementwise == counts["forward"]
    assert direction.inner_elementwise == counts["backward"]
    assert direction.bias_elementwise == (counts["grad b"] if biased else 0)

    # And so are oneDNN's operators, of the one cell that it has.
    if kind != "LSTM":
        return
    x_described, h_described = Tensor(inputs.shape), Tensor(h0.shape)
    biases = [Tensor((wide,)) if biased else weight for weight in (w_ih, w_hh)]
    tensors = (x_described, w_ih, w_hh, *biases, h_described, h_described)
    y = Tensor(outputs.shape)
    workspace = Tensor((0,), 1)
    forward = OPERATORS["aten.mkldnn_rnn_layer"](
        *tensors,
        *(False, (), 2, units, 1, biased, False, False, True),
        out=(y, h_described, h_described, workspace),
    )
    backward = OPERATORS["aten.mkldnn_rnn_layer_backward"](
        *tensors,
        *(y, h_described, h_described, y, h_described, h_described),
        *(False, 2, units, 1, biased, True, False, (), False, workspace),
        out=tensors,
    )
    assert (forward.flops, forward.elementwise) == (
        counts["W x"] + counts["W h"],
        counts["forward"],
    )
    of_biases = {("weight2", "weight3"): (0, counts["grad b"])} if biased else {}
    named = ("weight2", "weight3") if biased else ()
    expected_parts = {
        ("input",): (counts["grad x"], 0),
        ("weight0",): (counts["grad W_ih"], 0),
        ("weight1",): (counts["grad W_hh"], 0),
        **of_biases,
        ("hx_",): (counts["grad h0"], 0),
        ("input", "weight0", "weight1", *named, "hx_", "cx_"): (
            counts.get("grad h", 0),
            counts["backward"],
        ),
    }
    assert figures_by_operand(backward.parts) == expected_parts
    assert figures_by_operand(forward.gradients) == expected_parts


def figures_by_operand(works: Any) -> dict[tuple[str, ...], tuple[int, int]]:
    return {operands_of(work): (work.flops, work.elementwise) for work in works}


class Stack:
    """Several layers, in one direction or in both, of :class:`Loops`."""

    def __init__(self, kind: str, layers: list[list[list[np.ndarray]]]) -> None:
        self.layers = [[Loops(kind, weights, True) for weights in layer] for layer in layers]
        self.both_ways = [0] * len(layers)
        """For each layer, additions of the gradients that its directions have for its input."""

    def forward(self, x: np.ndarray, states: list[np.ndarray]) -> np.ndarray:
        """states: the first h, which is also the first c, of each direction of each layer."""
        first = iter(states)
        for layer in self.layers:
            outputs = []
            for loops, way in zip(layer, (1, -1), strict=False):
                state = next(first)
                outputs.append(loops.forward(x[::way], state, state)[::way])
            x = np.concatenate(outputs, axis=-1)
        return x

    def backward(self, grad: np.ndarray) -> tuple[np.ndarray, list[list[dict[str, np.ndarray]]]]:
        gradients = []
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            shares = np.split(grad, len(layer), axis=-1)
            found = [
                loops.backward(share[::way])
                for loops, share, way in zip(layer, shares, (1, -1), strict=False)
            ]
            gradients.append(found)
            reset()
            grad = found[0]["x"]
            for other in found[1:]:
                grad = grad + other["x"][::-1]
            self.both_ways[index] = counted()
        return grad, gradients[::-1]

    def total(self, *lines: str) -> int:
        every = [loops.counts for layer in self.layers for loops in layer]
        return sum(counts.get(line, 0) for counts in every for line in lines)


@pytest.mark.oracle
@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(list(CELLS)),
    steps=st.integers(1, 3),
    layers=st.integers(1, 2),
    directions=st.integers(1, 2),
    width=st.integers(1, 3),
    units=st.integers(1, 2),
)
def test_stack_oracle(
    kind: str, steps: int, layers: int, directions: int, width: int, units: int
) -> None:
    """GIVEN layers of any kind, in one direction or both, THEN cuDNN's operators, forward and
    backward, are what the loops count, and the loops are torch's module."""
    wide, rows = CELLS[kind].gates * units, 2
    module = module_of(kind, width, units, True, num_layers=layers, bidirectional=directions == 2)
    drawn: list[list[list[np.ndarray]]] = []
    for layer in range(layers):
        into = directions * units if layer else width
        shapes = [(wide, into), (wide, units), (wide,), (wide,)]
        drawn.append([
            [tensor(shape, 100 * layer + 10 * way + seed) for seed, shape in enumerate(shapes)]
            for way in range(directions)
        ])  # fmt: skip
    weights = [weight for layer in drawn for way in layer for weight in way]
    stack = Stack(kind, drawn)
    inputs = tensor((steps, rows, width), seed=5)
    states = [tensor((rows, units), seed=6 + index) for index in range(layers * directions)]
    outputs = stack.forward(inputs, states)
    grad_outputs = tensor(outputs.shape, seed=8)
    grad_inputs, gradients = stack.backward(grad_outputs)

    # The loops are torch's module.
    module = module.double()
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(values(weight)))
    x = torch.tensor(values(inputs), requires_grad=True)
    h = torch.tensor(np.array([values(state) for state in states]))
    out, _ = module(x, (h, h) if kind == "LSTM" else h)
    out.backward(torch.tensor(values(grad_outputs)))
    np.testing.assert_allclose(values(outputs), out.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(values(grad_inputs), x.grad.numpy(), atol=1e-12)
    names = ("w_ih", "w_hh", "b_ih", "b_hh")
    of_weights = [way[name] for layer in gradients for way in layer for name in names]
    for found, parameter in zip(of_weights, module.parameters(), strict=True):
        np.testing.assert_allclose(values(found), parameter.grad.numpy(), atol=1e-12)

    # cuDNN's operators are what the loops count.
    described = tuple(Tensor(weight.shape) for weight in weights)
    state, y = Tensor((layers * directions, rows, units)), Tensor(outputs.shape)
    cx = state if kind == "LSTM" else None
    flat, reserve = Tensor((sum(weight.numel for weight in described),)), Tensor((7,), 1)
    given_first = (Tensor(inputs.shape), described, 4, None, state, cx)
    settings_ = (CUDNN[kind], units, 0, layers, False, 0.0, True, directions == 2, (), None)
    forward = OPERATORS["aten._cudnn_rnn"](
        *given_first, *settings_, out=(y, state, cx, reserve, flat)
    )
    backward = OPERATORS["aten._cudnn_rnn_backward"](
        *given_first,
        *(y, y, None, None),
        *settings_,
        reserve,
        (True, True, cx is not None, True),
        out=(given_first[0], state, cx, described),
    )
    of_first, of_later = (
        sum(loops.counts["grad x"] for layer in which for loops in layer)
        for which in (stack.layers[:1], stack.layers[1:])
    )
    assert forward.flops == stack.total("W x", "W h")
    assert forward.elementwise == stack.total("forward")
    expected = {
        ("input",): (of_first, stack.both_ways[0]),
        ("hx",): (stack.total("grad h0"), 0),
        ("input", "weight", "hx", "cx"): (
            of_later + stack.total("grad h"),
            stack.total("backward") + sum(stack.both_ways[1:]),
        ),
        ("weight",): (stack.total("grad W_ih", "grad W_hh"), stack.total("grad b")),
    }
    assert figures_by_operand(backward.parts) == expected
    assert figures_by_operand(forward.gradients) == expected


@pytest.mark.oracle
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_fused_gates_oracle(kind: str, biased: bool) -> None:
    """CUDA's operators on the gates of one time step, unit by unit. The LSTM's backward takes
    tanh(c) again, and the gradient of c meets what comes from h."""
    rows, units = 2, 3
    gates = CELLS[kind].gates
    x, h = tensor((rows, gates * units), 1), tensor((rows, gates * units), 2)
    b_x, b_h = tensor((gates * units,), 3), tensor((gates * units,), 4)
    last, grad, grad_c = (tensor((rows, units), seed) for seed in (5, 6, 7))
    reset()
    if biased:
        x, h = x + b_x, h + b_h
    cells = {}
    for row, unit in np.ndindex(rows, units):
        cells[row, unit] = UNITS[kind]()
        own = [[array[row, gate * units + unit] for gate in range(gates)] for array in (x, h)]
        cells[row, unit].forward(*own, last[row, unit], last[row, unit])
    count = counted()

    reset()
    of_x, of_h = (np.empty((rows, gates * units), dtype=object) for _ in range(2))
    for row, unit in np.ndindex(rows, units):
        cell, carried = cells[row, unit], None
        if kind == "LSTM":
            cell.tanh_c, carried = cell.tanh_c.apply("tanh"), grad_c[row, unit]
        for_x, for_h, *_ = cell.backward(grad[row, unit], carried)
        of_x[row, unit::units], of_h[row, unit::units] = for_x, for_h
    meeting = counted()
    reset()
    if biased:
        Loops.add_up(zeros((gates * units,)), of_x)
        if kind == "GRU":
            Loops.add_up(zeros((gates * units,)), of_h)
    summed = counted()

    both = (Tensor((rows, gates * units)), Tensor((rows, gates * units)))
    biases = (Tensor((gates * units,)), Tensor((gates * units,))) if biased else (None, None)
    state = Tensor((rows, units))
    if kind == "LSTM":
        workspace = both[0].new(*both[0].shape)
        results: tuple[Tensor, ...] = (state.new(rows, units), state.new(rows, units), workspace)
        forward = OPERATORS["aten._thnn_fused_lstm_cell"](*both, state, *biases, out=results)
        backward = OPERATORS["aten._thnn_fused_lstm_cell_backward_impl"](
            state, state, state, results[1], workspace, biased, out=(both[0], state, biases[0])
        )
    else:
        workspace = state.new(rows, 5 * units)
        results = (state.new(rows, units), workspace)
        forward = OPERATORS["aten._thnn_fused_gru_cell"](*both, state, *biases, out=results)
        backward = OPERATORS["aten._thnn_fused_gru_cell_backward"](
            state, workspace, biased, out=(*both, state, *biases)
        )
    assert (forward.flops, forward.elementwise) == (0, count)
    assert (backward.flops, backward.elementwise) == (0, meeting + summed)
    assert sum(gradient.elementwise for gradient in forward.gradients) == meeting + summed


# -- against torch ------------------------------------------------------------------------------


def states(batch: int, units: int) -> dict[str, torch.Tensor]:
    return {"hx_": torch.randn(batch, units), "cx_": torch.randn(batch, units)}


def one_dnn(biased: bool) -> Callable[..., Any]:
    def run(**operands: torch.Tensor) -> Any:
        if not biased:
            operands |= {
                f"weight{index + 2}": torch.zeros_like(operands[f"weight{index}"].detach())
                for index in range(2)
            }
        names = ("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_")
        return aten.mkldnn_rnn_layer(
            *(operands[name] for name in names), False, [], 2, 4, 1, biased, False, False, True
        )

    return run


@pytest.mark.parametrize("biased", [True, False])
def test_one_dnn_executed(biased: bool) -> None:
    """GIVEN the CPU's LSTM, WHEN some of its operands need a gradient, THEN backward does the work
    that forward's formula says, and autograd keeps the bytes that it says."""
    inputs = {
        "input": torch.randn(3, 2, 5),
        "weight0": torch.randn(16, 5),
        "weight1": torch.randn(16, 4),
        **({"weight2": torch.randn(16), "weight3": torch.randn(16)} if biased else {}),
        **states(2, 4),
    }
    choices = [choice for choice in subsets(inputs) if len(choice) in (1, 2, len(inputs))]
    agrees_with_torch("aten.mkldnn_rnn_layer", one_dnn(biased), inputs, choices)


def takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN's LSTM takes it on this processor."""
    try:
        workspace_of(1, 1, 1, 1, dtype)
    except RuntimeError:
        return False
    return True


def workspace_of(steps: int, sequences: int, inputs: int, units: int, dtype: torch.dtype) -> int:
    """Bytes of the workspace that the operator really returns."""
    shapes = [(steps, sequences, inputs), (4 * units, inputs), (4 * units, units)]
    shapes += [(4 * units,), (4 * units,), (sequences, units), (sequences, units)]
    operands = [torch.zeros(shape, dtype=dtype) for shape in shapes]
    *_, workspace = aten.mkldnn_rnn_layer(
        *operands, False, [], 2, units, 1, True, False, False, True
    )
    return int(workspace.nbytes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 40),
    sequences=st.integers(1, 40),
    inputs=st.sampled_from([1, 5, 16, 17, 64, 100, 255, 256, 300, 512, 1024]),
    units=st.sampled_from([1, 3, 16, 17, 32, 64, 100, 128, 256, 300, 512]),
)
def test_one_dnn_workspace(
    dtype: torch.dtype, steps: int, sequences: int, inputs: int, units: int
) -> None:
    """GIVEN sizes, THEN oneDNN keeps as many bytes as its rules say: rows that fill cache lines and
    pages or don't, inputs wider and narrower than the units."""
    if not takes(dtype):
        pytest.skip("this processor has no such LSTM")
    assert workspace_of(steps, sequences, inputs, units, dtype) == onednn_workspace(
        steps,
        sequences,
        inputs,
        units,
        itemsize=dtype.itemsize,
        state_itemsize=dtype.itemsize,
        parts=onednn_parts_here(),
    )


def test_one_dnn_workspace_by_hand() -> None:
    """20 steps of 35 sequences, 650 -> 650: 700 rows and, with the first state, for the layer and
    its input, 1,470. Rows of 2,600 gates are padded to 2,608, of 650 to 656, but for cell states.
    In float32, gates 7,302,400, outputs 1,836,800, states 3,857,280 and 3,822,000, gradients twice
    3,857,280 and 3,822,000; each rounded up to 4,096."""
    pages = (1_783, 449, 942, 934, 942, 942, 934)
    assert sum(pages) * 4096 == 28_368_896
    assert onednn_workspace(20, 35, 650, 650, itemsize=4, state_itemsize=4) == 28_368_896


@pytest.mark.parametrize(
    ("kind", "more", "numbers"),
    [
        # Of 6 rows of 4 units: four gates and c; three gates and h_n; of tanh nothing, for the
        # result tells. Two layers: what the first one gives the second.
        ("LSTM", {}, 6 * 5 * 4),
        ("GRU", {}, 6 * 4 * 4),
        ("RNN", {}, 0),
        ("LSTM", {"num_layers": 2}, 2 * 6 * 5 * 4 + 6 * 4),
        ("GRU", {"num_layers": 2, "bidirectional": True}, 2 * (2 * 6 * 4 * 4) + 2 * 6 * 4),
        # And what is yet to be projected.
        ("LSTM", {"num_layers": 2, "proj_size": 3}, 2 * 6 * (5 * 4 + 4) + 6 * 3),
    ],
)
def test_cudnn_reserve(kind: str, more: dict[str, Any], numbers: int) -> None:
    module = module_of(kind, 5, 4, True, **more)
    stack = network(
        CELLS[kind],
        Tensor((3, 2, 5)),
        [Tensor(tuple(weight.shape)) for weight in module._flat_weights],
        sequences=2,
        directions=1 + more.get("bidirectional", False),
        biased=True,
        dropout=0,
    )
    assert cudnn_reserve(stack, 2) == 2 * numbers


def cell_by_cell(module: torch.nn.RNNBase, x: torch.Tensor) -> Step:
    """In double precision, which oneDNN does not take."""
    module = copy.deepcopy(module).double()
    x = x.detach().double().requires_grad_(x.requires_grad)
    return executed(lambda: module(x))


@pytest.mark.parametrize("input_grad", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        *((kind, {}) for kind in CELLS),
        *((kind, {"num_layers": 2, "bidirectional": True}) for kind in CELLS),
        ("LSTM", {"proj_size": 3, "num_layers": 2}),
        ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
    ],
)
def test_cell_by_cell(kind: str, more: dict[str, Any], biased: bool, input_grad: bool) -> None:
    """GIVEN a recurrent module, THEN the products that it really executes cell by cell add up to
    those of the fused formula, forward and backward, with and without a gradient of the input."""
    module = module_of(kind, 5, 4, biased, batch_first=True, **more)
    step = cell_by_cell(module, torch.randn(2, 3, 5, requires_grad=input_grad))
    layers = network(
        CELLS[kind],
        Tensor((2, 3, 5)),
        [Tensor(tuple(weight.shape)) for weight in module._flat_weights],
        sequences=2,
        directions=1 + more.get("bidirectional", False),
        biased=biased,
        dropout=0,
    )
    of_input, _, between, of_weight = layers.parts
    backward = between.flops + of_weight.flops + (of_input.flops if input_grad else 0)
    assert step.flops == (layers.flops, backward)
    assert step.law == backward


@pytest.mark.parametrize("input_grad", [True, False])
@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "bidirectional": True}])
def test_lstm_module(more: dict[str, Any], input_grad: bool) -> None:
    """GIVEN nn.LSTM with oneDNN, THEN it costs what it costs cell by cell."""
    module = torch.nn.LSTM(5, 4, batch_first=True, **more)
    x = torch.randn(2, 3, 5, requires_grad=input_grad)
    fused = executed(lambda: module(x))
    assert "aten.mkldnn_rnn_layer" in [work.op for work in fused.forward]
    apart = cell_by_cell(module, x)
    assert fused.flops[0] == apart.flops[0]
    assert fused.law == apart.law == apart.flops[1]


def cudnn_operands(kind: str, layers: int, directions: int) -> dict[str, Any]:
    """As nn.GRU and nn.LSTM call cuDNN, with biases and dropout."""
    gates, mode = {"GRU": (3, 3), "LSTM": (4, 2)}[kind]
    weights = []
    for layer in range(layers):
        width = 5 if layer == 0 else 4 * directions
        shapes = ((4 * gates, width), (4 * gates, 4), (4 * gates,), (4 * gates,))
        weights += [Tensor(shape) for _ in range(directions) for shape in shapes]
    state = Tensor((layers * directions, 2, 4))
    return {
        "input": Tensor((3, 2, 5)),
        "weight": tuple(weights),
        "weight_stride0": 4,
        "weight_buf": Tensor((sum(weight.numel for weight in weights),)),
        "hx": state,
        "cx": state if kind == "LSTM" else None,
        "mode": mode,
        "hidden_size": 4,
        "proj_size": 0,
        "num_layers": layers,
        "batch_first": False,
        "dropout": 0.5,
        "train": True,
        "bidirectional": directions == 2,
        "batch_sizes": (),
        "dropout_state": None,
    }


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_cudnn_backward(kind: str) -> None:
    """Forward says of backward what backward's own formula says; the weights' part is left out
    where it is not asked for."""
    operands = cudnn_operands(kind, 2, 2)
    output, reserve = Tensor((3, 2, 8)), Tensor((77,), 1)
    forward = OPERATORS["aten._cudnn_rnn"](
        **operands, out=(output, operands["hx"], operands["cx"], reserve, operands["weight_buf"])
    )
    backwards = [
        OPERATORS["aten._cudnn_rnn_backward"](
            **operands,
            output=output,
            grad_output=output,
            grad_hy=None,
            grad_cy=None,
            reserve=reserve,
            output_mask=(True, True, True, weights),
            out=(),
        )
        for weights in (True, False)
    ]
    assert work_by_operand(forward.gradients) == work_by_operand(backwards[0].parts)
    of_data = [work for work in forward.gradients if work.operand != "weight"]
    assert work_by_operand(of_data) == work_by_operand(backwards[1].parts)
    tested = OPERATORS["aten._cudnn_rnn"](
        **{**operands, "train": False}, out=(output, operands["hx"], None, reserve, None)
    )
    dropout = 2 * 6 * 8
    assert forward.elementwise - tested.elementwise == dropout
    # Adding up both directions: of the input 6 rows of 5, of the second layer's 6 rows of 8.
    of_input, _, between, _ = backwards[0].parts
    assert of_input.elementwise == 30
    alone = 4 * (6 * CELLS[kind].backward * 4 + 4 * sum(CELLS[kind].carried) * 4)
    assert between.elementwise == alone + 48 + dropout


@pytest.mark.filterwarnings("ignore")
def test_cudnn_keeps() -> None:
    """On meta tensors cuDNN's LSTM keeps what its formula says."""
    operands = cudnn_operands("LSTM", 1, 1)

    def meta(described: Tensor) -> torch.Tensor:
        return torch.empty(described.shape, device="meta", requires_grad=True)

    weights = [meta(weight) for weight in operands["weight"]]
    arguments = [meta(operands["input"]), weights, 4, None, meta(operands["hx"])]
    settings_ = [2, 4, 0, 1, False, 0.0, True, False, [], None]
    state = meta(operands["cx"])
    with torch.no_grad():
        cost = executed(lambda: aten._cudnn_rnn(*arguments, state, *settings_)).forward[0].cost
    kept = {id(tensor.storage): tensor.nbytes for tensor in cost.gradients[0].saves}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = aten._cudnn_rnn(*arguments, state, *settings_)
    assert len(out) == 5
    assert sum(saved.values()) == sum(kept.values())


def test_lstm_cell_on_cuda() -> None:
    """GIVEN the fused gates of CUDA's LSTM cell, on meta tensors, THEN backward's work and the
    bytes kept are what forward's formula says, both gradients having come."""
    inputs = {
        "input_gates": torch.empty(2, 16, device="meta"),
        "hidden_gates": torch.empty(2, 16, device="meta"),
        "cx": torch.empty(2, 4, device="meta"),
        "input_bias": torch.empty(16, device="meta"),
        "hidden_bias": torch.empty(16, device="meta"),
    }
    step = agrees_with_torch(
        "aten._thnn_fused_lstm_cell",
        lambda **operands: aten._thnn_fused_lstm_cell(*operands.values()),
        inputs,
        [("input_gates",), ("cx",), ("hidden_bias",), tuple(inputs)],
    )
    assert step.cost("aten._thnn_fused_lstm_cell").elementwise == 22 * 8 + 2 * 32
    backward = step.cost("aten._thnn_fused_lstm_cell_backward_impl")
    assert backward.elementwise == (21 + 2) * 8 + 32


@pytest.mark.parametrize("biased", [True, False])
def test_gru_cell_on_cuda(biased: bool) -> None:
    """No meta kernel: forward's formula says of backward what backward's own says."""
    gates, hx = Tensor((2, 12)), Tensor((2, 4))
    workspace = Tensor((2, 20))
    biases = (Tensor((12,)), Tensor((12,))) if biased else (None, None)
    forward = OPERATORS["aten._thnn_fused_gru_cell"](
        gates, Tensor((2, 12)), hx, *biases, out=(Tensor((2, 4)), workspace)
    )
    backward = OPERATORS["aten._thnn_fused_gru_cell_backward"](
        Tensor((2, 4)), workspace, biased, out=()
    )
    assert work_by_operand(forward.gradients) == work_by_operand(backward.parts)
    assert forward.elementwise == 16 * 8 + (2 * 24 if biased else 0)
    assert backward.elementwise == 16 * 8 + (2 * 24 if biased else 0)


@pytest.mark.parametrize("kind", list(CELLS))
def test_whole_in_inference_mode(kind: str) -> None:
    """GIVEN inference mode, where a dispatch mode sees modules and cells whole, THEN they have the
    products that they have in their parts."""
    module = module_of(kind, 5, 4, True, num_layers=2, bidirectional=True)
    x = torch.randn(3, 2, 5)
    parts = cell_by_cell(module, x)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [3, 2])
    with torch.inference_mode():
        whole = executed(lambda: module(x))
        unlike = executed(lambda: module(packed)[0].data)
    assert len(whole.forward) == 1
    assert whole.flops == (parts.flops[0], 0)
    assert 6 * unlike.flops[0] == 5 * whole.flops[0]

    more = {"nonlinearity": "relu"} if kind == "RNN relu" else {}
    cell = getattr(torch.nn, kind.split()[0] + "Cell")(5, 4, **more)
    by_parts = executed(lambda: cell(x[0]))
    with torch.inference_mode():
        by_itself = executed(lambda: cell(x[0]))
    assert by_itself.flops[0] == by_parts.flops[0]
    elementwise = [sum(work.cost.elementwise for work in step.forward)
                   for step in (by_itself, by_parts)]  # fmt: skip
    assert elementwise[0] == elementwise[1]


def figures(t: Any, b: Any, i: Any, h: Any) -> dict[str, Any]:
    """A bidirectional LSTM layer of cuDNN."""
    weights = [Tensor((4 * h, i)), Tensor((4 * h, h)), Tensor((4 * h,)), Tensor((4 * h,))] * 2
    layers = network(LSTM, Tensor((t, b, i)), weights, b, 2, True, 0)
    return {
        "forward": layers.flops,
        "elementwise": layers.elementwise,
        **{f"{part.operand} flops": part.flops for part in layers.parts},
        **{f"{part.operand} elementwise": part.elementwise for part in layers.parts},
    }


def test_arrays_and_symbols() -> None:
    """The same formula takes ints, arrays of ints and symbols."""
    points = [(1, 2, 3, 4), (6, 1, 4, 8), (20, 3, 128, 256)]
    by_arrays = figures(*(exact(column) for column in zip(*points, strict=True)))
    symbols = sympy.symbols("t b i h", integer=True, positive=True)
    by_symbols = figures(*symbols)
    for index, point in enumerate(points):
        for name, expected in figures(*point).items():
            assert np.broadcast_to(by_arrays[name], len(points))[index] == expected
            found = sympy.sympify(by_symbols[name])
            assert found.subs(dict(zip(symbols, point, strict=True))) == expected
