"""MODEL specs, loaded: a module with an example batch, without weights, downloads or computing.

`load("torchvision:resnet50", {"batch": 8})` builds the model with its parameters on the meta device
and hands them out as fake tensors, so that a training step runs on shapes alone. Two techniques:

- The fake mode is entered for the whole step: image models of torchvision and timm, and the user's
  own models where their forward allows it. Everything that a step makes is fake, so it costs
  nothing, and the dispatch of fake tensors is cached.
- The mode is not entered: parameters and floating inputs are fake, integer inputs are real, and so
  is what the model computes from integers alone. Detection models and all of transformers get
  this: many read a value of a mask or of a sequence length, and it costs the others little.

The user's own models are tried with the first, and get the second if that fails.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from flopratio.models.example import Draft, Example, ModelError, Request
from flopratio.models.explain import VALUE_READERS, explain_failure
from flopratio.models.factories import (
    factory_defaults,
    factory_draft,
    factory_keywords,
    name_a_factory,
)
from flopratio.models.fakes import StepMode, fake, fake_module
from flopratio.models.guess import other_guesses
from flopratio.models.importing import importing_from
from flopratio.models.inputs import as_setting, refuse_beside_input, with_values
from flopratio.models.timm_models import timm_draft
from flopratio.models.torchvision_models import torchvision_draft
from flopratio.models.torchvision_operators import torchvision_importable
from flopratio.models.transformers_models import transformers_draft
from flopratio.models.user_code import directory_of
from flopratio.text.dtypes import parse_dtype
from flopratio.torch_private import silent_fake_tensors, tree_map_only

_LOADERS: Mapping[str, Callable[[Request], Draft]] = {
    "torchvision": torchvision_draft,
    "timm": timm_draft,
    "hf": transformers_draft,
}

_MOST_TRIES = 200
"""Forwards that a search for inputs may take."""


def load(
    spec: str,
    settings: Mapping[str, object],
    *,
    dtype: str | None = None,
    real: bool = False,
    device: str | torch.device = "cpu",
) -> Example:
    """The model that `spec` names, in training mode, with inputs made by the KEY=VALUE `settings`.

    dtype: of parameters and floating inputs, by torch's name or fp32, bf16, fp16; None leaves the
        model's own. real: weights by the model's own initialisation and random inputs, on
        `device`, instead of fake tensors.
    ModelError: the model, one of its settings or its inputs can't be used.
    """
    prefix, colon, name = spec.partition(":")
    if prefix.endswith(".py") and not name:
        raise name_a_factory(prefix)
    if not colon or not name:
        raise ModelError(
            f"'{spec}' is no MODEL: write torchvision:NAME, timm:NAME, hf:TYPE, "
            "package.module:factory or path/file.py:factory"
        )
    made_in = parse_dtype(dtype) if dtype else None
    request = Request(spec, name, settings, made_in, torch.device(device) if real else None)
    if prefix not in _LOADERS:
        return _load_own(request)
    draft = _LOADERS[prefix](request)
    if "input" in request.used:
        refuse_beside_input(request, "seq")
        refuse_beside_input(request, "image")
    if draft.alternatives:
        return _first_running(draft, request)
    return _examples(draft, request)(draft.kwargs)


def own_keywords(spec: str) -> set[str]:
    """The arguments of the user's own factory that `spec` names; none of any other MODEL.

    ModelError: there is no such factory.
    """
    source, _, name = spec.rpartition(":")
    if not source or not name or source in _LOADERS:
        return set()
    with torchvision_importable(), importing_from(directory_of(source)):
        return factory_keywords(spec)


def own_defaults(spec: str) -> dict[str, object]:
    """The arguments of the user's own factory that have a default, and it; none of any other MODEL.

    ModelError: there is no such factory.
    """
    source, _, name = spec.rpartition(":")
    if not source or not name or source in _LOADERS:
        return {}
    with torchvision_importable(), importing_from(directory_of(source)):
        return factory_defaults(spec)


def _load_own(request: Request) -> Example:
    """The user's own model, with the mode entered if it runs so."""
    directory = directory_of(request.spec.rpartition(":")[0])
    with torchvision_importable(), importing_from(directory):
        example = _own_example(request)
    example.directory = directory
    return example


def _own_example(request: Request) -> Example:
    draft = factory_draft(request)
    example = _examples(draft, request)(draft.kwargs)
    if request.real or _failure(example) is None:
        return example
    draft = factory_draft(request)  # anew, for a forward that fails halfway may leave a trace
    draft.enter_mode = False
    example = _examples(draft, request)(draft.kwargs)
    failure = _failure(example)
    if failure is None:
        return example
    raise explain_failure(failure, example, runs_with=_input_that_runs(draft, failure, request))


