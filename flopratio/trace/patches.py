"""What of torch's own is replaced while the Profiler watches, each put back when its block ends.

Wrapped functions instead of hooks on modules: hooks would switch off fast paths, would be seen by
the user's code, and would be left out of step by a forward that raises.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils import checkpoint

from flopratio.torch_private import (
    COMPILER_CALLBACK,
    COMPILER_FRAMES,
    ENGINE,
    KEEP_CHECKPOINT_INPUT,
    SCRIPTED,
    SHARDED_SHAPES,
    SHARDING,
    STEP_RANGE,
    compiler_is_loaded,
    forget_optimised_script,
    is_topmost_saved_tensors_hook,
    pop_saved_tensors_hooks,
    push_saved_tensors_hooks,
    topmost_saved_tensors_hook,
)
from flopratio.trace.recorder import Recorder

PATCHING = threading.RLock()
"""Held while torch's own functions are replaced, by whoever replaces them: of two threads, the one
that ends last would leave the other's replacements behind."""

_running: list[Recorder] = []
"""The recorders that run, the outermost first."""

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
def among_others(recorder: Recorder) -> Iterator[None]:
    """Profilers may run one inside of another: those around this one know of it."""
    around = list(_running)
    for outer in around:
        outer.inner += 1
    _running.append(recorder)
    try:
        yield
    finally:
        _running.remove(recorder)
        for outer in around:
            outer.inner -= 1


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
def optimizer_steps(
    before: Callable[[torch.optim.Optimizer], Any],
    after: Callable[[torch.optim.Optimizer], None],
    leave: Callable[[Any], None],
    around_closure: Callable[[Any], AbstractContextManager[None]],
) -> Iterator[None]:
    """Follow what ``Optimizer.step`` runs, also that of an optimizer whose ``step`` was replaced
    (as schedulers of learning rates do) or will be.

    Torch's hooks tell when a step begins, and when it has ended well. One that raises an error
    calls no hook; but the range that is open around each step, for torch's profiler, ends then too.

    Args:
        before: called with the optimizer at the start of its step.
        after: called with it when the step has done its work.
        leave: called at the end, also after an error, with what ``before`` returned.
        around_closure: given what ``before`` returned, a context in which the closure runs that
            the step was called with.
    """
    open_steps: list[Any] = []

    class Range(torch.autograd.profiler.record_function):
        """One of torch's ranges; at the end of an optimizer's, the steps in it have ended."""

        def __enter__(self) -> Any:
            self.steps = len(open_steps)
            return super().__enter__()  # type: ignore[no-untyped-call]

        def __exit__(self, *exception: Any) -> None:
            super().__exit__(*exception)
            if self.name.startswith(STEP_RANGE):
                end(self.steps)

    def end(still_open: int) -> None:
        while len(open_steps) > still_open:
            leave(open_steps.pop())

    def pre_hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        token = before(optimizer)
        open_steps.append(token)

        def wrapped(argument: Any) -> Any:
            if not callable(argument) or isinstance(argument, torch.Tensor | torch.nn.Module):
                return argument

            @wraps(argument)
            def closure(*args: Any, **kwargs: Any) -> Any:
                with around_closure(token):
                    return argument(*args, **kwargs)

            return closure

        args = (args[0], *map(wrapped, args[1:]))
        return args, {name: wrapped(argument) for name, argument in kwargs.items()}

    def post_hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        after(optimizer)
        end(len(open_steps) - 1)

    with ExitStack() as exits:
        exits.callback(register_optimizer_step_pre_hook(pre_hook).remove)
        exits.callback(register_optimizer_step_post_hook(post_hook).remove)
        exits.enter_context(replaced(torch.autograd.profiler, "record_function", Range))
        exits.callback(end, 0)
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
    try:
        yield
    finally:
        recorder.functions -= 1


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
def saved_tensors(recorder: Recorder) -> Iterator[None]:
    """See what autograd keeps, and let a Profiler around this one see it too. Somebody else's hooks
    that are in force already stay so: what they keep in its place is theirs to say."""
    pack = topmost_saved_tensors_hook()
    outer = getattr(pack, "__self__", None)
    if pack is None or isinstance(outer, Recorder):
        recorder.outer = outer
        push_saved_tensors_hooks(recorder.pack, Recorder.unpack)
        try:
            yield
        finally:
            pop_saved_tensors_hooks()
            recorder.outer = None
    else:
        recorder.hooks += 1
        try:
            yield
        finally:
            recorder.hooks -= 1


@contextmanager
def compiled_regions(called: Callable[[], None]) -> Iterator[None]:
    """Compiled regions run as they were written.

    Args:
        called: called when one is.
    """
    with ExitStack() as exits:
        if compiler_is_loaded():
            exits.enter_context(torch.compiler.set_stance("force_eager"))
            eval_frame = sys.modules[COMPILER_FRAMES]
            original: Any = getattr(eval_frame, COMPILER_CALLBACK, None)

            def callback(compiler: Any) -> Any:
                if callable(compiler):
                    called()
                return original(compiler)

            if original is not None:
                exits.enter_context(replaced(eval_frame, COMPILER_CALLBACK, callback))
        yield


@contextmanager
def scripted_regions(called: Callable[[], None]) -> Iterator[None]:
    """Scripted code runs operator by operator: optimised, it would hand whole regions to autograd
    as one node that tells nothing.

    Args:
        called: called when some is.
    """
    seen: dict[int, Any] = {}

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(scripted: Any, *args: Any, **kwargs: Any) -> Any:
            if id(scripted) not in seen:
                seen[id(scripted)] = scripted
                forget_optimised_script(scripted)
                called()
            return original(scripted, *args, **kwargs)

        return call

    with ExitStack() as exits:
        exits.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        for kind in SCRIPTED:
            exits.enter_context(replaced(kind, "__call__", watched(kind.__call__)))
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


@contextmanager
def sharded_shapes(paused: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """An operator on DTensors is run on fake ones of its global shape first, if it is met for the
    first time, to know what it gives: that is not of the step."""
    module, name = SHARDING
    owner = getattr(sys.modules.get(module), name, None)
    original: Callable[..., Any] | None = getattr(owner, SHARDED_SHAPES, None)
    if original is None:
        yield
        return

    def propagate(*args: Any, **kwargs: Any) -> Any:
        with paused():
            return original(*args, **kwargs)

    with replaced(owner, SHARDED_SHAPES, propagate):
        yield
