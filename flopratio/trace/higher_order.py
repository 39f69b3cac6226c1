"""Higher-order operators (``torch.cond``, ``scan``, ``flex_attention``): operators that are given
functions. What is executed is what the functions do, so that these are recorded; attention with a
function on each score is one kernel with a formula, which is told what the function does to one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule

from flopratio.torch_private import (
    FakeTensor,
    FakeTensorMode,
    HigherOrderOperator,
    OperatorBase,
    disable_current_modes,
    eager_kernel,
    indexing_without_values,
    tree_iter,
)
from flopratio.trace.recording import FUNCTION, GUESSED, OPENED, Argument, Operator, Recording

SCORE_FUNCTIONS: Mapping[str, Mapping[str, int]] = {
    "flex_attention": {"score_mod": 0},
    "flex_attention_backward": {"fw_graph": 0, "joint_graph": 1},
}
"""Operators that are one kernel: their arguments that are functions of a score and its four
indices, and how many gradients they are given beside."""

PREDICATES: Mapping[str, int] = {"cond": 0, "while_loop": 0, "while_loop_stack_output": 0}
"""Operators that a value tells which function to call, or how often: the position of that value, or
of the function that gives it."""


class Noted:
    """Something whose note is made already."""

    def __init__(self, note: Any) -> None:
        self.note = note


class Opened:
    """A function that a higher-order operator calls, recorded while it runs. (All its attributes
    are the function's: an operator may ask for a graph's nodes.)"""

    def __init__(self, function: Callable[..., Any], recording: Any) -> None:
        self._function = function
        self._recording = recording

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._recording():
            return _body(self._function)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def _body(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a function does; of a graph without being called as a module, which it is not."""
    return function.forward if isinstance(function, GraphModule) else function


def is_function(value: Any) -> bool:
    """Whether an argument of a higher-order operator is a function of the user's, or a graph of
    one."""
    return inspect.isroutine(value) or isinstance(value, GraphModule) or _is_wrapper(value)


def _is_wrapper(value: Any) -> bool:
    """Of a function: a ``functools.partial``, or an object with a call of its own."""
    plain = (torch.Tensor, type, OperatorBase)
    return callable(value) and not isinstance(value, plain)


def is_one_kernel(operator: HigherOrderOperator) -> bool:
    """Whether an operator is executed as a whole."""
    return operator.__name__ in SCORE_FUNCTIONS


class Guess:
    """A condition on a value: where there is none, it holds once."""

    def __init__(self, condition: Any) -> None:
        self._condition = condition
        self._rounds = 0

    @property
    def is_guessed(self) -> bool:
        return self._rounds > 0

    def __call__(self, *args: Any) -> Any:
        value = self._condition(*args) if callable(self._condition) else self._condition
        if not isinstance(value, FakeTensor):
            return value
        self._rounds += 1
        return self._rounds == 1


