"""What of torch's own is replaced while the Profiler watches, each put back when its block ends.

Wrapped functions instead of hooks on modules: hooks would switch off fast paths, would be seen by
the user's code, and would be left out of step by a forward that raises.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import checkpoint

from flopratio.torch_private import (
    ENGINE,
    KEEP_CHECKPOINT_INPUT,
    is_topmost_saved_tensors_hook,
    next_sequence_number,
    pop_saved_tensors_hooks,
    push_saved_tensors_hooks,
)
from flopratio.trace.recorder import Kept, Recorder

PATCHING = threading.RLock()
"""Held while torch's own functions are replaced, by whoever replaces them: of two threads, the one
that ends last would leave the other's replacements behind."""

DISABLE_HOOKS = "disable_saved_tensors_hooks"

_NONE = object()


@contextmanager
def replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """An attribute of a class or module has another value meanwhile."""
    own = vars(owner).get(name, _NONE)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if own is _NONE:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def module_calls(
    enter: Callable[[torch.nn.Module], Any], leave: Callable[[Any], None]
) -> Iterator[None]:
    """Follow which module runs.

    Args:
        enter: called with each module before its forward.
        leave: called after it, with what ``enter`` returned.
    """
    original = torch.nn.Module.__call__

    def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        before = enter(module)
        try:
            return original(module, *args, **kwargs)
        finally:
            leave(before)

    with replaced(torch.nn.Module, "__call__", call):
        yield


@contextmanager
def backward_calls(around: Callable[[Any, Any, bool], Any]) -> Iterator[None]:
    """See each backward before it starts: the graph behind the loss is gone afterwards.

    Args:
        around: given the roots, what is differentiated for (nothing: all leaves) and whether the
            backward is differentiable itself, a context in which it runs.
    """
    original: Callable[..., Any] = getattr(torch.autograd, ENGINE)

    def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
        # After the roots: their gradients, retain_graph, create_graph, inputs.
        create_graph = bool(args[2]) if len(args) > 2 else False
        inputs = args[3] if len(args) > 3 else ()
        with around(roots, inputs, create_graph):
            return original(roots, *args, **kwargs)

    with replaced(torch.autograd, ENGINE, run):
        yield


@contextmanager
def _in_function(recorder: Recorder) -> Iterator[None]:
    """Autograd makes one node for all that runs in here."""
    if not recorder.functions:
        recorder.function = None
    recorder.functions += 1
    before, recorder.applied = recorder.applied, next_sequence_number()
    try:
        yield
    finally:
        recorder.functions -= 1
        recorder.applied = before


@contextmanager
def function_calls(recorder: Recorder) -> Iterator[None]:
    """Know what runs inside of user-defined ``autograd.Function``s: autograd makes one node for
    all of it."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with _in_function(recorder):
            return original.__get__(None, cls)(*args, **kwargs)

    with replaced(torch.autograd.Function, "apply", classmethod(apply)):
        yield


@contextmanager
def saved_tensors() -> Iterator[None]:
    """A user-defined ``autograd.Function`` finds the very tensors that it saved, with what somebody
    has attached to them: under hooks autograd makes new ones over the same memory. (Its own results
    are new ones always.)"""
    original = torch.autograd.function.BackwardCFunction.saved_tensors

    def saved(context: Any) -> tuple[Any, ...]:
        before, Kept.unpacked = Kept.unpacked, []
        try:
            tensors: tuple[Any, ...] = original.__get__(context)
            kept = Kept.unpacked
        finally:
            Kept.unpacked = before
        if len(kept) != sum(tensor is not None for tensor in tensors):
            return tensors  # kept under other hooks
        originals = iter(kept)
        return tuple(
            tensor if tensor is None or not (its := next(originals)).original else its.tensor
            for tensor in tensors
        )

    with replaced(torch.autograd.function.BackwardCFunction, "saved_tensors", property(saved)):
        yield


@contextmanager
def kept_checkpoint_inputs(recorder: Recorder) -> Iterator[None]:
    """Know when a checkpoint keeps what enters it: no operator's node does."""
    original: Callable[..., Any] | None = getattr(checkpoint, KEEP_CHECKPOINT_INPUT, None)
    if original is None:
        yield
        return

    def keep(*args: Any, **kwargs: Any) -> Any:
        with _in_function(recorder):
            return original(*args, **kwargs)

    with replaced(checkpoint, KEEP_CHECKPOINT_INPUT, keep):
        yield


@contextmanager
def other_hooks(recorder: Recorder) -> Iterator[None]:
    """Know when hooks other than ours (a checkpoint's) decide what autograd keeps."""
    hooks = torch.autograd.graph.saved_tensors_hooks
    enter, leave = hooks.__enter__, hooks.__exit__

    def count_enter(other: Any) -> None:
        enter(other)
        recorder.hooks += 1

    def count_leave(other: Any, *exception: object) -> None:
        recorder.hooks -= 1
        leave(other, *exception)

    with replaced(hooks, "__enter__", count_enter), replaced(hooks, "__exit__", count_leave):
        yield


@contextmanager
def function_transforms(recorder: Recorder) -> Iterator[None]:
    """``torch.func.grad`` and its kin refuse to run under hooks on saved tensors: ours are lifted
    meanwhile (what the transform saves inside is not seen)."""
    original = getattr(torch.autograd.graph, DISABLE_HOOKS)

    @contextmanager
    def disable(message: str, *args: Any) -> Iterator[None]:
        ours = is_topmost_saved_tensors_hook(recorder.pack)
        if ours:
            pop_saved_tensors_hooks()
            recorder.hooks += 1
        try:
            with original(message, *args):
                yield
        finally:
            if ours:
                recorder.hooks -= 1
                push_saved_tensors_hooks(recorder.pack, Recorder.unpack)

    with replaced(torch.autograd.graph, DISABLE_HOOKS, disable):
        yield
