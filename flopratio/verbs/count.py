"""``fr.count``: the ledger of any module's training step, traced on fake tensors and reconciled
with the law, in one call."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from typing import Any

import torch

from flopratio.allocator.device import device_profiles, targets
from flopratio.errors import UsageError
from flopratio.formulas.attention import CAUSAL, backend
from flopratio.ledger import Ledger, Mismatch
from flopratio.models import Example, explain_failure, load
from flopratio.models.fakes import StepMode, fake, fake_module
from flopratio.models.inputs import parse_dtype
from flopratio.networks.analytic import count as analytic_ledger
from flopratio.networks.library import LOSS_LAYER, NETWORKS, describe
from flopratio.step.checkpointing import checkpointed, segments_of
from flopratio.step.cuda_kernels import cuda_kernels
from flopratio.step.losses import loss_of
from flopratio.step.optimizers import IMPLEMENTATIONS, make_optimizer
from flopratio.text.patterns import near, owners
from flopratio.text.suggestions import did_you_mean
from flopratio.torch_private import (
    FAKE_TENSOR_LOG,
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    tree_iter,
    tree_map_only,
)
from flopratio.trace.memory import peak_bytes
from flopratio.trace.profiler import TORCH, Profiler
from flopratio.trace.reconcile import reconcile
from flopratio.verbs.sweep.point import Step, compare
from flopratio.version import versions

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

SPECS = ("torchvision:NAME", "timm:NAME", "hf:TYPE", "package.module:NAME", "file.py:NAME")
"""What else than a built-in network a MODEL may be."""

ATTENTION = {
    "flash": torch.nn.attention.SDPBackend.FLASH_ATTENTION,
    "efficient": torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION,
    "math": torch.nn.attention.SDPBackend.MATH,
}


@dataclass(frozen=True)
class StepOptions:
    """How a step is run.

    Args:
        loss: ``auto``, ``cross_entropy``, ``mse``, ``sum``, or a function of the model's output.
        optimizer: ``none`` or one of ``flopratio.step.optimizers.NAMES``.
        optimizer_implementation: one of ``flopratio.step.optimizers.IMPLEMENTATIONS``; None: the
            one that torch takes on the target.
        amp: ``bf16`` or ``fp16`` autocast.
        freeze: pattern of the modules or parameters that do not train.
        checkpoint: what computes its activations again in backward: a pattern of modules, or
            ``auto:K``, the chain of blocks in K segments, see :mod:`flopratio.step.checkpointing`.
        accumulate: micro-batches before the update.
        attention: the kernels that scaled-dot-product attention may use.
        causal: how attention under a causal mask counts: ``full``, or ``half`` of its products,
            see :func:`flopratio.formulas.attention.causal_half`.
        input_grad: whether floating inputs require a gradient too.
        inference: forward only, in eval mode and without a graph.
        target: whose kernels and allocator to predict for: ``cuda``, ``cpu``, or a GPU by its name
            (``H100-80GB``), whose workspaces are known too. See :mod:`flopratio.step.cuda_kernels`.
    """

    loss: str | Callable[[Any], torch.Tensor] = "auto"
    optimizer: str = "none"
    optimizer_implementation: str | None = None
    amp: str | None = None
    freeze: str | None = None
    checkpoint: str | None = None
    accumulate: int = 1
    attention: str | None = None
    causal: str = "full"
    input_grad: bool = False
    inference: bool = False
    target: str = "cuda"

    def __post_init__(self) -> None:
        listed: dict[str, Collection[str]] = {
            "optimizer_implementation": IMPLEMENTATIONS,
            "amp": AUTOCAST,
            "attention": ATTENTION,
            "causal": CAUSAL,
            "target": targets(),
        }
        for name, choices in listed.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise UsageError(f"{name}={value} should be one of {', '.join(choices)}")
        if not isinstance(self.accumulate, int):
            raise UsageError(f"accumulate={self.accumulate!r} should be a whole number")
        if self.accumulate < 1:
            raise UsageError(f"accumulate={self.accumulate} should be at least 1")
        segments_of(self.checkpoint)

    @property
    def implementation(self) -> str:
        """Of the optimizer."""
        if self.optimizer_implementation is not None:
            return self.optimizer_implementation
        return "plain" if self.target == "cpu" else "foreach"


def count(
    model: torch.nn.Module | str,
    batch: Any = None,
    *,
    loss: str | Callable[[Any], torch.Tensor] = "auto",
    optimizer: str = "none",
    optimizer_implementation: str | None = None,
    dtype: str | torch.dtype | None = None,
    amp: str | None = None,
    freeze: str | None = None,
    checkpoint: str | None = None,
    accumulate: int = 1,
    attention: str | None = None,
    causal: str = "full",
    input_grad: bool = False,
    inference: bool = False,
    target: str = "cuda",
    **settings: Any,
) -> Ledger:
    """The ledger of one training step. Nothing is executed: tensors have shapes and no values.

    Args:
        model: a module (it is copied, and left as it was), or a spec: ``mlp``, ``cnn``,
            ``torchvision:resnet50``, ``timm:...``, ``hf:gpt2``, ``package.module:factory``,
            ``file.py:factory``.
        batch: for a module: its input, as a tensor, a tuple of positional or a dict of keyword
            inputs, real, fake or meta. For a spec: the batch size.
        loss: takes the model's output and gives a scalar; by default the output's own ``.loss``,
            else what fits its shape.
        dtype: of parameters and inputs, by name or as torch's own; theirs unless given.
        settings: a spec's sizes (``seq=1024``, ``depth=4``).
        optimizer, optimizer_implementation, amp, freeze, checkpoint, accumulate, attention, causal,
            input_grad, inference, target: see :class:`StepOptions`.

    Raises:
        UsageError: the model can't be run this way; one sentence says why.
    """
    if not isinstance(optimizer, str):
        raise UsageError(
            f"give the optimizer by name, such as {type(optimizer).__name__.lower()!r}; "
            "fr.Profiler takes a step with an optimizer of your own"
        )
    options = StepOptions(
        loss,
        optimizer,
        optimizer_implementation,
        amp,
        freeze,
        checkpoint,
        accumulate,
        attention,
        causal,
        input_grad,
        inference,
        target,
    )
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if isinstance(model, torch.nn.Module):
        if settings:
            raise UsageError(
                f"{', '.join(settings)}: a module that is built already has its sizes; "
                "give them to a model spec, or to the module's constructor"
                f"{did_you_mean(next(iter(settings)), _OPTIONS)}"
            )
        if batch is None:
            raise UsageError("give the module an example batch: count(model, batch)")
        return _count_module(model, batch, dtype, options)
    if not isinstance(model, str):
        raise UsageError(f"give count() a module or the name of a model, not {_kind(model)}")
    if isinstance(batch, torch.Tensor | tuple | list | dict):
        raise UsageError(f"{model} makes its own inputs: give it the batch size, a whole number")
    if batch is not None:
        settings["batch"] = batch
    if model in NETWORKS:
        return _count_network(model, settings, dtype, options)
    if ":" not in model and not model.endswith(".py"):
        raise UsageError(f"there is no model {model!r}{did_you_mean(model, (*NETWORKS, *SPECS))}")
    return _finish(load(model, settings, dtype=dtype), options, model)


_OPTIONS = ("batch", "dtype", *(option.name for option in fields(StepOptions)))


def _kind(thing: object) -> str:
    """What somebody gave in place of a module."""
    if isinstance(thing, type) and issubclass(thing, torch.nn.Module):
        return f"the class {thing.__name__}: make one, {thing.__name__}(...)"
    return f"{type(thing).__name__}"


# -- where examples come from ---------------------------------------------------------------------


def _count_network(
    model: str, settings: dict[str, Any], dtype: str | None, options: StepOptions
) -> Ledger:
    """A built-in network: its formulas are a third source, and are reconciled too."""
    if isinstance(options.loss, str) and options.loss != "auto":
        settings = {**settings, "loss": options.loss}
    network = describe(model, **settings)
    torch_dtype = parse_dtype(dtype or "float32")
    mode = StepMode()
    with mode:
        step = Step(network, "none", torch_dtype, torch.device("cpu"))
    example = Example(
        step.module, (step.x,), {}, mode, True, dict(network.settings), "module", None
    )
    chosen = options
    if not callable(options.loss):
        chosen = replace(options, loss=lambda output: step.loss(output, step.target))
    ledger = _finish(example, chosen, model, loss_module=step.loss)
    plain = (options.amp, options.checkpoint) == (None, None) and options.accumulate == 1
    if plain and not callable(options.loss):
        analytic = analytic_ledger(
            network,
            optimizer=options.optimizer,
            freeze=options.freeze,
            input_grad=options.input_grad,
            inference=options.inference,
            itemsize=torch_dtype.itemsize,
        )
        ledger.mismatches += _mismatches(analytic, ledger, options.implementation)
    return ledger


def _mismatches(analytic: Ledger, ledger: Ledger, implementation: str) -> list[Mismatch]:
    """Where a built-in network's formulas and its executed step part ways. The formulas are of a
    plain update, parameter by parameter: any other is compared as a whole."""
    found = [
        Mismatch(d.layer, d.phase, d.expected, d.found, (d.op,))
        for d in compare(analytic, ledger)
        if implementation == "plain" or d.phase != "update"
    ]
    expected, executed = analytic.totals.update, ledger.totals.update
    if implementation != "plain" and expected != executed:
        found.append(Mismatch("", "update", expected, executed))
    return found


def _count_module(
    model: torch.nn.Module, batch: Any, dtype: str | None, options: StepOptions
) -> Ledger:
    name = type(model).__name__
    for tensor in tree_iter(batch):
        if isinstance(tensor, torch.Tensor) and tensor.numel() == 0:
            shape = "x".join(map(str, tensor.shape))
            raise UsageError(f"the batch is empty, of {shape}: give at least one example")
    try:
        return _finish(_example_of(model, batch, dtype, enter=True), options, name)
    except (DataDependentOutputException, DynamicOutputShapeException, UsageError):
        # It reads a value: compute what it makes of integers alone, and fake the rest.
        return _finish(_example_of(model, batch, dtype, enter=False), options, name)


def _example_of(model: torch.nn.Module, batch: Any, dtype: str | None, *, enter: bool) -> Example:
    """A copy of a user's module with fake parameters, and its batch likewise."""
    mode: Any = next(
        (
            tensor.fake_mode
            for tensor in (*model.parameters(), *model.buffers(), *tree_iter(batch))
            if isinstance(tensor, FakeTensor)
        ),
        None,
    )
    mode = mode if mode is not None else StepMode()
    wanted = None if dtype is None else parse_dtype(dtype)
    # Parameters and buffers are handed to the copy as stand-ins; everything else is copied, so
    # that nothing that forward leaves on the module is left on the user's.
    stand_ins: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in stand_ins:
            stand_in = fake(tensor, mode, keep_integers=not enter, dtype=wanted)
            stand_ins[id(tensor)] = stand_in if stand_in is not tensor else _copied(tensor)
    try:
        copied = copy.deepcopy(model, stand_ins)
    except Exception as error:
        raise UsageError(
            f"the module can't be copied ({error}): profile a step of it with fr.Profiler instead"
        ) from error
    fake_module(copied, mode, keep_integers=not enter)

    def place(tensor: torch.Tensor) -> torch.Tensor:
        placed = fake(tensor, mode, keep_integers=not enter, dtype=wanted)
        return placed if placed is not tensor else _copied(tensor)

    inputs = tree_map_only(torch.Tensor, place, batch)
    args: tuple[Any, ...] = (inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, tuple | list):
        args = tuple(inputs)
    elif isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    return Example(copied, args, kwargs, mode, enter, {}, "module", None)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """A leaf of its own, whose gradient is nobody else's; a parameter stays one."""
    copied = tensor.detach().clone()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(copied, tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad)