def call_on_fakes(
    operator: HigherOrderOperator, args: list[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, bool]:
    """The result of an operator on fake tensors, and whether a value was wanted that is not there.
    It runs as it does on real ones: torch's way on fake ones calls each function once, whatever the
    number of rounds.

    Args:
        args: functions among them enter what modes they need.
    """
    place = PREDICATES.get(operator.__name__)
    guess = None if place is None else Guess(args[place])
    if guess is not None and place is not None:
        args[place] = guess if callable(args[place]) else guess()
    with disable_current_modes():
        result = eager_kernel(operator)(*args, **kwargs)
    return result, guess is not None and guess.is_guessed


def noted_arguments(
    operator: HigherOrderOperator,
    args: tuple[Any, ...],
    record: Callable[[], tuple[Any, Recording]],
) -> tuple[Any, ...]:
    """The arguments with a note in each function's place.

    Args:
        record: makes a mode that records, and what it records in.
    """
    if not is_one_kernel(operator):
        return tuple(
            Noted(getattr(value, "__name__", type(value).__name__)) if is_function(value) else value
            for value in args
        )
    names = [argument.name for argument in _arguments(operator, args)]
    given = dict(zip(names, args, strict=False))
    gradients = SCORE_FUNCTIONS[operator.__name__]
    buffers = given.get("score_mod_other_buffers", ())
    for name, extra in gradients.items():
        given[name] = Noted(_what_it_does(given[name], 1, extra, buffers, record))
    *mask, mask_mod = given["block_mask"]
    buffers = given.get("mask_mod_other_buffers", ())
    does = Noted(_what_it_does(mask_mod, 0, 0, buffers, record))
    # It starts with numbers, and a list of numbers is noted as it is.
    given["block_mask"] = (*(Noted(x) if isinstance(x, int) else x for x in mask), does)
    return tuple(given.values())


def blocks_left(operator: HigherOrderOperator, args: tuple[Any, ...]) -> tuple[int, int] | None:
    """Of an attention under a block mask, how many blocks of scores that leaves, and of how many;
    None without one, or where its values are not there."""
    names = [argument.name for argument in _arguments(operator, args)]
    mask = dict(zip(names, args, strict=False)).get("block_mask", ())
    # After numbers: by rows of blocks how many columns are left, and which; of those that are left
    # whole likewise, or None.
    counts, columns, whole, *_ = [value for value in mask if not isinstance(value, int)]
    if any(isinstance(value, FakeTensor) for value in (counts, columns, whole)):
        return None
    with disable_current_modes(), torch.inference_mode():
        left = sum(int(value.sum()) for value in (counts, whole) if value is not None)
    return None if left == columns.numel() else (left, int(columns.numel()))


def _what_it_does(
    function: Callable[..., Any],
    scores: int,
    gradients: int,
    buffers: tuple[Any, ...],
    record: Callable[[], tuple[Any, Recording]],
) -> tuple[Any, ...]:
    """The operators that a function of a score calls, as a note; nothing but :data:`FUNCTION` and
    None if it can't be called without values."""
    fakes = (value.fake_mode for value in buffers if isinstance(value, FakeTensor))
    mode = next(fakes, None) or FakeTensorMode(allow_non_fake_inputs=True)
    recorder, recording = record()
    try:
        with disable_current_modes(), torch.no_grad(), mode, indexing_without_values():
            floats = [torch.zeros(()) for _ in range(scores + gradients)]
            indices = [torch.zeros((), dtype=torch.int32) for _ in range(4)]
            with recorder:
                _body(function)(*floats[:scores], *indices, *floats[scores:], *buffers)
    except Exception:  # whatever a user's function raises where values are wanted
        return FUNCTION, None
    return (
        FUNCTION,
        *((one.op, one.arguments, one.keywords, one.results) for one in recording.records),
    )


def _arguments(operator: HigherOrderOperator, args: tuple[Any, ...]) -> tuple[Argument, ...]:
    """The arguments of a call, named as the operator names them, else by their position."""
    parameters = [
        parameter.name
        for parameter in inspect.signature(type(operator).__call__).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ][1:]
    return tuple(
        Argument(
            parameters[place] if place < len(parameters) else f"argument_{place}",
            any(isinstance(item, torch.Tensor) for item in tree_iter(value)),
            is_out=False,
            kwarg_only=False,
            has_default=False,
            is_written=False,
        )
        for place, value in enumerate(args)
    )


def operator_of_call(
    operator: HigherOrderOperator,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    opened: bool,
    guessed: bool,
) -> Operator:
    """What is noted of a higher-order operator.

    Args:
        opened: whether what its functions do was recorded.
        guessed: whether which of them run, or how often, is not known.
    """
    positional = _arguments(operator, args)
    named = (
        Argument(
            name,
            any(isinstance(item, torch.Tensor) for item in tree_iter(value)),
            is_out=False,
            kwarg_only=True,
            has_default=True,
            is_written=False,
        )
        for name, value in kwargs.items()
    )
    overload = (GUESSED if guessed else OPENED) if opened else "default"
    name = f"higher_order.{operator.__name__}"
    return Operator.of(name, overload, (*positional, *named), False, False)
