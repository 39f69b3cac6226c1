"""`hf:TYPE` or `hf:path/config.json`: models of transformers, by configuration alone."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from flopratio.models.construct import construct, unknown_key
from flopratio.models.example import Draft, ModelError, Request
from flopratio.models.explain import summary
from flopratio.models.packages import import_package
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.models.transformers_config import configs_within, make_config
from flopratio.models.transformers_defaults import DEFAULTS, INPUTS, REMARKS
from flopratio.models.transformers_inputs import (
    FOR_LOSS,
    LANGUAGE,
    first_input,
    input_names,
    propose_inputs,
)
from flopratio.models.transformers_parts import classes_for, has_forward, made_of, wholes_of
from flopratio.text.grammar import format_value

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

_MISSING = re.compile(r"requires the (\w+) library")

_LETTERS = 32
"""What a recogniser of speech spells with, where its configuration leaves that open; wav2vec2's."""


def transformers_draft(request: Request) -> Draft:
    """The model of that type or configuration with its first head, and inputs by its signature."""
    with suppress(ModelError):  # transformers imports it, but can do without
        import_torchvision()
    transformers = import_package("transformers")
    with _quiet():
        try:
            return _draft(request, transformers)
        except ModelError as error:
            missing = _MISSING.search(str(error)) if _is_import_error(error) else None
            if missing is not None:
                package = missing[1]
                reason = f"{request.spec} needs the package {package}: pip install {package}"
                raise ModelError(reason) from error
            if request.name in REMARKS:
                reason = f"{request.spec} can't be counted: {REMARKS[request.name]}"
                raise ModelError(reason) from error
            raise


def _draft(request: Request, transformers: Any) -> Draft:
    assumed = INPUTS.get(request.name, {})
    assumed = {key: value for key, value in assumed.items() if key not in request.settings}
    request = replace(request, settings={**assumed, **request.settings})
    head = request.take("head", None) if "head" in request.settings else None
    wanted = None if head is None else format_value(head)
    config, rest, fields = make_config(request, transformers, DEFAULTS.get(request.name, {}))
    kind, model_class = _head(request, transformers, config, wanted)
    parts = configs_within(config)  # a head may be that of a part: of the text, of a decoder
    own_class = getattr(model_class, "config_class", None)
    config = next((part for part in parts if type(part) is own_class), config)
    if not has_forward(model_class):
        raise ModelError(_without_forward(request, model_class, config, transformers))
    rest = _inputs_said(request, model_class, rest, fields, assumed)
    _complete(config, kind)

    module = _build(request, model_class, config)
    (inputs, *alternatives), forms = propose_inputs(request, module, config, kind, rest)
    text = inputs.get("input_ids", inputs.get("labels"))
    for key in ("seq", "image"):
        if key in request.settings and key not in request.used and key not in assumed:
            raise unknown_key(request, key, set(request.used))
    return Draft(
        module,
        kwargs=inputs,
        alternatives=alternatives,
        forms=forms,
        kind=kind,
        tokens=text.numel() if text is not None and kind in LANGUAGE else None,
        enter_mode=False,
        for_loss=FOR_LOSS,
        cast=False,
        spread=True,
        quiet=_quiet,
    )


def _inputs_said(
    request: Request,
    model_class: Any,
    rest: Mapping[str, object],
    fields: Collection[str],
    assumed: Collection[str],
) -> dict[str, object]:
    """Of the KEYs that aren't fields of a configuration those that are inputs of the model.

    What is assumed for a type is so for its first head; and where `input` says the first of the
    inputs, or another head has none of that name, it gives way.

    ModelError: a KEY is neither.
    """
    names = input_names(model_class)
    said = {}
    for key, value in rest.items():
        if key in names or (key in assumed and "head" not in request.settings):
            said[key] = value
        elif key not in assumed:
            raise unknown_key(request, key, {*fields, *names})
    if "input" in request.settings and (first := first_input(model_class)) in assumed:
        said.pop(first, None)
    return said


def _head(request: Request, transformers: Any, config: Any, wanted: str | None) -> tuple[str, Any]:
    """The kind and the class of the first head that a configuration has, or of the wanted one.

    `wanted` is a kind, an auto class or a model class; ModelError: there is no such head.
    """
    config_class: Any = type(config)
    try:
        heads = _heads(config_class)
    except ImportError as error:  # a package is missing
        raise ModelError(f"{request.spec} can't be built: {summary(error)}") from error
    for kind, auto, model_class in heads:
        if wanted in (None, kind, auto, model_class.__name__):
            return kind, model_class
    if wanted is None:
        wholes = " and ".join(f"hf:{name}" for name in wholes_of(config_class)) or "other models"
        raise ModelError(f"{request.spec} is a part of {wholes}, without a model of its own")
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

    ImportError: a package that the model needs is missing.
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
        try:
            model_class = _only(listed[config_class])
        except ValueError:  # the class that is listed is missing
            continue
        own_kind = _kind_by_input(model_class)
        if auto != "AutoModel" or own_kind == kind:
            heads.append((kind or own_kind, auto, model_class))
    return heads or [(_kind_by_input(made), "", made) for made in classes_for(config_class)]


def _without_forward(request: Request, model_class: Any, config: Any, transformers: Any) -> str:
    """The sentence for a model that is only called by other names than forward."""
    types = {part.model_type for part in configs_within(config)} - {config.model_type}
    parts = [f"hf:{name}" for name in sorted(types) if name in transformers.CONFIG_MAPPING]
    methods = ", ".join(
        name
        for name in vars(model_class)
        if inspect.isfunction(vars(model_class)[name]) and name[0] != "_"
    )
    return (
        f"{request.spec} has no forward: "
        + (f"count its parts, {', '.join(parts)}, or " if parts else "")
        + f"write a factory of a module whose forward calls one of its methods ({methods})"
    )


def _is_import_error(error: ModelError) -> bool:
    return isinstance(error.__cause__, ImportError)


def _build(request: Request, model_class: Any, config: Any) -> Any:
    """The model of that class, or the module, and in the dtype of the request."""
    dtype = {} if request.dtype is None else {"dtype": request.dtype}
    if hasattr(model_class, "_from_config"):
        return construct(request, model_class._from_config, {"config": config, **dtype})
    module = construct(request, made_of, {"model_class": model_class, "config": config})
    return module.to(**dtype) if dtype else module


def _only(listed: Any) -> Any:
    """The class that is listed for a configuration, or the first of several."""
    return listed[0] if isinstance(listed, tuple) else listed


def _kind_by_input(model_class: Any) -> str:
    return _READ_BY.get(first_input(model_class), "module")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what transformers has to say of configurations, as it builds a model or at its first
    forward; errors are raised anyhow."""
    transformers = import_package("transformers")
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