# -- the step -------------------------------------------------------------------------------------


def _finish(
    example: Example,
    options: StepOptions,
    name: str,
    *,
    loss_module: torch.nn.Module | None = None,
) -> Ledger:
    """Run the step, and make the ledger of it."""
    profiler = run_step(example, options, loss_module=loss_module)
    ledger = reconcile(profiler)
    ledger.model = name
    ledger.settings = dict(example.settings)
    if example.tokens is not None:
        ledger.settings["tokens"] = example.tokens
    ledger.convention = {
        "flop_per_mac": 2,
        "causal": options.causal,
        "attention": backend(row.op for row in ledger.rows),
        "optimizer": options.optimizer,
        "optimizer_implementation": None if options.optimizer == "none" else options.implementation,
        "loss": options.loss if isinstance(options.loss, str) else "a function",
        "amp": options.amp,
        "freeze": options.freeze,
        "checkpoint": options.checkpoint,
        "accumulate": options.accumulate,
        "input_grad": options.input_grad,
        "inference": options.inference,
        "target": options.target,
        "device": "fake",
    }
    ledger.versions = versions()
    try:
        ledger.memory["inference_peak"] = (
            ledger.memory["peak"] if options.inference else _inference_peak(example, options)
        )
    except (DataDependentOutputException, DynamicOutputShapeException):
        ledger.memory["inference_peak"] = None  # it chooses by values (of boxes, say)
    return ledger


