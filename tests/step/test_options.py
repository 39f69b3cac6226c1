"""The options of a step are declared once: keywords, command line and document follow."""

import dataclasses
import inspect
from typing import Any

import pytest
import torch
import typer

import flopratio as fr
from flopratio import cli
from flopratio.errors import UsageError
from flopratio.step import optimizers
from flopratio.step.options import (
    AUTOCAST,
    DEFAULTS,
    LOSSES,
    StepKeywords,
    StepOptions,
    about_options,
)
from flopratio.text.dtypes import FLOATING, parse_dtype
from flopratio.verbs.sweep.plan import SWEPT_DEFAULTS

FIELDS = {field.name: field for field in dataclasses.fields(StepOptions)}


def test_type_checkers_know_the_fields() -> None:
    keywords = {
        name: getattr(kind, "__forward_arg__", kind)
        for name, kind in StepKeywords.__annotations__.items()
    }
    assert keywords == {name: field.type for name, field in FIELDS.items()}


@pytest.mark.parametrize(
    ("verb", "defaults"),
    [
        ("count", DEFAULTS),
        ("fit", DEFAULTS),
        ("graph", DEFAULTS),
        ("sweep", dict(SWEPT_DEFAULTS)),
    ],
)
def test_python_and_the_command_line_take_the_fields(verb: str, defaults: dict[str, Any]) -> None:
    signature = inspect.signature(getattr(fr, verb)).parameters
    command = typer.main.get_command(cli.app).commands[verb]  # type: ignore[attr-defined]
    options = {option.name: option for option in command.params}
    assert set(defaults) <= set(FIELDS)
    for name, default in defaults.items():
        about = about_options()[name]
        assert signature[name].default == default
        assert options[name].default == default
        assert options[name].opts == [f"--{name.replace('_', '-')}"]
        assert options[name].metavar == about.metavar
        assert options[name].help.startswith(about.help)
    others = set(FIELDS) - set(defaults)
    assert not others & (set(signature) | set(options))


def test_count_and_fit_take_all_of_them() -> None:
    assert {name: field.default for name, field in FIELDS.items()} == DEFAULTS


def test_an_option_more_is_seen_everywhere() -> None:
    """GIVEN a field that does not exist yet, THEN what is made of the fields has it."""
    from flopratio.cli.options import _parameter
    from flopratio.step import options

    more = dataclasses.make_dataclass(
        "More",
        [("seed", int, options.option(3, "Of the random numbers.", "N", least=0))],
        bases=(StepOptions,),
        frozen=True,
        kw_only=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "StepOptions", more)
        patch.setitem(options.DEFAULTS, "seed", 3)
        assert more(seed=5).convention()["seed"] == 5
        assert more(seed=5).as_dict()["seed"] == 5
        with pytest.raises(UsageError, match="seed=-1 should be at least 0"):
            more(seed=-1)
        assert more.among({"seed": 7, "depth": 2}) == (more(seed=7), {"depth": 2})

        @options.takes_step_options(options.DEFAULTS)
        def verb(model: str, **settings: Any) -> None: ...

        assert inspect.signature(verb).parameters["seed"].default == 3
        (option,) = _parameter("seed", 3).annotation.__metadata__
        assert (option.default, option.help, option.min) == ("--seed", "Of the random numbers.", 0)


def test_the_document_tells_them() -> None:
    convention = fr.count("mlp", 2, depth=1, optimizer="adam", freeze="first*").convention
    told = {name for name, about in about_options().items() if about.in_convention}
    assert told <= set(convention)
    assert convention["freeze"] == "first*"
    assert convention["optimizer_implementation"] == "foreach"  # as on the target
    assert convention["loss"] == "auto"
    assert StepOptions(loss=torch.sum).convention()["loss"] == "a function"


def test_choices_are_what_torch_has() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    for name in optimizers.CLASSES:
        assert optimizers.make_optimizer(name, [parameter]) is not None
    assert all(parse_dtype(name).is_floating_point for name in (*AUTOCAST, *FLOATING))


def test_what_is_written_of_choices_is_what_they_are() -> None:
    for name, about in about_options().items():
        if about.choices is not None and name != "target":
            written = about.metavar.split("|")
            # Of dtypes the usual ones are written.
            assert written == list(about.choices())[: len(written)]
            assert name == "dtype" or len(written) == len(list(about.choices()))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"loss": "mes"}, f"loss=mes should be one of {', '.join(LOSSES)}: did you mean 'mse'"),
        ({"optimizer": "sdg"}, "optimizer=sdg should be one of none, sgd, .*did you mean 'sgd'"),
        ({"optimizer": None}, "give the optimizer by name"),
        ({"dtype": "int8"}, "dtype=int8 should be one of float32, float64, bfloat16, float16"),
        ({"amp": "fp8"}, "amp=fp8 should be one of bf16, fp16"),
        ({"attention": "flush"}, "did you mean 'flash'"),
        ({"causal": "third"}, "causal=third should be one of full, half"),
        ({"target": "H100-80"}, "did you mean 'H100-80GB'"),
        ({"freeze": 3}, "freeze=3 should be a pattern, such as 'layer1"),
        ({"checkpoint": "auto:x"}, "checkpoint=auto:x should name a number of segments"),
        ({"accumulate": 0}, "accumulate=0 should be at least 1"),
        ({"accumulate": 1.5}, "accumulate=1.5 should be a whole number"),
        ({"accumulate": True}, "accumulate=True should be a whole number"),
        ({"inference": "yes"}, "inference='yes' should be true or false"),
    ],
)
def test_bad_input_is_one_sentence(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        StepOptions(**words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["fp16", "half", "float16", torch.float16])
def test_a_dtype_is_kept_by_torchs_name(dtype: Any) -> None:
    assert StepOptions(dtype=dtype).dtype == "float16"
