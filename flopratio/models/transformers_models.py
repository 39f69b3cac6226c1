"""`hf:TYPE` or `hf:path/config.json`: models of transformers, by configuration alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flopratio.models.construct import construct, unknown_key
from flopratio.models.example import Draft, ModelError, Request
from flopratio.models.explain import summary
from flopratio.models.packages import import_package
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.models.transformers_config import make_config
from flopratio.models.transformers_inputs import LANGUAGE, first_input, input_sets

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
"""The kinds of heads, in the order in which a type is asked for them, and their auto classes."""

_READ_BY = {
    "input_ids": "encoder",
    "pixel_values": "vision",
    "pixel_values_videos": "vision",
    "input_values": "speech",
    "input_features": "speech",
}
"""The kind of a model without a head, by its first input."""


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
    text_config = config.sub_configs.get("text_config")
    if text_config is not None and model_class.config_class is text_config:
        config = config.get_text_config()  # as the auto classes do
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
        cast=False,
    )


def _head(request: Request, transformers: Any, config: Any, wanted: str | None) -> tuple[str, Any]:
    """The kind and the class of the first head that a configuration has, or of the wanted one.

    `wanted` is a kind, an auto class or a model class; ModelError: there is no such head.
    """
    heads = list(_heads(request, transformers, config))
    for kind, auto, model_class in heads:
        if wanted in (None, kind, auto, model_class.__name__):
            return kind, model_class
    if wanted is None:
        raise ModelError(f"{request.spec} is a part of other models and has no model of its own")
    named: Any = getattr(transformers, wanted, None)
    if type(config) in getattr(named, "_model_mapping", ()):
        named = _only(named._model_mapping[type(config)])
    if named is not None and getattr(named, "config_class", None) is type(config):
        return _kind_by_input(named), named
    kinds = dict.fromkeys(kind for kind, _, _ in heads)
    raise ModelError(
        f"{request.spec} has no head '{wanted}': it has {', '.join(kinds)}, or a class of its own "
        f"such as {heads[0][2].__name__}"
    )


def _heads(request: Request, transformers: Any, config: Any) -> Iterator[tuple[str, str, Any]]:
    """(kind, auto class, model class) of each head that transformers lists for a configuration."""
    for kind, auto in _HEADS:
        listed = getattr(transformers, auto)._model_mapping
        if type(config) not in listed:
            continue
        try:
            model_class = _only(listed[type(config)])
            fits = auto != "AutoModel" or _kind_by_input(model_class) == kind
        except (ImportError, ValueError) as error:  # a package or the class itself is missing
            raise ModelError(f"{request.spec} can't be built: {summary(error)}") from error
        if fits:
            yield kind, auto, model_class


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
    if getattr(config, "is_encoder_decoder", False):
        for name in ("pad_token_id", "decoder_start_token_id"):  # labels are shifted with both
            if getattr(config, name, None) is None:
                setattr(config, name, 0)
