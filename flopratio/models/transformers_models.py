"""`hf:TYPE` or `hf:path/config.json`: models of transformers, by configuration alone."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flopratio.models.construct import construct, unknown_key
from flopratio.models.example import Draft, ModelError, Request
from flopratio.models.explain import summary
from flopratio.models.packages import import_package
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.models.transformers_config import configs_within, make_config
from flopratio.models.transformers_inputs import FOR_LOSS, LANGUAGE, first_input, input_sets

_HEADS = (
    ("causal-lm", "AutoModelForCausalLM"),
    ("masked-lm", "AutoModelForMaskedLM"),
    ("seq2seq", "AutoModelForSeq2SeqLM"),
    ("encoder", "AutoModel"),
    ("vision", "AutoModelForImageClassification"),
    ("vision", "AutoModel"),
    ("speech", "AutoModelForCTC"),
    ("speech", "AutoModelForSpeechSeq2Seq"),
    ("speech", "AutoModel"),
    ("module", "AutoModel"),
)
"""The kinds of heads, in the order in which a type is asked for them, and their auto classes; then
all others, and at last the classes of a part that has none (a vision tower)."""

_READ_BY = {
    "input_ids": "encoder",
    "pixel_values": "vision",
    "pixel_values_videos": "vision",
    "input_values": "speech",
    "input_features": "speech",
}
"""The kind of a model without a head, by its first input."""

_LETTERS = 32
"""What a recogniser of speech spells with, where its configuration leaves that open; wav2vec2's."""


def transformers_draft(request: Request) -> Draft:
    """The model of that type or configuration with its first head, and inputs by its signature."""
    with suppress(ModelError):  # transformers imports it, but can do without
        import_torchvision()
    transformers = import_package("transformers")
    with _quiet(transformers):
        return _draft(request, transformers)


def _draft(request: Request, transformers: Any) -> Draft:
    wanted = request.take("head", None) if "head" in request.settings else None
    config = make_config(request, transformers)
    kind, model_class = _head(request, transformers, config, wanted)
    parts = configs_within(config)  # a head may be that of a part: of the text, of a decoder
    config = next((part for part in parts if type(part) is model_class.config_class), config)
    _complete(config, kind)

    dtype = {} if request.dtype is None else {"dtype": request.dtype}
    module = construct(request, model_class._from_config, {"config": config, **dtype})
    inputs, *alternatives = input_sets(request, module, kind)
    text = inputs.get("input_ids", inputs.get("labels"))
    for key in ("seq", "image"):
        if key in request.settings and key not in request.used:
            raise unknown_key(request, key, set(request.used))
    return Draft(
        module,
        kwargs=inputs,
        alternatives=alternatives,
        kind=kind,
        tokens=text.numel() if text is not None and kind in LANGUAGE else None,
        enter_mode=False,
        for_loss=FOR_LOSS,
        cast=False,
        spread=True,
    )


def _head(request: Request, transformers: Any, config: Any, wanted: str | None) -> tuple[str, Any]:
    """The kind and the class of the first head that a configuration has, or of the wanted one.

    `wanted` is a kind, an auto class or a model class; ModelError: there is no such head.
    """
    config_class: Any = type(config)
    try:
        heads = _heads(config_class)
    except (ImportError, ValueError) as error:  # a package or the class itself is missing
        raise ModelError(f"{request.spec} can't be built: {summary(error)}") from error
    for kind, auto, model_class in heads:
        if wanted in (None, kind, auto, model_class.__name__):
            return kind, model_class
    if wanted is None:
        raise ModelError(f"{request.spec} is a part of other models, without a model of its own")
    named: Any = getattr(transformers, wanted, None)
    if config_class in getattr(named, "_model_mapping", ()):
        named = _only(named._model_mapping[config_class])
    if named is not None and getattr(named, "config_class", None) is config_class:
        return _kind_by_input(named), named
    kinds = dict.fromkeys(kind for kind, _, _ in heads)
    raise ModelError(
        f"{request.spec} has no head '{wanted}': it has {', '.join(kinds)}, or a class of its own "
        f"such as {heads[0][2].__name__}"
    )


@functools.cache  # a list of all that transformers has takes longer than many a trace
def _heads(config_class: Hashable) -> list[tuple[str, str, Any]]:
    """(kind, auto class, model class) of each head that configurations of a class have.

    ImportError, ValueError: a package that the model needs, or the class itself, is missing.
    """
    transformers = import_package("transformers")
    named = {auto for _, auto in _HEADS}
    others = [name for name in dir(transformers) if name.startswith("AutoModelFor")]
    rest = [("", name) for name in others if name not in named]
    heads = []
    for kind, auto in (*_HEADS, *rest):
        listed: Any = getattr(getattr(transformers, auto), "_model_mapping", {})
        if config_class not in listed:
            continue
        model_class = _only(listed[config_class])
        own_kind = _kind_by_input(model_class)
        if auto != "AutoModel" or own_kind == kind:
            heads.append((kind or own_kind, auto, model_class))
    return heads or [(_kind_by_input(made), "", made) for made in _classes_for(config_class)]


def _classes_for(config_class: Any) -> list[Any]:
    """The classes of models that are made of a configuration of that class, in its own module; the
    one that is called after it first."""
    name = config_class.__module__.replace(".configuration_", ".modeling_")
    try:
        members = vars(importlib.import_module(name)).values()
    except ImportError:
        return []
    stem = config_class.__name__.removesuffix("Config")
    models = [
        value
        for value in members
        if isinstance(value, type)
        and value.__module__ == name
        and getattr(value, "config_class", None) is config_class
        and "forward" in vars(value)
    ]
    return sorted(models, key=lambda model: not model.__name__.startswith(stem))


def _only(listed: Any) -> Any:
    """The class that is listed for a configuration, or the first of several."""
    return listed[0] if isinstance(listed, tuple) else listed


def _kind_by_input(model_class: Any) -> str:
    return _READ_BY.get(first_input(model_class), "module")


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without what transformers has to say of configurations; errors are raised anyhow."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _complete(config: Any, kind: str) -> None:
    """Set what a default configuration leaves open, though training with this head needs it."""
    if kind == "causal-lm" and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True  # or BERT's causal head would look ahead
    for part in configs_within(config):
        _complete_attention(part)
    if kind == "speech" and getattr(config, "vocab_size", 0) is None:
        config.vocab_size = _LETTERS
    if getattr(config, "is_encoder_decoder", False):
        for name in ("pad_token_id", "decoder_start_token_id"):  # labels are shifted with both
            if getattr(config, name, None) is None:
                setattr(config, name, 0)


def _complete_attention(config: Any) -> None:
    """Without grouping, each head has keys and values of its own; all heads share the width."""
    own = vars(config)  # an attribute that varies from layer to layer refuses to be looked at
    heads, width = own.get("num_attention_heads"), own.get("hidden_size")
    if not isinstance(heads, int) or not isinstance(width, int):
        return
    if own.get("num_key_value_heads", heads) is None:
        config.num_key_value_heads = heads
    if own.get("head_dim", width) is None:
        config.head_dim = width // heads