def run_step(
    example: Example, options: StepOptions, *, loss_module: torch.nn.Module | None = None
) -> Profiler:
    """Run one step of an example under the Profiler: forward, loss, backward of each micro-batch,
    then the update as in the steady state."""
    module = example.module
    names = {LOSS_LAYER: loss_module} if loss_module is not None else None
    profiler = Profiler(module, names=names, target=options.target, causal=options.causal)
    inputs = [t for t in tree_iter((example.args, example.kwargs)) if isinstance(t, torch.Tensor)]
    for tensor in inputs:  # also one that the model does not look at takes memory
        profiler.recorder.storage_number(tensor)
    with ExitStack() as exits:
        exits.enter_context(TORCH)
        exits.enter_context(_frozen(module, options.freeze))
        exits.enter_context(example.context())
        optimizer = make_optimizer(options.optimizer, module.parameters(), options.implementation)
        if options.input_grad:
            for tensor in inputs:
                if tensor.is_floating_point():
                    tensor.requires_grad_()
        if not options.inference:
            _check_trained(options.freeze, (*module.parameters(), *inputs))
        exits.enter_context(_attention(options.attention))
        exits.enter_context(_kernels(example, options))
        if options.inference:
            exits.enter_context(_inference(module))
        exits.enter_context(_checkpointed(profiler, example, options))
        with profiler, _sentence(example):
            for _ in range(options.accumulate):
                loss = _forward(profiler, example, options)
                if not options.inference:
                    _check(loss)
                    loss.backward()
            if optimizer is not None and not options.inference:
                with profiler.paused():
                    optimizer.step()  # makes the state that later steps find
                optimizer.step()
    return profiler


