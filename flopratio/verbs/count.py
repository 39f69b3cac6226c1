"""``fr.count``: the ledger of any module's training step, traced on fake tensors and reconciled
with the law, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Unpack, overload

import torch

from flopratio.errors import FormulaError, UsageError
from flopratio.ledger import Ledger
from flopratio.models import Example, load
from flopratio.models.built import check_computed, example_of
from flopratio.models.explain import VALUE_READERS
from flopratio.networks.description import Network
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.network import network_ledger, network_step
from flopratio.step.options import DEFAULTS, StepKeywords, StepOptions, takes_step_options
from flopratio.step.random_state import own_random_state
from flopratio.step.run import Step
from flopratio.text.dtypes import parse_dtype
from flopratio.text.grammar import SPECS
from flopratio.text.suggestions import did_you_mean
from flopratio.trace.reconcile import NO_BACKWARD
from flopratio.verbs.compare import differences
from flopratio.verbs.traced import inference_peak, trace_step

T = TypeVar("T")


@overload
def count(model: torch.nn.Module, batch: Any, **options: Unpack[StepKeywords]) -> Ledger: ...


@overload
def count(model: str, batch: int | None = None, **words: Any) -> Ledger: ...


@takes_step_options(DEFAULTS)
def count(model: torch.nn.Module | str, batch: Any = None, **settings: Any) -> Ledger:
    """The ledger of one training step. Nothing is executed: tensors have shapes and no values.

    Args:
        model: a module (it is copied, and left as it was), or a spec: ``mlp``, ``cnn``,
            ``torchvision:resnet50``, ``timm:...``, ``hf:gpt2``, ``package.module:factory``,
            ``file.py:factory``.
        batch: for a module: its input (a tensor; a list of tensors, as detection models take it),
            a tuple of positional or a dict of keyword inputs, real, fake or meta. For a spec: the
            batch size.
        loss: takes the model's output and gives a scalar; by default the output's own ``.loss``,
            else what fits its shape.
        settings: a spec's sizes (``seq=1024``, ``depth=4``).

    The other keywords say how the step is run, see
    :class:`flopratio.step.options.StepOptions`.

    Where a model draws numbers to choose its way (stochastic depth, dropped layers), they are drawn
    from one fixed seed of torch's, Python's and NumPy's generators: the same call gives the same
    count. The caller's random state is left as it was.

    Raises:
        UsageError: the model can't be run this way; one sentence says why.
    """
    options, settings = StepOptions.among(settings)
    return count_step(model, batch, settings, options)


def count_step(
    model: torch.nn.Module | str, batch: Any, settings: Mapping[str, Any], options: StepOptions
) -> Ledger:
    """As :func:`count`, with the options in one."""
    with own_random_state():
        return _count_step(model, batch, settings, options)


def _count_step(
    model: torch.nn.Module | str, batch: Any, settings: Mapping[str, Any], options: StepOptions
) -> Ledger:
    settings = checked(model, batch, settings, "count")
    if isinstance(model, str) and model in NETWORKS:
        return _count_network(model, settings, options)
    return with_step(model, batch, settings, options, _ledger)


def with_step(
    model: torch.nn.Module | str,
    batch: Any,
    settings: Mapping[str, Any],
    options: StepOptions,
    use: Callable[[Step, str], T],
) -> T:
    """The step of any model, handed to ``use`` with the model's name.

    Args:
        settings: as :func:`checked` gives them.
        use: called a second time where the model reads a value, on a step that computes what is
            made of integers alone.
    """
    if isinstance(model, torch.nn.Module):
        return _with_module(model, batch, options, use)
    if model in NETWORKS:
        return use(network_step(_described(model, settings, options), options), model)
    dtype = None if options.dtype is None else str(options.dtype)
    return use(Step(load(model, settings, dtype=dtype), options), model)


def checked(
    model: torch.nn.Module | str, batch: Any, settings: Mapping[str, Any], verb: str
) -> Mapping[str, Any]:
    """The settings of a spec, with its batch; none of a module.

    Args:
        verb: what is called with them.

    Raises:
        UsageError: the three don't fit each other, or there is no such model.
    """
    if isinstance(model, torch.nn.Module):
        if settings:
            raise UsageError(
                f"{', '.join(settings)}: a module that is built already has its sizes; "
                "give them to a model spec, or to the module's constructor"
                f"{did_you_mean(next(iter(settings)), ('batch', *DEFAULTS))}"
            )
        if batch is None:
            raise UsageError(f"give the module an example batch: {verb}(model, batch)")
        return settings
    if not isinstance(model, str):
        raise UsageError(f"give {verb}() a module or the name of a model, not {_kind(model)}")
    if batch is not None:
        settings = {**settings, "batch": batch}
    if isinstance(settings.get("batch"), torch.Tensor | tuple | list | dict):
        raise UsageError(f"{model} makes its own inputs: give it the batch size, a whole number")
    if model not in NETWORKS and ":" not in model and not model.endswith(".py"):
        raise UsageError(f"there is no model {model!r}{did_you_mean(model, (*NETWORKS, *SPECS))}")
    return settings


def _kind(thing: object) -> str:
    """What somebody gave in place of a module."""
    if isinstance(thing, type) and issubclass(thing, torch.nn.Module):
        return f"the class {thing.__name__}: make one, {thing.__name__}(...)"
    return f"{type(thing).__name__}"


def _with_module(
    model: torch.nn.Module, batch: Any, options: StepOptions, use: Callable[[Step, str], T]
) -> T:
    name = type(model).__name__
    dtype = None if options.dtype is None else parse_dtype(options.dtype)
    try:
        return _checked_with(example_of(model, batch, dtype), options, name, use)
    except FormulaError:
        raise  # in whatever way the step is traced
    except (*VALUE_READERS, UsageError):
        # It reads a value: compute what it makes of integers alone, and fake the rest.
        example = example_of(model, batch, dtype, enter_mode=False)
        return _checked_with(example, options, name, use)


def _checked_with(
    example: Example, options: StepOptions, name: str, use: Callable[[Step, str], T]
) -> T:
    used = use(Step(example, options), name)
    check_computed(example)
    return used


def _described(model: str, settings: Mapping[str, Any], options: StepOptions) -> Network:
    """A built-in network, of which the loss is a KEY too."""
    if isinstance(options.loss, str) and options.loss != "auto":
        settings = {**settings, "loss": options.loss}
    return describe(model, **settings)


def _count_network(model: str, settings: Mapping[str, Any], options: StepOptions) -> Ledger:
    """A built-in network: its formulas are a third source, and are reconciled too."""
    network = _described(model, settings, options)
    ledger = _ledger(network_step(network, options), model)
    plain = (options.amp, options.checkpoint) == (None, None) and options.accumulate == 1
    if plain and not callable(options.loss):
        analytic = network_ledger(network, options)
        ledger.mismatches += differences(analytic, ledger, options)
        if ledger.not_compared == NO_BACKWARD:
            ledger.not_compared = ""  # forward is, with the network's formulas
    return ledger


def _ledger(step: Step, name: str) -> Ledger:
    """Run the step, and make the ledger of it."""
    ledger = trace_step(step).ledger
    describe_ledger(ledger, step, name, "fake")
    ledger.memory["inference_peak"] = (
        ledger.memory["peak"] if step.options.inference else inference_peak(step)
    )
    return ledger


def describe_ledger(ledger: Ledger, step: Step, name: str, device: str) -> None:
    """Note in a ledger of which step it is, and how and with what that was run."""
    example = step.example
    ledger.model = name
    ledger.settings = dict(example.settings)
    if example.tokens is not None:
        ledger.settings["tokens"] = example.tokens
    ledger.convention = {**ledger.convention, **step.options.convention(), "device": device}
