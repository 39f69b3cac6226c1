"""Fake tensors for a training step: a module made of them, and the mode that runs it.

A fake tensor has a shape, a dtype and a device, and no values, so that a step costs neither memory
nor arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from flopratio.errors import UsageError
from flopratio.formulas import Tensor as Shape
from flopratio.formulas.recurrent import (
    MODES,
    ONEDNN_PARTS,
    PAGE,
    cudnn_reserve,
    network,
    onednn_workspace,
)
from flopratio.models.nonzeros import remember_nonzeros
from flopratio.torch_private import (
    FakeTensor,
    FakeTensorMode,
    RuledFakeTensorMode,
    disable_current_modes,
    is_traceable_wrapper_subclass,
    make_fake,
    named_submodules,
    own_buffers,
    own_parameters,
    sparse_parts,
    transform_subclass,
)

aten = torch.ops.aten


class StepMode(RuledFakeTensorMode):
    """Fake tensors for training steps, of models that plain fake tensors turn down.

    - A selection by a *real* mask has a known size, and so have sequences of real lengths that are
      packed, and a loss on such ones.
    - Rows that are looked up in an embedding by *real* numbers have to be in it, as in a real step.
    - `aten._grouped_mm` (mixture of experts) has a shape in every floating type; torch's own shape
      function knows bf16 only, though its kernels know the others.
    - A product of operands of unlike dtypes is refused, as with values.
    - The statistics of a norm have the type that a real one gives them.
    - What a recurrent layer keeps for its backward has a size, and cuDNN's has a backward.
    - A model that checks its values for infinities and NaN is told that there are none.
    - Sequences under a padding mask stay padded: the lengths of nested ones are values.
    - With `select_all`, a selection by a mask without values selects everything: an upper bound,
      for losses that pick their hardest examples.
    - With `spread`, the largest of values that are not there are at each position in turn, and
      these positions are real numbers: a router then sends tokens to its experts in balance.

    Attributes:
        target: ``cuda`` or ``cpu``, whose norms are meant.
    """

    def __init__(self, *, select_all: bool = False, spread: bool = False) -> None:
        super().__init__()
        self.select_all = select_all
        self.spread = spread
        self.target = "cpu"


def fake_module(module: nn.Module, mode: FakeTensorMode, *, keep_integers: bool) -> None:
    """Make the parameters and buffers of `module` fake CPU tensors of `mode`, in place.

    Shared tensors stay shared. With `keep_integers`, integer and boolean buffers that have values
    keep them.
    """
    done: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (original, kept alive; its replacement)

    def replacement(tensor: Tensor) -> Tensor:
        if id(tensor) not in done:
            stand_in = fake(tensor, mode, keep_integers=keep_integers)
            if not isinstance(tensor, nn.Parameter):
                remember_nonzeros(tensor, stand_in)
            done[id(tensor)] = (tensor, stand_in)
        return done[id(tensor)][1]

    for _, submodule in named_submodules(module):
        own = {**own_parameters(submodule), **own_buffers(submodule)}
        for name, tensor in own.items():
            # By attribute, so that an LSTM renews its flat list of weights.
            setattr(submodule, name, replacement(tensor))
        for name, value in list(vars(submodule).items()):
            if isinstance(value, Tensor) and value.is_meta:
                setattr(submodule, name, replacement(value))


def fake(
    tensor: Tensor,
    mode: FakeTensorMode,
    *,
    keep_integers: bool,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The fake CPU tensor of `mode` in the place of a real or meta one; a parameter stays one.

    A sparse tensor with values keeps them.

    Args:
        keep_integers: integers and truth values stay real ones.
        dtype: of the fake, if it is a floating-point tensor; its own unless given.
    """
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        return tensor
    converts = dtype is not None and tensor.is_floating_point() and tensor.dtype is not dtype
    if isinstance(tensor, FakeTensor) and not converts:
        return tensor
    if keep_integers and not tensor.is_meta and not _is_inexact(tensor):
        return tensor
    if sparse_parts(tensor) and not tensor.is_meta:  # its non-zeros tell what its products cost
        return tensor
    if tensor.is_nested and not is_traceable_wrapper_subclass(tensor):
        raise UsageError(
            "a nested tensor of the strided layout has no sizes without values: make it with "
            "layout=torch.jagged, or profile the step with fr.Profiler"
        )
    stand_in = tensor.detach()
    if is_traceable_wrapper_subclass(tensor):
        # Of the tensors in it; the whole numbers among them (offsets) say how it is made up.
        def inner(_: str, part: Any) -> Any:
            return fake(part, mode, keep_integers=True) if isinstance(part, Tensor) else part

        stand_in = transform_subclass(stand_in.to(dtype) if converts else stand_in, inner)
    else:
        if not isinstance(tensor, FakeTensor):
            stand_in = stand_in.to("meta")
        if converts:
            stand_in = stand_in.to(dtype)
        if not isinstance(stand_in, FakeTensor):
            stand_in = make_fake(mode, stand_in)
    if isinstance(tensor, nn.Parameter):
        stand_in = nn.Parameter(stand_in, requires_grad=tensor.requires_grad)
        for name, value in vars(tensor).items():  # marks such as _no_weight_decay
            setattr(stand_in, name, value)
        return stand_in
    return stand_in.requires_grad_(tensor.requires_grad)


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _index(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """x[indices], each mask whose number of elements can be told being replaced by positions."""
    x, indices = args
    positions: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            positions.append(index)
        elif not isinstance(index, FakeTensor):
            positions.extend(index.nonzero(as_tuple=True))
        elif mode.select_all:
            everything = index.new_empty(index.numel(), dtype=torch.int64)
            positions.extend([everything] * index.dim())
        else:
            positions.append(index)
    return mode.plain(func, (x, positions), kwargs)


def _masked_select(
    mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    x, mask = args
    if isinstance(mask, FakeTensor):
        return mode.plain(func, args, kwargs)
    return x.new_empty(int(mask.expand(torch.broadcast_shapes(x.shape, mask.shape)).sum()))


def _no_nesting(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a padding mask can make nested tensors."""
    return False


def _embedding(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    table, rows = args[:2]
    if not isinstance(rows, FakeTensor) and rows.numel() and int(rows.max()) >= table.size(0):
        last = int(rows.max())
        raise IndexError(f"row {last} is out of range of an embedding of {table.size(0)} rows")
    return mode.plain(func, args, kwargs)


def _pack(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Of sequences of these lengths all rows, those of the first time step first; and how many
    there are of each time step."""
    x, lengths = args[:2]
    if isinstance(lengths, FakeTensor):
        return mode.plain(func, args, kwargs)
    with disable_current_modes():
        steps = torch.arange(int(lengths.max()))
        sizes = (lengths > steps[:, None]).sum(1)
    return x.new_empty(int(lengths.sum()), *x.shape[2:]), sizes


def _ctc_loss(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Loss [N] and log-alphas [N, T, 2 * longest target + 1] for log-probabilities [T, N, C]."""
    log_probs, _, _, target_lengths = args[:4]
    if isinstance(target_lengths, FakeTensor):
        return mode.plain(func, args, kwargs)
    steps, batch, _ = log_probs.shape
    states = 2 * int(target_lengths.max()) + 1
    return log_probs.new_empty(batch), log_probs.new_empty((batch, steps, states))


def _largest(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The positions of the k largest of each row, by turns: 0 to k - 1, k to 2 k - 1, and so on."""
    result = mode.plain(func, args, kwargs)
    positions = result if isinstance(result, Tensor) else result[1]
    x = args[0]
    place = 2 if func is aten.topk.default else 1
    dim = args[place] if len(args) > place else kwargs.get("dim", -1 if place == 2 else None)
    last = dim in (-1, x.dim() - 1)
    if not mode.spread or not last or not x.is_floating_point() or not x.numel():
        return result
    with disable_current_modes():
        spread = torch.arange(positions.numel()) % x.size(-1)
    spread = spread.view(positions.shape)
    return spread if isinstance(result, Tensor) else type(result)((result[0], spread))


def _product(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Operands of unlike dtypes: torch is asked of as many real ones, of one element each."""
    dtype = args[0].dtype
    for arg in args:
        if arg.dtype is not dtype:
            with disable_current_modes():
                func(*(torch.zeros([1] * each.dim(), dtype=each.dtype) for each in args), **kwargs)
            break
    return mode.plain(func, args, kwargs)


def _norm(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result, and the statistics: in float32 of low-precision input on CUDA, and of the
    weight's type on the CPU and in group norm; torch's shape function gives them the input's."""
    out, *statistics = cast("tuple[Tensor, ...]", mode.plain(func, args, kwargs))
    x = args[0]
    weight = args[2] if func is aten.native_layer_norm.default else args[1]
    dtype = x.dtype if weight is None else weight.dtype
    is_group_norm = func is aten.native_group_norm.default
    if mode.target == "cuda" and x.dtype.itemsize == 2 and not is_group_norm:
        dtype = torch.float32
    if all(statistic.dtype is dtype for statistic in statistics):
        return out, *statistics
    return out, *(statistic.new_empty(statistic.shape, dtype=dtype) for statistic in statistics)


def _onednn_rnn(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One layer and direction of an LSTM: input[T, B, I], states[B, H]. Without autograd it gives
    no workspace, whatever its argument ``train``."""
    *results, workspace = cast("tuple[Tensor, ...]", mode.plain(func, args, kwargs))
    if not torch.is_grad_enabled():
        return *results, None
    x, cell_state = args[0], args[6]
    nbytes = onednn_workspace(
        x.size(0),
        x.size(1),
        x.size(2),
        cell_state.size(-1),
        itemsize=x.itemsize,
        state_itemsize=cell_state.itemsize,
        parts=onednn_parts_here(),
    )
    return *results, workspace.new_empty(nbytes)


@cache
def onednn_parts_here() -> int:
    """In how many parts this torch's oneDNN lays the workspace out. It is asked for the smallest,
    whose parts are a page each; of a torch without oneDNN the newest release is taken."""
    if not torch.backends.mkldnn.is_available():
        return ONEDNN_PARTS
    with disable_current_modes(), torch.enable_grad():
        gates = torch.zeros(4, 1, dtype=torch.float32, device="cpu")
        one = gates[:1]
        *_, workspace = aten.mkldnn_rnn_layer(
            one[None], gates, gates, gates[:, 0], gates[:, 0], one, one,
            False, [], 2, 1, 1, True, False, False, True,
        )  # fmt: skip
    return int(workspace.nbytes) // PAGE


def _cudnn_rnn(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """All layers and directions. The weights lie one after the other, as cuDNN wants to have them:
    what it returns of them is no memory of its own."""
    output, hy, cy, reserve, _ = cast("tuple[Tensor, ...]", mode.plain(func, args, kwargs))
    x, parameters, stride, _, hx, _, kind, *_ = args
    dropout, train, bidirectional = args[11:14]
    stack = network(
        MODES[kind],
        Shape(tuple(x.shape)),
        [Shape(tuple(parameter.shape)) for parameter in parameters],
        hx.size(1),
        1 + bidirectional,
        stride > 3,
        dropout if train else 0,
    )
    nbytes = cudnn_reserve(stack, x.itemsize) if train else 0
    return output, hy, cy, reserve.new_empty(nbytes), x.new_empty(0)


def _cudnn_rnn_backward(
    mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """The gradients that ``output_mask`` asks for; those of the weights are parts of one."""
    x, parameters, _, _, hx, cx, *_ = args
    of_input, of_hx, of_cx, of_weights = args[21]
    gradients = []
    if of_weights:
        flat = x.new_empty(sum(parameter.numel() for parameter in parameters))
        parts = flat.split([parameter.numel() for parameter in parameters])
        gradients = [part.view(like.shape) for part, like in zip(parts, parameters, strict=True)]
    return (
        x.new_empty(x.shape) if of_input or of_hx or of_cx else None,
        hx.new_empty(hx.shape) if of_hx else None,
        cx.new_empty(cx.shape) if of_cx and cx is not None else None,
        gradients,
    )


def _grouped_mm(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """[S, K] @ [G, K, N] is [S, N], [G, M, K] @ [K, S] is [M, S], and [M, S] @ [S, N] [G, M, N]."""
    a, b = args[:2]
    offsets = args[2] if len(args) > 2 else kwargs.get("offs")
    dtype = args[4] if len(args) > 4 else kwargs.get("out_dtype")
    shape = (a.size(-2), b.size(-1))
    if a.dim() == b.dim():
        groups = a.size(0) if offsets is None else offsets.size(0)
        return a.new_empty((groups, *shape), dtype=dtype)
    return a.new_empty(shape, dtype=dtype)


def _item(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    (scalar,) = args
    return scalar.sound if hasattr(scalar, "sound") else mode.plain(func, args, kwargs)


def _check(mode: StepMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A part of a check for infinities and NaN; `sound` is what it finds in sound values."""
    result = mode.plain(func, args, kwargs)
    tensors: list[Any] = [arg for arg in args if isinstance(arg, Tensor)]
    if func in (aten.isinf.default, aten.isnan.default):
        result.sound = False
    elif func is aten.ne.Scalar:  # abs(x) != inf, of torch.isfinite
        if args[1] == math.inf:
            result.sound = True
    elif func is aten.eq.Tensor:  # x == x, of torch.isfinite
        if args[0] is args[1]:
            result.sound = True
    elif func is aten.eq.Scalar:  # a count of them is 0
        if hasattr(args[0], "sound"):
            result.sound = args[0].sound == args[1]
    elif all(hasattr(tensor, "sound") for tensor in tensors):
        either = func in (aten.any.default, aten.bitwise_or.Tensor)
        result.sound = (any if either else all)(tensor.sound for tensor in tensors)
    return result


StepMode.rules = {
    aten.index.Tensor: _index,
    aten.masked_select.default: _masked_select,
    aten._nested_tensor_from_mask_left_aligned.default: _no_nesting,
    aten.embedding.default: _embedding,
    aten._ctc_loss.Tensor: _ctc_loss,
    aten._pack_padded_sequence.default: _pack,
    # Convolutions check their dtypes on fake tensors too.
    aten.mm.default: _product,
    aten.addmm.default: _product,
    aten.mv.default: _product,
    aten.bmm.default: _product,
    aten.baddbmm.default: _product,
    aten._grouped_mm.default: _grouped_mm,
    aten.mkldnn_rnn_layer.default: _onednn_rnn,
    aten._cudnn_rnn.default: _cudnn_rnn,
    aten._cudnn_rnn_backward.default: _cudnn_rnn_backward,
    aten.native_layer_norm.default: _norm,
    aten.native_batch_norm.default: _norm,
    aten.native_group_norm.default: _norm,
    aten.topk.default: _largest,
    aten.max.dim: _largest,
    aten.argmax.default: _largest,
    aten._local_scalar_dense.default: _item,
    aten.isinf.default: _check,
    aten.isnan.default: _check,
    aten.ne.Scalar: _check,
    aten.eq.Tensor: _check,
    aten.mul.Tensor: _check,
    aten.bitwise_and.Tensor: _check,
    aten.bitwise_or.Tensor: _check,
    aten.all.default: _check,
    aten.all.dim: _check,
    aten.sum.default: _check,
    aten.sum.dim_IntList: _check,
    aten.eq.Scalar: _check,
    aten.any.default: _check,
}
