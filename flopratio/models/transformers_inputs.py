"""Inputs of a transformers model, by its forward signature and its configuration.

Where a configuration doesn't tell in which form a model reads something (spectrograms with the
frames first or last), or whether it asks for a second modality, several sets are proposed.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flopratio.models.example import ModelError, Request
from flopratio.models.inputs import (
    drawn,
    floats,
    integers,
    parse_shape,
    refuse_beside_input,
    take_batch,
    take_image,
    take_input,
)
from flopratio.models.transformers_config import lookup, plain_token, special_tokens
from flopratio.models.transformers_shapes import documented_forms, of_shape, parse_documented
from flopratio.text.dtypes import parse_dtype
from flopratio.torch_private import tree_map_only

LANGUAGE = ("causal-lm", "masked-lm", "seq2seq", "encoder")
"""The kinds of heads that read text."""

FOR_LOSS = frozenset({"labels", "return_loss"})
"""Inputs that only the loss asks for."""

_SEQ, _TRANSCRIPT = 128, 16
"""Tokens of a text, and of what is said in a second of speech."""
_PIXELS, _CLIP = 224, 16
"""Pixels a side of an image, and frames of a clip."""
_SAMPLES, _FRAMES, _MELS = 16_000, 256, (80, 128)
"""Samples of a second of speech; frames and usual frequencies of a spectrogram."""
_OBJECTS = 36
"""Objects that a detector has found in an image."""

_OPTIONAL = (
    "input_ids",
    "decoder_input_ids",
    "pixel_values",
    "pixel_values_videos",
    "input_features",
    "input_values",
    "bbox",
    "visual_feats",
    "visual_pos",
    "lang_ids",
    "pixel_attention_mask",
    "spatial_shapes",
    "mm_token_type_ids",
    "input_features_mask",
    "attention_mask",
)
"""Inputs that have a default and that some models nevertheless refuse to do without."""

_POSITIONS = {"sequence_length", "seq_length", "seq_len", "target_sequence_length"}
_POSITIONS |= {"num_tokens", "episode_length", "text_len", "text_length"}
_SIDES = {"height", "width", "image_height", "image_width", "image_size", "frame_size"}
_ONE_EACH = {"num_images", "num_videos", "num_audios", "num_crops", "num_chunks", "num_samples"}
_USUAL = {
    "num_channels": 3,
    "num_frames": _CLIP,
    "frames": _FRAMES,
    "time_steps": _FRAMES,
    "max_num_images": 1,
    "max_num_tiles": 1,
}
"""What names in documented shapes stand for: tokens, pixels, one for each example, and sizes that
a configuration may have."""

_IMAGES = {"pixel_values", "pixel_values_videos", "image", "grid_thw", "spatial_shapes"}
_MOST_SETS = 24


def first_input(model: Any) -> str:
    """The name of the input that a model or model class is mainly about."""
    names = input_names(model)
    main = getattr(model, "main_input_name", "")
    return main if main in names else next(iter(names), "")


def input_names(model: Any) -> list[str]:
    """The names of the inputs of a model or model class."""
    return list(_parameters(model))


def propose_inputs(
    request: Request, model: nn.Module, config: Any, kind: str, given: Mapping[str, object]
) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
    """The keyword inputs to try, the likeliest first; of several, those without labels at last. And
    the forms that every input may have, for a model that runs with none of these.

    Args:
        given: inputs that the user has said by name, as shapes or as they are.

    ModelError: the shape of an input that the model can't do without isn't known.
    """
    parameters = _parameters(model)
    forms = _forms(request, model, config, kind)
    said = {
        name: _said(value, name, parameters, lambda size: _size(size, request, config, kind))
        for name, value in given.items()
    }
    forms |= {name: [value] for name, value in said.items()}
    request.used |= {name: _written(value) for name, value in said.items()}
    # What is proposed, but perhaps not used, leaves no mark on the request.
    unmarked = replace(request, used=dict(request.used))
    documented = documented_forms(model, lambda size: _size(size, unmarked, config, kind))

    main = first_input(model)
    required = [n for n, p in parameters.items() if p.default is p.empty]
    asked = [n for n in parameters if n in required or (n == main and kind == "module")]
    if any(name not in forms and name in documented for name in asked):
        documented = documented_forms(model, lambda size: _size(size, request, config, kind))
        forms = {n: [documented[n]] for n in asked if n in documented} | forms
    needed = [n for n in parameters if n in required or n == main]
    needed += [n for n in said if n not in needed]
    unknown = [n for n in asked if n not in forms]
    if unknown:
        raise ModelError(_unknown(request, {name: parameters[name] for name in unknown}))
    needed = [n for n in needed if n in forms]
    optional = [n for n in _OPTIONAL if n in parameters and n in forms and n not in needed]
    if kind in ("causal-lm", "masked-lm", "seq2seq"):
        # Labels tell the rest, so that a plain language model leaves no doubt about its inputs.
        optional = [n for n in optional if n not in ("decoder_input_ids", "attention_mask")]
    constant: dict[str, Any] = {"return_loss": True} if "return_loss" in parameters else {}
    labels = _labels(request, model, config, kind) if "labels" in parameters else {}

    sets: list[dict[str, Any]] = []
    for count in range(len(optional) + 1):
        for chosen in itertools.combinations(optional, count):
            names = [*needed, *chosen]
            for tensors in itertools.product(*(forms[name] for name in names)):
                sets.append({**dict(zip(names, tensors, strict=True)), **constant})
    sets = sets[:_MOST_SETS]
    with_labels = [{**inputs, **labels} for inputs in sets]
    further = {
        name: [*forms.get(name, []), *([documented[name]] if name in documented else [])]
        for name in parameters
        if name not in said
    }
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    proposed = (
        with_labels + sets if labels and len(sets) > 1 else with_labels,
        {name: tensors for name, tensors in further.items() if tensors},
    )
    cast: tuple[list[dict[str, Any]], dict[str, list[Any]]] = tree_map_only(
        Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, proposed
    )
    return cast


def _unknown(request: Request, unknown: Mapping[str, inspect.Parameter]) -> str:
    """The sentence for inputs that nothing says the sizes of, or that have none."""
    for name, parameter in unknown.items():
        kind = parameter.annotation
        sized = (Tensor, int, float, tuple, list, inspect.Parameter.empty)
        if isinstance(kind, type) and not issubclass(kind, sized):
            return (
                f"{request.spec} reads {name} of type {kind.__name__}, which sizes don't make: "
                "build the model yourself, and profile a step of it with fr.Profiler"
            )
    batch = request.used["batch"]
    keys = [
        f"{name}=true" if parameter.annotation is bool else f"{name}={batch}x..."
        for name, parameter in unknown.items()
    ]
    return (
        f"{request.spec} reads {', '.join(unknown)}, and their sizes aren't known: write "
        f"{' '.join(keys)}"
    )


def _said(
    value: Any,
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    sizes: Callable[[str], int | None],
) -> Any:
    """An input as it is said: `2x3x64x64`, `(batch_size, 64)`, `2x64:int64` and `2x2:int64=14x14`,
    which says the values too, are tensors; lists and dicts hold several; all else is what it is."""
    if isinstance(value, dict):
        return {key: _said(each, name, parameters, sizes) for key, each in value.items()}
    if isinstance(value, list):
        return [_said(each, name, parameters, sizes) for each in value]
    is_tensor = name in parameters and "Tensor" in str(parameters[name].annotation)
    if type(value) is int and is_tensor:
        value = (value,)
    if isinstance(value, tuple) and all(type(side) is int for side in value):
        value = "x".join(map(str, value))
    if not isinstance(value, str):
        return value
    shape, _, rest = value.partition(":")
    dtype, _, values = rest.partition("=")
    documented = shape.startswith("(")
    sides = (
        parse_documented(shape, sizes) if documented else parse_shape(name, shape, example="8x64")
    )
    if sides is None:
        raise ModelError(f"{name}={value} is not a size: write it like {name}=8x64")
    tensor = of_shape(name, sides, dtype.startswith(("int", "bool")))
    if dtype:
        tensor = tensor.to(parse_dtype(dtype))
    if values:
        row = torch.tensor([int(each) for each in values.split("x")])
        tensor = row.to(tensor.dtype).expand(sides).clone()
    return tensor


def _written(value: Any) -> Any:
    """An input as a KEY says it, without its values; None for several, for which there is none."""
    if isinstance(value, dict | list):
        return None
    if not isinstance(value, Tensor):
        return value
    shape = "x".join(map(str, value.shape))
    return shape if value.is_floating_point() else f"{shape}:{str(value.dtype).partition('.')[2]}"


def _size(name: str, request: Request, config: Any, kind: str) -> int | None:
    """What a name stands for in a documented shape; None if that isn't known."""
    if name in ("batch_size", "batch") or name in _ONE_EACH:
        return take_batch(request, take_input(request))
    if name in _POSITIONS:
        return _seq(request, config, kind)
    if name in _SIDES:
        return _image(request, config, kind)["width" in name]
    if name in _USUAL:
        return lookup(config, name) or _USUAL[name]
    value = lookup(config, name)
    return value if type(value) is int else None