def _forward(profiler: Profiler, example: Example, options: StepOptions) -> Any:
    """The loss; the output itself where there is nothing to train."""
    autocast: AbstractContextManager[Any] = nullcontext()
    if options.amp is not None:
        autocast = torch.autocast("cpu", AUTOCAST[options.amp])
    with autocast:
        output = example.module(*example.args, **example.kwargs)
        if options.inference:
            return output
        with profiler.layer(LOSS_LAYER, "loss"):
            if not callable(options.loss):
                return loss_of(output, options.loss)
            try:
                return options.loss(output)
            except Exception as error:
                name = getattr(options.loss, "__name__", type(options.loss).__name__)
                raise UsageError(
                    f"the loss {name} failed: {type(error).__name__}: {error}; it is called with "
                    "the model's output alone: put the target into a function of it"
                ) from error


def _check(loss: Any) -> None:
    if not isinstance(loss, torch.Tensor):
        raise UsageError(f"the loss should be a scalar tensor, not {type(loss).__name__}")
    if loss.numel() != 1:
        raise UsageError(f"the loss should be a scalar, not of shape {tuple(loss.shape)}")
    if not loss.requires_grad:
        raise UsageError("the loss needs no gradient: no trained parameter leads to it")


def _inference_peak(example: Example, options: StepOptions) -> int:
    """Peak bytes of the forward alone."""
    example.module.zero_grad(set_to_none=True)
    profiler = Profiler(example.module)
    with (
        TORCH,
        example.context(),
        _attention(options.attention),
        _kernels(example, options),
        _inference(example.module),
        profiler,
    ):
        _forward(profiler, example, replace(options, inference=True))
    return peak_bytes(profiler.recorder)


