"""`package.module:factory` and `path/file.py:factory`: the user's own models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from flopratio.models.construct import construct, keywords, unknown_key
from flopratio.models.example import Draft, Inputs, ModelError, Request
from flopratio.models.guess import guess_input
from flopratio.models.importing import importing_from
from flopratio.models.inputs import (
    as_setting,
    refuse_beside_input,
    take_batch,
    take_input,
    with_values,
)
from flopratio.models.lazy import has_lazy_layers, materialise
from flopratio.models.torchvision_operators import torchvision_importable
from flopratio.models.user_code import directory_of, imported
from flopratio.text.grammar import format_value
from flopratio.text.suggestions import MOST_LISTED, did_you_mean
from flopratio.torch_private import is_compiled, tree_leaves, tree_map_only

_SIZES = ("batch", "seq", "image", "input")
"""KEYs for the example inputs, where the factory doesn't take them itself."""


def factory_draft(request: Request) -> Draft:
    """What the factory makes: a module, for which inputs are guessed, or a module with inputs.

    `input=` says other inputs than these, unless it is an argument of the factory.
    """
    factory = _factory(request.spec)
    options = _options(request, factory)
    made = construct(request, factory, options)
    given = [] if "input" in options else take_input(request)
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{request.spec} returned {_type_names(made)}: return an nn.Module or a pair "
            "(nn.Module, example_inputs)"
        )
    if any(map(is_compiled, module.modules())):
        # Compiled code takes the addresses of its inputs, and a fake tensor has none.
        raise ModelError(f"{request.spec} is compiled: return the module without torch.compile")
    if given:
        take_batch(request, given)
        draft = Draft(module, tuple(given))
    elif inputs is None:
        draft = Draft(module, (guess_input(request, module),), guessed=True)
    else:
        draft = Draft(module, *_example_inputs(request, inputs))
    _refuse_unused_sizes(request, draft)
    if has_lazy_layers(module):
        args, kwargs = draft.args, draft.kwargs
        if request.device is not None:
            place = partial(with_values, device=request.device)
            args, kwargs = tree_map_only(Tensor, place, (args, kwargs))
        materialise(module, args, kwargs, real=request.real)
    return draft


def _example_inputs(request: Request, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs, without the values of floats: only their shape counts."""
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if not tensors or not isinstance(inputs, Tensor | tuple | list | Mapping):
        raise ModelError(
            f"{request.spec} returned {_type_names(inputs)} as its example inputs: return a "
            "tensor, a tuple of positional or a dict of keyword inputs"
        )
    for tensor in tensors:
        if tensor.numel() == 0:
            shape = "x".join(map(str, tensor.shape))
            raise ModelError(f"{request.spec} returned an empty example input of {shape}")

    if not request.real:
        inputs = tree_map_only(Tensor, _without_values, inputs)
    elif request.dtype is not None:
        inputs = tree_map_only(Tensor, partial(_floating_as, dtype=request.dtype), inputs)
    args, kwargs = Inputs.of(inputs)
    return args, dict(kwargs)


def _without_values(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.detach().to("meta").requires_grad_(tensor.requires_grad)


def _floating_as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _refuse_unused_sizes(request: Request, draft: Draft) -> None:
    """A size that changed nothing would make the count of another model than was asked for."""
    inputs = [*draft.args, *draft.kwargs.values()]
    has_shapes = not draft.kwargs and all(isinstance(x, Tensor) and x.dim() for x in inputs)
    written = f"input={as_setting(inputs) if has_shapes else ','.join(['SHAPE'] * len(inputs))}"
    for key in _SIZES:
        if "input" in request.used and key not in ("input", "batch"):
            refuse_beside_input(request, key)
        if key in request.settings and key not in request.used:
            if draft.guessed:
                raise ModelError(
                    f"{request.spec} takes no '{key}', nor does its first layer read any: give it "
                    f"an argument of that name, or say all of its input, {written}"
                )
            raise ModelError(
                f"{request.spec} makes its own inputs and takes no '{key}': give it an argument of "
                f"that name, or say others, such as {written}"
            )


def _type_names(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(type(part).__name__ for part in value)})"
    return type(value).__name__


def _options(request: Request, factory: Callable[..., Any]) -> dict[str, object]:
    """The settings that the factory takes as keyword arguments.

    ModelError: a KEY that it does not take, or an argument without default that has no KEY.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        raise ModelError(f"{request.spec} is no Python function or class, with arguments") from None
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = keywords(factory)
    options: dict[str, object] = {}
    for key in request.settings:
        if key in known or (takes_any and key not in _SIZES):
            if key in parameters:
                _check_annotated(request, key, parameters[key].annotation)
            options[key] = request.take(key, None)
        elif key not in _SIZES:
            raise unknown_key(request, key, known.union(_SIZES))
    for name in known - options.keys():
        if parameters[name].default is inspect.Parameter.empty:
            raise ModelError(f"{request.spec} needs the argument '{name}': write {name}=VALUE")
    return options


def factory_keywords(spec: str) -> set[str]:
    """The names of the keyword arguments of the factory that `spec` names, inside of
    `importing_from`.

    ModelError: there is no such factory.
    """
    factory = _factory(spec)
    try:
        return keywords(factory)
    except (TypeError, ValueError):  # it has no signature
        return set()


def factory_defaults(spec: str) -> dict[str, object]:
    """The arguments of the factory that `spec` names which have a default, inside of
    `importing_from`.

    ModelError: there is no such factory.
    """
    factory = _factory(spec)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # it has no signature
        return {}
    defaults = ((name, parameter.default) for name, parameter in parameters.items())
    return {name: value for name, value in defaults if value is not inspect.Parameter.empty}


_KINDS: Mapping[str, tuple[type, str]] = {
    "int": (Integral, "no whole number"),
    "float": (Real, "no number"),
    "bool": (Integral, "neither true nor false"),
}
"""What a value has to be by the annotation of its argument, and what is said if it is not."""


def _check_annotated(request: Request, key: str, annotation: object) -> None:
    """ModelError: the value of a KEY is not of the number that the factory says it takes."""
    name = annotation.__name__ if isinstance(annotation, type) else annotation  # or written as text
    kind, said = _KINDS.get(str(name), (object, ""))
    value: Any = request.settings[key]
    if value is not None and not isinstance(value, kind):
        raise ModelError(
            f"{key}={format_value(value)} is {said}, and {request.spec} takes {key}: {name}"
        )


def _factory(spec: str) -> Callable[..., Any]:
    """The function or class that `module:name` or `file.py:name` names."""
    source, _, name = spec.rpartition(":")
    module = imported(source)
    factory = getattr(module, name, None)
    if factory is None:
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise ModelError(f"{source} has no '{name}'{did_you_mean(name, public)}")
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ModelError(
            f"{spec} is an object of type {type(factory).__name__}: name a function or a class "
            "that makes a module"
        )
    return factory  # type: ignore[no-any-return]


def name_a_factory(source: str) -> ModelError:
    """The error for a file without the name of a factory: which ones it has."""
    with torchvision_importable(), importing_from(directory_of(source)):
        module = imported(source)
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and name[0] != "_"
        and (inspect.isfunction(value) or _is_module_class(value))
    ]
    if not own:
        return ModelError(
            f"{source} defines no function or nn.Module: write a function in it that returns one"
        )
    listed = ", ".join(f"{source}:{name}" for name in own[:MOST_LISTED])
    return ModelError(f"name its factory, as in {source}:NAME: there are {listed}")


def _is_module_class(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)
