"""Parts of transformers' models that no auto class lists: a vision tower, a mask decoder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Iterator
from typing import Any

from torch import nn

_NO_MODELS = (
    *("configuration_", "convert_", "feature_extraction_", "generation_", "image_processing"),
    *("modular_", "processing_", "tokenization_", "video_processing_"),
)
"""How the modules of a model's package begin that define none."""


def classes_for(config_class: Any) -> list[Any]:
    """The classes of models that are made of a configuration of that class, in its own package; the
    one that is called after it first.

    Without any, the modules that are made of configurations alone and are called after this one or
    take it: the last of them first, for a module is defined after its parts.
    """
    name = config_class.__name__
    stem = name.removesuffix("Config")
    modules = [
        value
        for value in _classes(config_class.__module__.rpartition(".")[0])
        if issubclass(value, nn.Module) and (has_forward(value) or value.__name__ == stem)
    ]
    models = [value for value in modules if getattr(value, "config_class", None) is config_class]
    if models:
        return sorted(models, key=lambda model: not model.__name__.startswith(stem))
    parts = [value for value in modules if _takes(value, config_class)]
    called = [part for part in parts if part.__name__.startswith(stem)]
    takers = [part for part in parts if any(config_class in c for c in _configs(part).values())]
    return (called or takers)[::-1]


def wholes_of(config_class: Any) -> list[str]:
    """The types, of the same package, that have a part of that configuration class."""
    package = config_class.__module__.rpartition(".")[0]
    configs: list[Any] = list(_classes(package, "configuration_"))
    return sorted(
        cls.model_type
        for cls in configs
        if config_class in getattr(cls, "sub_configs", {}).values()
    )


def has_forward(model_class: Any) -> bool:
    """Whether a class, or one that it is derived from, defines forward."""
    return model_class.forward is not nn.Module.forward


def made_of(model_class: Any, config: Any) -> Any:
    """A module that is no model: made of `config`, the whole of which it is a part, and others by
    default."""
    config._attn_implementation = config._attn_implementation or "sdpa"  # as every model does
    configs = _configs(model_class)
    arguments = {}
    for name, choices in configs.items():
        cls, part = _holder(choices, type(config)) or (choices[0], None)
        arguments[name] = config if part == "" else cls(**({part: config} if part else {}))
    return model_class(**arguments) if configs else model_class(config)


def _classes(package: str, prefix: str = "") -> Iterator[type]:
    """The classes that the modules of a package define, in order: those whose names begin with a
    prefix, or those of models."""
    for found in pkgutil.iter_modules(getattr(sys.modules.get(package), "__path__", [])):
        if not (found.name.startswith(prefix) if prefix else not found.name.startswith(_NO_MODELS)):
            continue
        name = f"{package}.{found.name}"
        try:
            members = vars(importlib.import_module(name)).values()
        except ImportError:
            continue
        yield from (v for v in members if isinstance(v, type) and v.__module__ == name)


def _takes(model_class: Any, config_class: Any) -> bool:
    """Whether a constructor takes a configuration, or what it is a part of, and needs no more; or,
    without saying what it takes, is called after it."""
    parameters = list(inspect.signature(model_class.__init__).parameters.values())[1:]
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    configs = _configs(model_class)
    if configs:
        takes = any(_holder(choices, config_class) for choices in configs.values())
        return takes and set(needed) <= configs.keys()
    stem = config_class.__name__.removesuffix("Config")
    return needed == ["config"] and model_class.__name__.startswith(stem)


def _configs(model_class: Any) -> dict[str, list[Any]]:
    """The classes of configurations that a constructor takes, by the names of its arguments."""
    try:
        hints = typing.get_type_hints(model_class.__init__)
    except Exception:  # of names that are only there for a type checker
        return {}
    configs = {}
    for name, hint in hints.items():
        found = [cls for cls in typing.get_args(hint) or (hint,) if hasattr(cls, "sub_configs")]
        if found:
            configs[name] = found
    return configs


def _holder(choices: list[Any], config_class: Any) -> tuple[Any, str] | None:
    """Of several classes the one that is `config_class`, or has a part of it, with the part's name
    ("" for itself); None if there is none."""
    for cls in choices:
        if cls is config_class:
            return cls, ""
        for name, part in getattr(cls, "sub_configs", {}).items():
            if part is config_class:
                return cls, name
    return None
