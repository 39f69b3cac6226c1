"""Recurrent layers: RNN, GRU, LSTM, fused over the time steps (oneDNN, cuDNN) or cell by cell.

At every time step a cell multiplies the input by W_ih [G H, I] and its last output by W_hh
[G H, P]; with a projection W_hr [P, H] its state becomes the output (P = H without one). G is the
number of gates: 1, 3, 4. Over N rows (sequences and time steps together) of B sequences:

- forward: 2 N (G H I + G H P [+ P H]), each weight matrix once a row;
- grad_weight: as much;
- grad_input: 2 N G H I;
- the gradient of the last outputs: 2 G H P for each row but the B first ones, whose last output is
  the initial state: that is its gradient.

So a layer whose first state needs no gradient, the usual case, is a bit below 2:1. This is what
the products of the same layer, taken cell by cell, add up to.

Arithmetic apart from the products, by the definitions in torch.nn, for each of the H units of a
row. s is the sigmoid, 4 FLOP; its derivative 3, that of tanh 3 (both from the result).

RNN, h = tanh(x + h'):

- forward: addition, tanh; 2. (Or relu, a selection.)
- backward: derivative; 3. (Of relu 1.)

GRU, r = s(x_r + h_r), z = s(x_z + h_z), n = tanh(x_n + r h_n), h = n + z (h' - n):

- forward: r and z 5 each; n 3; h 3; together 16.
- backward: grad_z = grad_h (h' - n), 2, derivative 3; grad_n = grad_h (1 - z), 2, derivative 3;
  grad_h' gets grad_h z, 1; grad_h_n = grad_n r, 1; grad_r = grad_n h_n, 1, derivative 3;
  together 16.

LSTM, i = s(x_i + h_i), f and o alike, g = tanh(x_g + h_g), c = f c' + i g, h = o tanh(c):

- forward: i, f, o 5 each; g 2; c 3; h 2; together 22.
- backward: grad_o = grad_h tanh(c), 1, derivative 3; grad_c gets grad_h o, 1, derivative 3;
  grad_i = grad_c g, grad_f = grad_c c', grad_g = grad_c i, 1 each, derivatives 3 each;
  grad_c' = grad_c f, 1; together 21.

Biases are added to both x and h, 2 G H a row; their gradients are sums over the rows, G H a row:
one sum for both of them, except in the GRU, where r stands between. In backward a row's gradient
meets what comes from the next time step: an addition for each of its states and each way there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Part,
    Size,
    Tensor,
    operator,
    prod,
    same_shape,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Arithmetic apart from the products.

    Args:
        gates: G.
        forward, backward: FLOP of one unit in one row.
        carried: additions of gradients for each entry of the output (width P) and of the inner
            state (width H) when a row's gradient meets that of the next time step.
        bias_sums: how many sums the gradients of the two biases are.
        kept: numbers of one unit in one row that backward reads besides the layer's input and
            output: of the LSTM four gates and c; of the GRU three gates, and h_n.
    """

    gates: int
    forward: int
    backward: int
    carried: tuple[int, int]
    bias_sums: int = 1
    kept: int = 0


