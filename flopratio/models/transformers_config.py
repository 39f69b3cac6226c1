"""Configurations of transformers: from a model type or a local file, with KEY=VALUE set on them."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flopratio.models.construct import construct, keywords, unknown_key
from flopratio.models.example import ModelError, Request
from flopratio.models.inputs import take_image
from flopratio.models.transformers_defaults import DEFAULTS
from flopratio.text.suggestions import did_you_mean

_FOR_INPUTS = ("batch", "seq", "image", "input")
_FOR_TRAINING: Mapping[str, object] = {
    "use_cache": False,  # keys and values are kept for generation
    "layerdrop": 0.0,  # with a probability to skip a layer, the cost of a step is drawn by lot
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
"""What is set on a configuration and all of its parts, unless a KEY says otherwise."""

_ALSO = frozenset({"attn_implementation", "experts_implementation", "num_labels"})
"""Keywords that every configuration takes beside its fields."""


def make_config(
    request: Request, transformers: Any, assumed: Mapping[str, object]
) -> tuple[Any, dict[str, object], Collection[str]]:
    """The configuration that a spec names, with the remaining settings applied to it; those that it
    has no field for; and the names of all its fields.

    A KEY is a field of the configuration or, if it has none of that name, of one of its parts
    (`text_config` first); `vision_config.hidden_size` says which part is meant.

    Args:
        assumed: what the configuration can't do without, where no KEY says otherwise.
    """
    given, cls = _named_config(request, transformers)
    parts = _parts(cls)
    fields = _fields(cls).union(*(_fields(type(part)) for part in parts.values()), _FOR_INPUTS)
    rest: dict[str, object] = {}
    # A file says all that it means to.
    needed = {} if given else copy.deepcopy({**_open_in_parts(parts), **assumed})
    values = {**needed, **request.take_rest(but=_FOR_INPUTS)}
    request.used |= {key: values[key] for key in needed if not isinstance(values[key], dict)}
    for key, value in values.items():
        owner, _, field = key.rpartition(".")
        if not owner and not _has(cls, key) and key not in needed:
            owner = next((name for name, part in parts.items() if _has(type(part), key)), "")
            if not owner:
                rest[key] = value
                continue
        path = owner.split(".") if owner else []
        if path and path[0] not in getattr(cls, "sub_configs", {}):
            raise unknown_key(request, key, {f"{name}.{field}" for name in parts})
        _part(given, cls, path)[cls.attribute_map.get(field, field)] = value
    _shorten_layer_lists(given)
    _set_image_size(request, given, cls, parts)

    config = construct(request, cls, given)
    for part in configs_within(config):
        for key, value in _FOR_TRAINING.items():
            if key not in request.settings and getattr(part, key, None):
                setattr(part, key, value)
    return config, rest, fields


def configs_within(config: Any) -> Iterator[Any]:
    """The configuration and, recursively, its parts; the part for text first of these."""
    yield config
    for name in sorted(getattr(config, "sub_configs", {}), key=lambda name: "text" not in name):
        part = getattr(config, name, None)
        if part is not None:
            yield from configs_within(part)


def lookup(config: Any, *names: str, part: str = "") -> Any:
    """The first value that the configuration or a part has under one of `names`, else None.

    Parts whose name contains `part` are asked first.
    """
    configs = sorted(configs_within(config), key=lambda c: part not in type(c).__name__.lower())
    values = (getattr(c, name, None) for c in configs for name in names)
    return next((value for value in values if value is not None), None)


def plain_token(config: Any) -> int:
    """A token that is no padding, no start or end of a text, and no place of an image."""
    special = special_tokens(config)
    return next(token for token in range(1, len(special) + 2) if token not in special)


def special_tokens(config: Any) -> set[object]:
    """The tokens that stand for something else than text."""
    special: set[object] = set()
    for part in configs_within(config):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")):
                special.update(value if isinstance(value, list) else [value])
    return special


def _named_config(request: Request, transformers: Any) -> tuple[dict[str, Any], Any]:
    """The values given in a file, none for a model type; and the class of the configuration."""
    types = transformers.CONFIG_MAPPING
    if request.name in types:
        return {}, types[request.name]
    path = Path(request.name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ModelError(
            f"'{request.name}' is neither a model type of transformers nor a local config.json, "
            f"and nothing is downloaded{did_you_mean(request.name, types.keys())}"
        )
    try:
        given = json.loads(path.read_text())
        model_type = given.pop("model_type")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ModelError(f"{path} is not a JSON object with a 'model_type'") from None
    if model_type not in types:
        hint = did_you_mean(str(model_type), types.keys())
        raise ModelError(f"{path} has the model_type '{model_type}', unknown to transformers{hint}")
    return given, types[model_type]


def _parts(cls: Any) -> dict[str, Any]:
    """The parts of a default configuration by name, the one for text first."""
    config = _default(cls)
    if config is None:
        return {}
    names = sorted(getattr(cls, "sub_configs", {}), key=lambda name: "text" not in name)
    parts = {name: getattr(config, name, None) for name in names}
    return {name: part for name, part in parts.items() if part is not None}


def _part_defaults(cls: Any, name: str) -> dict[str, Any]:
    """What a configuration gives to its part of that name, where nothing is given."""
    spec: Any = getattr(cls, "sub_configs_defaults", {}).get(name)
    default = getattr(_default(cls), name, None)
    model_type = getattr(default, "model_type", None) or getattr(spec, "model_type", None)
    given = {} if model_type is None else {"model_type": model_type}
    if getattr(spec, "model_type", None) == model_type:  # or it is given another than it says
        given |= getattr(spec, "init_kwargs", None) or {}
    return given


def _part(config: dict[str, Any], cls: Any, path: Sequence[str]) -> dict[str, Any]:
    """The values given for a part, or a part of a part, within those given for a configuration."""
    for name in path:
        config = config.setdefault(name, _part_defaults(cls, name))
        cls = type(_parts(cls).get(name))
    return config


def _open_in_parts(parts: Mapping[str, Any]) -> dict[str, object]:
    """What the parts of a configuration can't do without, where it doesn't say that itself."""
    needed = {}
    for name, part in parts.items():
        for key, value in DEFAULTS.get(part.model_type, {}).items():
            if _field(part, key) == _field(_default(type(part)), key):
                needed[f"{name}.{key}"] = value
    return needed


def _field(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name, None)
    return config


def _default(cls: Any) -> Any:
    """A default configuration; None if its defaults contradict each other."""
    try:
        return cls()
    except Exception:  # the settings may mend it
        return None


def _has(cls: Any, key: str) -> bool:
    return key in _fields(cls) or key in _ALSO


def _fields(cls: Any) -> set[str]:
    """The names under which a configuration class takes values."""
    aliases = set(cls.attribute_map)
    if not dataclasses.is_dataclass(cls):  # until transformers 5
        return aliases | keywords(cls.__init__)
    return aliases | {field.name for field in dataclasses.fields(cls)}


def _set_image_size(
    request: Request, given: dict[str, Any], cls: Any, parts: Mapping[str, Any]
) -> None:
    """Have the model built for the images of the setting `image`, if it asks for their size."""
    if "image" not in request.settings:
        return
    targets = [given] if "image_size" in _fields(cls) else []
    for name, part in parts.items():
        if "image_size" in _fields(type(part)):
            targets.append(given.setdefault(name, _part_defaults(cls, name)))
    for target in targets:
        height, width = take_image(request, (0, 0))
        target["image_size"] = height if height == width else [height, width]


def _shorten_layer_lists(given: dict[str, Any]) -> None:
    """Cut lists with an entry a layer (`layer_types`) to a smaller number of layers."""
    for values in (given, *(value for value in given.values() if isinstance(value, dict))):
        layers = values.get("num_hidden_layers")
        for name, types in values.items():
            if name.endswith("layer_types") and isinstance(layers, int) and isinstance(types, list):
                values[name] = types[:layers]