def _parameters(model: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of forward."""
    parameters = inspect.signature(model.forward).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {n: p for n, p in parameters.items() if p.kind not in variadic and n != "self"}


def _labels(request: Request, model: Any, config: Any, kind: str) -> dict[str, Tensor]:
    """Tokens or classes to predict, where the kind of head tells which."""
    batch = take_batch(request, take_input(request))
    if kind in ("causal-lm", "masked-lm", "seq2seq", "speech"):
        seq = _seq(request, config, kind)
        return {"labels": _text(request, config, batch, seq)}
    if kind == "vision" and type(model).__name__.endswith("ForImageClassification"):
        return {"labels": drawn(request, integers(batch), lookup(config, "num_labels") or 1)}
    return {}


def _forms(request: Request, model: Any, config: Any, kind: str) -> dict[str, list[Tensor]]:
    """The forms that each input may have, the likeliest first."""
    main, parameters = first_input(model), _parameters(model)
    given = take_input(request)
    batch = take_batch(request, given)
    reads_text = kind == "speech" or "input_ids" in parameters
    seq = _seq(request, config, kind) if reads_text else _SEQ
    text = _text(request, config, batch, seq)
    hidden = floats(batch, seq, lookup(config, "hidden_size", "d_model") or 1)
    forms: dict[str, list[Tensor]] = {
        "input_ids": [text, *_code_forms(config, text)],
        "inputs": [text, floats(batch, _SAMPLES)],
        "decoder_input_ids": [text],
        "qformer_input_ids": [text],
        "attention_mask": [torch.ones_like(text)],
        "mm_token_type_ids": [torch.zeros_like(text)],
        "bbox": [integers(*text.shape, 4), torch.zeros(*text.shape, 4)],
        "visual_feats": [floats(batch, _OBJECTS, lookup(config, "visual_feat_dim") or 1)],
        "visual_pos": [floats(batch, _OBJECTS, lookup(config, "visual_pos_dim") or 1)],
        "lang_ids": [integers(batch)],
        "past_values": [_series(config, batch)],
        "inputs_embeds": [hidden],
        "hidden_states": [hidden],
        **_speech_forms(model, config, batch),
    }
    if _IMAGES & parameters.keys() or main == "hidden_states":
        images = _image_forms(request, model, config, kind, batch, parameters)
        forms |= {name: [*tensors, *forms.get(name, [])] for name, tensors in images.items()}
    if main == "input_values":
        forms["attention_mask"] = [integers(batch, _SAMPLES, value=1)]
    elif main == "input_features":
        forms["attention_mask"] = forms["input_features_mask"]
    if given and main != "input_ids":  # a text has its shape from `batch` and `seq` by now
        forms[main] = given[:1]
    return forms


def _text(request: Request, config: Any, batch: int, seq: int) -> Tensor:
    """Plain tokens [N, T]: of a real step drawn from the vocabulary."""
    plain = plain_token(config)
    text = integers(batch, seq, value=plain)
    words = drawn(request, text, lookup(config, "vocab_size", part="text") or plain + 1)
    special = [token for token in special_tokens(config) if isinstance(token, int)]
    return torch.where(torch.isin(words, torch.tensor(special, dtype=words.dtype)), text, words)


def _code_forms(config: Any, text: Tensor) -> list[Tensor]:
    """Texts [N, T] with a token for each codebook of a speech decoder: as [N K, T], [N, K, T] or
    [N, T, K], or with that of the text as well."""
    codebooks = lookup(config, "num_codebooks")
    if not isinstance(codebooks, int):
        return []
    books = text[:, None].repeat(1, codebooks, 1)
    with_text = text[:, None].repeat(1, codebooks + 1, 1)
    return [books.flatten(0, 1), books, books.mT, with_text, with_text.mT]


def _image_forms(
    request: Request,
    model: Any,
    config: Any,
    kind: str,
    batch: int,
    parameters: Collection[str],
) -> dict[str, list[Tensor]]:
    """Images [N, C, H, W], pairs of them and clips [N, T, C, H, W]; or patches [P, values] of all
    images with their grid, or [N, P, values] of each."""
    height, width = _image(request, config, kind)
    channels = lookup(config, "num_channels", "in_channels", "in_chans", part="vision")
    channels = channels if isinstance(channels, int) else 3
    patch = _sides(lookup(config, "patch_size", part="vision") or 16)[0]
    if "spatial_shapes" in parameters:
        rows, columns = height // patch, width // patch
        return {
            "pixel_values": [floats(batch, rows * columns, channels * patch**2)],
            "pixel_attention_mask": [integers(batch, rows * columns, value=1)],
            "spatial_shapes": [torch.tensor([[rows, columns]] * batch)],
        }
    if "grid_thw" in parameters:
        frames = lookup(config, "temporal_patch_size", part="vision") or 1
        rows, columns = height // patch // 2 * 2, width // patch // 2 * 2  # merged two by two
        count = batch * rows * columns
        patches = [
            floats(count, channels * frames * patch**2),
            floats(count, _first_width(model)),
            floats(count, channels, patch, patch),
        ]
        grid = torch.tensor([[1, rows, columns]] * batch)
        ones = integers(batch, value=1)
        return {
            "pixel_values": patches,
            "hidden_states": patches,
            "grid_thw": [grid],
            "merge_sizes": [ones],
        }
    frames = lookup(config, "num_frames", part="vision")
    image = floats(batch, channels, height, width)
    clip = floats(batch, frames or _CLIP, channels, height, width)
    pair = floats(batch, 2, channels, height, width)
    return {
        "pixel_values": [clip, image] if frames else [image, pair],
        "image": [image],
        "hidden_states": [image],
        "pixel_values_videos": [clip],
    }


def _speech_forms(model: Any, config: Any, batch: int) -> dict[str, list[Tensor]]:
    """Waves [N, samples] or [N, 1, samples], and spectrograms with the frames last or first."""
    names = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "n_mels")
    bands = lookup(config, *names, part="audio")
    mels, *others = (bands, _first_width(model)) if bands else _MELS
    positions = lookup(config, "max_source_positions", part="audio") or _FRAMES
    length = lookup(config, "max_length", part="audio") or _FRAMES
    return {
        "input_values": [
            floats(batch, _SAMPLES),
            floats(batch, 1, _SAMPLES),
            floats(batch, length, mels),
        ],
        "input_features": [
            floats(batch, mels, _FRAMES),
            floats(batch, _FRAMES, mels),
            floats(batch, mels, 2 * positions),  # Whisper's: all, and halved by a convolution
            *(floats(batch, _FRAMES, other) for other in others),  # stacked frames, for instance
            floats(batch, 1, _FRAMES, mels),
        ],
        "input_features_mask": [integers(batch, _FRAMES, value=1)],
    }


def _series(config: Any, batch: int) -> Tensor:
    """Time series [N, T, C]."""
    steps = lookup(config, "context_length") or _SEQ
    return floats(batch, steps, lookup(config, "num_input_channels", "input_size") or 1)


def _first_width(model: nn.Module) -> int:
    """The features that the first linear layer reads."""
    return next((m.in_features for m in model.modules() if isinstance(m, nn.Linear)), 1)


def _seq(request: Request, config: Any, kind: str) -> int:
    """The setting `seq`; 16 tokens for speech, else 128, or as many as the model has positions."""
    given = take_input(request)
    if given and given[0].dim() == 2 and kind in LANGUAGE:
        request.used["seq"] = given[0].size(1)
        refuse_beside_input(request, "seq")
        return given[0].size(1)
    positions = lookup(config, "max_position_embeddings", part="text")
    if not positions or positions < 0:  # -1 stands for any number
        positions = _SEQ
    default = _TRANSCRIPT if kind == "speech" else min(_SEQ, positions)
    if grid := lookup(config, "axial_pos_shape"):
        default = math.prod(grid)  # in training every position of the grid is to be taken
    if kind in LANGUAGE or "seq" in request.settings:
        return request.take_int("seq", default)
    return default


def _image(request: Request, config: Any, kind: str) -> tuple[int, int]:
    """(height, width) by the setting `image`, or by the configuration."""
    native = _sides(lookup(config, "image_size", "max_img_size", part="vision") or _PIXELS)
    if kind in LANGUAGE and "image" not in request.settings:
        return native
    return take_image(request, native)


def _sides(size: Any) -> tuple[int, int]:
    """(height, width) of 224, [224, 160] or {"height": 224, "width": 160}."""
    if isinstance(size, dict):
        size = [size["height"], size["width"]] if "height" in size else list(size.values())
    return (size, size) if isinstance(size, int) else (size[0], size[-1])