RELU = Cell(gates=1, forward=2, backward=1, carried=(1, 0))
TANH = Cell(gates=1, forward=2, backward=3, carried=(1, 0))
LSTM = Cell(gates=4, forward=22, backward=21, carried=(1, 1), kept=5)
GRU = Cell(gates=3, forward=16, backward=16, carried=(2, 0), bias_sums=2, kept=4)
MODES = (RELU, TANH, LSTM, GRU)
"""By cuDNN's number of the mode, which oneDNN's operators use too."""


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of one layer.

    Args:
        cell: which kind.
        rows: N.
        sequences: B.
        input_weight, hidden_weight: W_ih and W_hh.
        biased: whether there are biases.
        projection: W_hr, if there is one.
    """

    cell: Cell
    rows: Size
    sequences: Size
    input_weight: Tensor
    hidden_weight: Tensor
    biased: bool = True
    projection: Tensor | None = None

    @property
    def gate_entries(self) -> Size:
        """G H."""
        return self.input_weight.shape[0]

    @property
    def units(self) -> Size:
        """H."""
        return self.gate_entries // self.cell.gates

    @property
    def output_width(self) -> Size:
        """P."""
        return self.hidden_weight.shape[1]

    @property
    def following(self) -> Size:
        """Rows that have one before them in their sequence."""
        return self.rows - self.sequences

    @property
    def input_flops(self) -> Size:
        return 2 * self.rows * self.input_weight.numel

    @property
    def hidden_flops(self) -> Size:
        return 2 * self.rows * self.hidden_weight.numel

    @property
    def projection_flops(self) -> Size:
        return 0 if self.projection is None else 2 * self.rows * self.projection.numel

    @property
    def flops(self) -> Size:
        """Each weight matrix, once a row."""
        return self.input_flops + self.hidden_flops + self.projection_flops

    @property
    def elementwise(self) -> Size:
        biases = 2 * self.gate_entries if self.biased else 0
        return self.rows * (self.cell.forward * self.units + biases)

    @property
    def initial_flops(self) -> Size:
        """The gradient of the initial output."""
        return 2 * self.sequences * self.hidden_weight.numel

    @property
    def inner_flops(self) -> Size:
        """The gradients of the last outputs but the initial one, and through the projection."""
        return 2 * self.following * self.hidden_weight.numel + self.projection_flops

    @property
    def inner_elementwise(self) -> Size:
        outputs, states = self.cell.carried
        carried = outputs * self.output_width + states * self.units
        return self.rows * self.cell.backward * self.units + self.following * carried

    @property
    def bias_elementwise(self) -> Size:
        """The gradients of both biases."""
        return self.cell.bias_sums * self.rows * self.gate_entries if self.biased else 0


# -- oneDNN: one layer, one direction -----------------------------------------------------------


def onednn_parts(direction: Direction) -> tuple[Part, ...]:
    """Backward: initial states, inputs, weights, biases; and what stands between, which is needed
    for any of them."""
    weights = ("weight0", "weight1")
    biases = ("weight2", "weight3") if direction.biased else ()
    of_biases = (Part(biases, elementwise=direction.bias_elementwise),) if biases else ()
    return (
        Part("input", flops=direction.input_flops),
        Part("weight0", flops=direction.input_flops),
        Part("weight1", flops=direction.hidden_flops),
        *of_biases,
        Part("hx_", flops=direction.initial_flops),
        Part(
            ("input", *weights, *biases, "hx_", "cx_"),
            flops=direction.inner_flops,
            elementwise=direction.inner_elementwise,
            inner=True,
        ),
    )


@operator("aten.mkldnn_rnn_layer")
def mkldnn_rnn_layer(
    input: Tensor,
    weight0: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    weight3: Tensor,
    hx_: Tensor,
    cx_: Tensor,
    reverse: bool,
    batch_sizes: Sequence[Size],
    mode: int,
    hidden_size: Size,
    num_layers: Size,
    has_biases: bool,
    bidirectional: bool,
    batch_first: bool,
    train: bool,
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """input[T, B, I] through W_ih = weight0, W_hh = weight1 and, if ``has_biases``, the biases
    weight2 and weight3 (zeros of the weights' shapes otherwise). All of it is kept, and a
    workspace, see :func:`onednn_workspace`, which there is none of without autograd."""
    rows = prod(input.shape[:-1])
    direction = Direction(MODES[mode], rows, hx_.shape[0], weight0, weight1, has_biases)
    results = (each for each in out if each is not None)
    kept = (input, weight0, weight1, weight2, weight3, hx_, cx_, *results)
    return Cost(
        flops=direction.flops,
        elementwise=direction.elementwise,
        gradients=tuple(
            Gradient(
                part.operand,
                "aten.mkldnn_rnn_layer_backward",
                part.flops,
                part.elementwise,
                kept,
                inner=part.inner,
            )
            for part in onednn_parts(direction)
        ),
    )


PAGE = 4096
CACHE_LINE = 64


ONEDNN_PARTS = 7
"""In so many parts is the workspace of oneDNN's LSTM laid out; in two more by older releases."""


def onednn_workspace(
    steps: int,
    sequences: int,
    inputs: int,
    units: int,
    *,
    itemsize: int,
    state_itemsize: int,
    parts: int = ONEDNN_PARTS,
) -> int:
    """Bytes of the workspace that oneDNN's LSTM of one layer and direction keeps for backward.

    Of each time step it has the four gates and the outputs before a projection (which there is
    none of); and of each time step and the one before, for the layer and for its input, the outputs
    and the cell states, and in float32 the gradients of both and of the states that come from the
    next time step. Each of the seven starts at a page; rows of matrices are padded, see
    :func:`padded_row`, but those of cell states. (``set_conf`` and ``set_offsets`` in
    src/cpu/rnn/rnn_utils.{hpp,cpp} of oneDNN 3; the same for all of its x86 instruction sets.)
    The release in torch 2.8 has the outputs of the layer three times, as was found by asking it.

    Args:
        steps, sequences: T and B.
        inputs, units: I and H.
        itemsize: bytes an element of the input and the outputs.
        state_itemsize: of the cell state.
        parts: how many there are.
    """
    rows, states = steps * sequences, 2 * (steps + 1) * sequences
    widest = max(inputs, units)
    sizes = (
        rows * padded_row(4 * units, itemsize),
        rows * padded_row(units, itemsize),
        states * padded_row(widest, itemsize),
        states * units * state_itemsize,
        states * padded_row(widest, 4),
        states * padded_row(widest, 4),
        states * units * 4,
        *[states * padded_row(widest, itemsize)] * (parts - ONEDNN_PARTS),
    )
    return sum(-(-size // PAGE) * PAGE for size in sizes)


def padded_row(length: int, itemsize: int) -> int:
    """Bytes of a row of so many elements: whole cache lines, and one more where the elements are a
    multiple of 256, as rows that lie a page apart get into each other's way in the cache."""
    line = CACHE_LINE // itemsize
    elements = -(-length // line) * line
    return (elements + line if elements % 256 == 0 else elements) * itemsize


@operator("aten.mkldnn_rnn_layer_backward")
def mkldnn_rnn_layer_backward(
    input: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    weight3: Tensor,
    weight4: Tensor,
    hx_: Tensor,
    cx_tmp: Tensor,
    output: Tensor,
    hy_: Tensor,
    cy_: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    reverse: bool,
    mode: int,
    hidden_size: Size,
    num_layers: Size,
    has_biases: bool,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[Size],
    batch_first: bool,
    workspace: Tensor,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """All gradients, whichever are asked for. Its weights are called 1 to 4, not 0 to 3."""
    rows = prod(input.shape[:-1])
    direction = Direction(MODES[mode], rows, hx_.shape[0], weight1, weight2, has_biases)
    return Cost.fused(*onednn_parts(direction))


# -- cuDNN: all layers and directions -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecurrentStack:
    """All layers of a recurrent module.

    Args:
        layers: for each layer its directions, one or two.
        dropout: the probability, in training, that an entry between two layers is dropped.
    """

    layers: tuple[tuple[Direction, ...], ...]
    dropout: float

    @property
    def directions(self) -> tuple[Direction, ...]:
        return tuple(direction for layer in self.layers for direction in layer)

    def total(self, work: Callable[[Direction], Size]) -> Size:
        return sum(work(direction) for direction in self.directions)

    def input_entries(self, layer: tuple[Direction, ...]) -> Size:
        return layer[0].rows * layer[0].input_weight.shape[1]

    @property
    def dropout_elementwise(self) -> Size:
        """By the mask and by 1 / (1 - p): 2 for each entry between two layers."""
        if not self.dropout:
            return 0
        return sum(2 * self.input_entries(layer) for layer in self.layers[1:])

    def both_ways(self, layer: tuple[Direction, ...]) -> Size:
        """The gradients of a layer's input from its directions, added up."""
        return (len(layer) - 1) * self.input_entries(layer)

    @property
    def kept(self) -> Size:
        """How many numbers backward reads besides the input, the output and the states: of each
        cell, the outputs of all layers but the last, and those that are yet to be projected."""
        return self.total(
            lambda direction: direction.rows * direction.cell.kept * direction.units
        ) + sum(
            direction.rows
            * (
                (direction.output_width if layer is not self.layers[-1] else 0)
                + (direction.units if direction.projection is not None else 0)
            )
            for layer in self.layers
            for direction in layer
        )

    @property
    def flops(self) -> Size:
        return self.total(lambda direction: direction.flops)

    @property
    def elementwise(self) -> Size:
        return self.total(lambda direction: direction.elementwise) + self.dropout_elementwise

    @property
    def parts(self) -> tuple[Part, Part, Part, Part]:
        """Backward: of input, initial states, what stands between (needed for any of them), and
        weights and biases."""
        first, later = self.layers[0], self.layers[1:]
        between = sum(direction.input_flops for layer in later for direction in layer)
        return (
            Part(
                "input",
                flops=sum(direction.input_flops for direction in first),
                elementwise=self.both_ways(first),
            ),
            Part("hx", flops=self.total(lambda direction: direction.initial_flops)),
            Part(
                ("input", "weight", "hx", "cx"),
                flops=between + self.total(lambda direction: direction.inner_flops),
                elementwise=self.total(lambda direction: direction.inner_elementwise)
                + sum(self.both_ways(layer) for layer in later)
                + self.dropout_elementwise,
                inner=True,
            ),
            Part(
                "weight",
                flops=self.flops,
                elementwise=self.total(lambda direction: direction.bias_elementwise),
            ),
        )


def network(
    cell: Cell,
    input: Tensor,
    weights: Sequence[Tensor],
    sequences: Size,
    directions: int,
    biased: bool,
    dropout: float,
) -> RecurrentStack:
    """weights: for each direction of each layer W_ih, W_hh, two biases and W_hr, the last three if
    they are there."""
    rows = prod(input.shape[:-1])
    plain = 4 if biased else 2
    gate_entries, outputs = weights[1].shape
    projected = not same_shape((gate_entries,), (cell.gates * outputs,))
    each = plain + projected
    every = [
        Direction(
            cell,
            rows,
            sequences,
            weights[start],
            weights[start + 1],
            biased,
            weights[start + plain] if projected else None,
        )
        for start in range(0, len(weights), each)
    ]
    layers = [
        tuple(every[start : start + directions]) for start in range(0, len(every), directions)
    ]
    return RecurrentStack(tuple(layers), dropout)


@operator("aten._cudnn_rnn")
def cudnn_rnn(
    input: Tensor,
    weight: Sequence[Tensor],
    weight_stride0: int,
    weight_buf: Tensor | None,
    hx: Tensor,
    cx: Tensor | None,
    mode: int,
    hidden_size: Size,
    proj_size: Size,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[Size],
    dropout_state: Tensor | None,
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """input[T, B, I], or [B, T, I], or all rows of sequences of unlike lengths. What cuDNN reserves
    for backward is kept too. Its size is cuDNN's decision; see :func:`cudnn_reserve`."""
    layers = network(
        MODES[mode],
        input,
        weight,
        hx.shape[1],
        1 + bidirectional,
        weight_stride0 > 3,
        dropout if train else 0,
    )
    output, _, _, reserve, flat = out
    candidates = (input, *weight, hx, cx, output, reserve, flat, dropout_state)
    kept = tuple(tensor for tensor in candidates if isinstance(tensor, Tensor))
    return Cost(
        flops=layers.flops,
        elementwise=layers.elementwise,
        gradients=tuple(
            Gradient(
                part.operand,
                "aten._cudnn_rnn_backward",
                part.flops,
                part.elementwise,
                kept,
                part.inner,
            )
            for part in layers.parts
        ),
    )


def cudnn_reserve(stack: RecurrentStack, itemsize: int) -> Size:
    """Bytes of what cuDNN reserves for backward, by what the definitions in torch.nn let backward
    read: an estimate, as cuDNN doesn't say what it keeps; exactly that if it keeps each number
    once, and computes none again."""
    return stack.kept * itemsize


@operator("aten._cudnn_rnn_backward")
def cudnn_rnn_backward(
    input: Tensor,
    weight: Sequence[Tensor],
    weight_stride0: int,
    weight_buf: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    output: Tensor,
    grad_output: Tensor | None,
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    mode: int,
    hidden_size: Size,
    proj_size: Size,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[Size],
    dropout_state: Tensor | None,
    reserve: Tensor,
    output_mask: Sequence[bool],
    *,
    out: tuple[Any, ...],
) -> Cost:
    """output_mask: of input, hx, cx and weight. cuDNN has one call for all gradients of data, and
    one for those of the weights, which is left out if nobody asks for them."""
    layers = network(
        MODES[mode],
        input,
        weight,
        hx.shape[1],
        1 + bidirectional,
        weight_stride0 > 3,
        dropout if train else 0,
    )
    *of_data, of_weight = layers.parts
    return Cost.fused(*of_data, *((of_weight,) if output_mask[3] else ()))


# -- CUDA: the gates of one time step -----------------------------------------------------------


@operator("aten._thnn_fused_lstm_cell")
def thnn_fused_lstm_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    cx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
    *,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """The LSTM's arithmetic but for the products, input_gates[B, 4 H] and hidden_gates[B, 4 H]. In
    backward two numbers a unit are added to that: tanh(c) is not kept and evaluated again, and
    the gradients of h and c meet."""
    backward = "aten._thnn_fused_lstm_cell_backward_impl"
    _, cy, workspace = out
    work = thnn_fused_lstm_cell_backward(
        cx, cx, cx, cy, workspace, input_bias is not None, out=(input_gates, cx, input_bias)
    )
    candidates = (input_gates, hidden_gates, cx, input_bias, hidden_bias, cy, workspace)
    kept = tuple(tensor for tensor in candidates if tensor is not None)
    biases = 0 if input_bias is None else 2 * input_gates.numel
    return Cost(
        elementwise=LSTM.forward * cx.numel + biases,
        gradients=tuple(
            Gradient(part.operand, backward, elementwise=part.elementwise, saves=kept)
            for part in work.parts
        ),
    )


@operator("aten._thnn_fused_lstm_cell_backward_impl")
def thnn_fused_lstm_cell_backward(
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    cx: Tensor,
    cy: Tensor,
    workspace: Tensor,
    has_bias: bool,
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """tanh(c), the derivatives of the gates, the sum of two gradients of c; and the bias's sum. The
    gradients of both products' gates are one, and so are those of both biases."""
    gates: tuple[str, ...] = ("input_gates", "hidden_gates", "cx")
    biases = ("input_bias", "hidden_bias") if has_bias else ()
    meeting = (LSTM.backward + 2) * cx.numel
    parts = (Part((*gates, *biases), elementwise=meeting),)
    return Cost.fused(*parts, *((Part(biases, elementwise=workspace.numel),) if biases else ()))


@operator("aten._thnn_fused_gru_cell")
def thnn_fused_gru_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    hx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """The GRU's arithmetic but for the products, input_gates[B, 3 H] and hidden_gates[B, 3 H]."""
    hy, workspace = out
    work = thnn_fused_gru_cell_backward(hy, workspace, input_bias is not None, out=())
    candidates = (input_gates, hidden_gates, hx, input_bias, hidden_bias, workspace)
    kept = tuple(tensor for tensor in candidates if tensor is not None)
    biases = 0 if input_bias is None else 2 * input_gates.numel
    return Cost(
        elementwise=GRU.forward * hx.numel + biases,
        gradients=tuple(
            Gradient(
                part.operand,
                "aten._thnn_fused_gru_cell_backward",
                elementwise=part.elementwise,
                saves=kept,
            )
            for part in work.parts
        ),
    )


@operator("aten._thnn_fused_gru_cell_backward")
def thnn_fused_gru_cell_backward(
    grad_hy: Tensor, workspace: Tensor, has_bias: bool, *, out: tuple[Tensor | None, ...]
) -> Cost:
    """The derivatives of the gates, and a sum for each bias."""
    biases = ("input_bias", "hidden_bias") if has_bias else ()
    operands = ("input_gates", "hidden_gates", "hx", *biases)
    return Cost.fused(
        Part(operands, elementwise=GRU.backward * grad_hy.numel),
        *(Part(bias, elementwise=3 * grad_hy.numel) for bias in biases),
    )


# -- whole modules and cells, as a dispatch mode sees them in inference mode --------------------


def whole_module(cell: Cell) -> OperatorFormula:
    """The formula of ``aten.lstm`` and its like."""

    def formula(input: Tensor, *arguments: Any, out: tuple[Tensor, ...]) -> Cost:
        """arguments: for sequences of unlike lengths their sizes; the states, the weights; then
        has_biases, num_layers, dropout, train, bidirectional."""
        start = next(i for i, argument in enumerate(arguments) if isinstance(argument, bool))
        states, weights = arguments[start - 2 : start]
        has_biases, _, dropout, train, bidirectional = arguments[start : start + 5]
        hx = states[0] if isinstance(states, Sequence) else states
        layers = network(
            cell,
            input,
            weights,
            hx.shape[1],
            1 + bidirectional,
            has_biases,
            dropout if train else 0,
        )
        return Cost(flops=layers.flops, elementwise=layers.elementwise)

    return formula


def whole_cell(cell: Cell) -> OperatorFormula:
    """The formula of ``aten.lstm_cell`` and its like."""

    def formula(
        input: Tensor,
        hx: Tensor | Sequence[Tensor],
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
        *,
        out: Tensor | tuple[Tensor, ...],
    ) -> Cost:
        rows = prod(input.shape[:-1])
        direction = Direction(cell, rows, rows, w_ih, w_hh, b_ih is not None)
        return Cost(flops=direction.flops, elementwise=direction.elementwise)

    return formula


for _name, _cell in (("rnn_relu", RELU), ("rnn_tanh", TANH), ("lstm", LSTM), ("gru", GRU)):
    operator(f"aten.{_name}")(whole_module(_cell))
    operator(f"aten.{_name}_cell")(whole_cell(_cell))


_LSTM_5_TO_4: dict[str, Any] = {
    "input": Tensor((3, 2, 5)),
    "weight0": Tensor((16, 5)),
    "weight1": Tensor((16, 4)),
    "weight2": Tensor((16,)),
    "weight3": Tensor((16,)),
    "hx_": Tensor((2, 4)),
    "cx_": Tensor((2, 4)),
    "reverse": False,
    "batch_sizes": (),
    "mode": 2,
    "hidden_size": 4,
    "num_layers": 1,
    "has_biases": True,
    "bidirectional": False,
    "batch_first": False,
    "train": True,
    "out": (Tensor((3, 2, 4)), Tensor((2, 4)), Tensor((2, 4)), Tensor((0,), 1)),
}

EXAMPLES += [
    Example(
        "aten.mkldnn_rnn_layer",
        _LSTM_5_TO_4,
        {"flops": 1_728, "elementwise": 720},
        "6 rows, weights 16 * 5 + 16 * 4 = 144: 2 * 6 * 144 = 1,728; "
        "22 a unit, 6 * 22 * 4 = 528, and biases 6 * 2 * 16 = 192",
    ),
    Example(
        "aten.lstm_cell",
        {
            "input": Tensor((2, 5)),
            "hx": (Tensor((2, 4)), Tensor((2, 4))),
            "w_ih": Tensor((16, 5)),
            "w_hh": Tensor((16, 4)),
            "out": (Tensor((2, 4)), Tensor((2, 4))),
        },
        {"flops": 576, "elementwise": 176},
        "2 rows of 144 multiply-adds: 576; 22 * 2 * 4 = 176",
    ),
    Example(
        "aten._cudnn_rnn",
        {
            "input": Tensor((3, 2, 5)),
            "weight": (Tensor((12, 5)), Tensor((12, 4))) * 2
            + (Tensor((12, 8)), Tensor((12, 4))) * 2,
            "weight_stride0": 2,
            "weight_buf": None,
            "hx": Tensor((4, 2, 4)),
            "cx": None,
            "mode": 3,
            "hidden_size": 4,
            "proj_size": 0,
            "num_layers": 2,
            "batch_first": False,
            "dropout": 0.5,
            "train": True,
            "bidirectional": True,
            "batch_sizes": (),
            "dropout_state": None,
            "out": (Tensor((3, 2, 8)), Tensor((4, 2, 4)), Tensor((0,)), Tensor((0,), 1), None),
        },
        {"flops": 6_048, "elementwise": 1_632},
        "a GRU of 2 layers, both ways: 2 * (12 * 5 + 12 * 4) + 2 * (12 * 8 + 12 * 4) = 504 weights "
        "in 6 rows, 6,048; 16 a unit, 4 * 6 * 16 * 4 = 1,536, dropout 2 * 6 * 8 = 96",
    ),
]