# -- what the options do --------------------------------------------------------------------------


@contextmanager
def _frozen(module: torch.nn.Module, pattern: str | None) -> Iterator[None]:
    """Parameters that match the pattern, or whose module does, require no gradient meanwhile."""
    if pattern is None:
        yield
        return
    chosen = [
        (parameter, parameter.requires_grad)
        for name, parameter in module.named_parameters()
        if fnmatch(name, pattern) or any(fnmatch(owner, pattern) for owner in owners(name))
    ]
    if not chosen:
        names = [name for name, _ in module.named_parameters()]
        raise UsageError(f"freeze={pattern} matches no module or parameter: {near(pattern, names)}")
    for parameter, _ in chosen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in chosen:
            parameter.requires_grad_(before)


def _check_trained(pattern: str | None, tensors: Iterable[torch.Tensor]) -> None:
    if pattern is not None and not any(tensor.requires_grad for tensor in tensors):
        raise UsageError(
            f"freeze={pattern} leaves nothing to train, so there is no backward: freeze less, "
            "or ask for inference or for input_grad"
        )


@contextmanager
def _inference(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode and no graph meanwhile; each submodule gets its own mode back."""
    training = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule, mode in training:
            submodule.training = mode


@contextmanager
def _checkpointed(profiler: Profiler, example: Example, options: StepOptions) -> Iterator[None]:
    """What forgets its activations, and computes them again in backward."""

    def forward() -> None:
        with _sentence(example):
            _forward(profiler, example, replace(options, inference=True))

    with checkpointed(
        example.module,
        options.checkpoint,
        forward,
        layer=profiler.layer,
        preserve_rng_state=False,  # there are no values
    ):
        yield


def _attention(name: str | None) -> AbstractContextManager[Any]:
    if name is None:
        return nullcontext()
    return torch.nn.attention.sdpa_kernel([ATTENTION[name], ATTENTION["math"]])


@contextmanager
def _kernels(example: Example, options: StepOptions) -> Iterator[None]:
    """The target's operators."""
    on_cuda = options.target != "cpu"
    if isinstance(example.mode, StepMode):
        example.mode.target = "cuda" if on_cuda else "cpu"
    if not on_cuda:
        yield
        return
    profile = device_profiles().get(options.target)
    attention = profile.attention if profile is not None else None
    with cuda_kernels(attention=attention or "flash", autocast=options.amp is not None):
        yield


@contextmanager
def _sentence(example: Example) -> Iterator[None]:
    """A failure inside of the model's code becomes one sentence; torch's log of it is not shown."""
    log = logging.getLogger(FAKE_TENSOR_LOG)
    shown, log.disabled = log.disabled, True
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise explain_failure(error, example) from error
    finally:
        log.disabled = shown