def _input_that_runs(draft: Draft, failure: BaseException, request: Request) -> str:
    """What the user's own model runs with in the place of a guess that it fails on, as the setting
    `input` has it; empty if none is known."""
    if not draft.guessed or isinstance(failure, VALUE_READERS):
        return ""
    for guess in other_guesses(*draft.args):
        other = factory_draft(request)
        other.args, other.enter_mode = (guess,), False
        if _failure(_examples(other, request)(other.kwargs)) is None:
            return as_setting([guess])
    return ""


def _first_running(draft: Draft, request: Request) -> Example:
    """The example with the first of the alternative inputs that the model runs with; or else with
    those that are found from the best of these, one input at a time (`_search`).

    ModelError: it runs with none; the reason is that of the inputs with which it came farthest.
    """
    example_of = _examples(draft, request)
    best: _Attempt | None = None
    for kwargs in (draft.kwargs, *draft.alternatives):
        attempt = _attempt(example_of(kwargs), kwargs)
        if attempt.failure is None:
            return attempt.example
        if best is None or attempt.came > best.came:
            best = attempt
    assert best is not None
    # With other inputs a model that reads a value would read it all the same.
    reads_value = isinstance(best.failure, VALUE_READERS)
    found = best if reads_value else _search(best, draft.forms, example_of)
    if found.failure is None:
        return found.example
    raise explain_failure(found.failure, found.example)


@dataclass
class _Attempt:
    """A forward, and how far it came before it failed: the calls of torch that it made, and the
    lines at which it was, from the outermost function to the innermost."""

    example: Example
    kwargs: dict[str, Any]
    came: tuple[int, list[int]]
    failure: BaseException | None


def _attempt(example: Example, kwargs: dict[str, Any]) -> _Attempt:
    with _Progress() as progress:
        failure = _failure(example)
    frames = traceback.extract_tb(failure.__traceback__ if failure else None)
    return _Attempt(example, kwargs, (progress.calls, [f.lineno or 0 for f in frames]), failure)


def _search(
    best: _Attempt, forms: Mapping[str, list[Any]], example_of: Callable[[dict[str, Any]], Example]
) -> _Attempt:
    """Climb from inputs with which a forward fails: one input in another form, or one more, or one
    in the place of another, as long as forward comes farther with it."""
    tries = 0
    climbed = True
    while climbed and tries < _MOST_TRIES:
        climbed = False
        for kwargs in _neighbours(best.kwargs, forms):
            attempt = _attempt(example_of(kwargs), kwargs)
            tries += 1
            if attempt.failure is None:
                return attempt
            if attempt.came > best.came:
                best, climbed = attempt, True
                break
    return best


def _neighbours(
    kwargs: Mapping[str, Any], forms: Mapping[str, list[Any]]
) -> Iterator[dict[str, Any]]:
    for name, tensors in forms.items():
        for tensor in tensors:
            if kwargs.get(name) is not tensor:
                yield {**kwargs, name: tensor}
    for name in kwargs:
        others = {other: value for other, value in kwargs.items() if other != name}
        for new, tensors in forms.items():
            if new not in kwargs:
                yield from ({**others, new: tensor} for tensor in tensors)


class _Progress(TorchFunctionMode):
    """Counts the calls of torch that a forward makes before it ends or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def _failure(example: Example) -> BaseException | None:
    """The error that a forward of the example raises, or None."""
    try:
        with silent_fake_tensors(), example.context():
            example.module(*example.args, **example.kwargs)
    except (Exception, SystemExit) as error:  # a model may raise anything
        return error
    return None


def _examples(draft: Draft, request: Request) -> Callable[[dict[str, Any]], Example]:
    """The draft with the keyword inputs that are asked for, all of the same module.

    Its dtype is applied, and every tensor is fake or, on request, real.
    """
    module = draft.module.train()
    if request.dtype is not None and draft.cast:
        module.to(request.dtype)
    device = request.device
    mode = None if device else StepMode(select_all=draft.select_all, spread=draft.spread)
    if mode is not None:
        fake_module(module, mode, keep_integers=not draft.enter_mode)
    else:
        module.to(device)  # what its constructor has placed itself

    def place(tensor: Tensor) -> Tensor:
        if request.dtype is not None and tensor.is_meta and tensor.is_floating_point():
            tensor = tensor.to(request.dtype)
        if device is not None:
            return with_values(tensor, device)
        if mode is not None and (draft.enter_mode or tensor.is_meta):
            return fake(tensor, mode, keep_integers=False)
        return tensor

    def example(inputs: dict[str, Any]) -> Example:
        args, kwargs = tree_map_only(Tensor, place, (draft.args, inputs))
        return Example(
            module=module,
            args=args,
            kwargs=kwargs,
            mode=mode,
            enter_mode=draft.enter_mode,
            settings=dict(request.used),
            kind=draft.kind,
            tokens=draft.tokens,
            for_loss=draft.for_loss,
            guessed=draft.guessed,
            quiet=draft.quiet,
        )

    return example
