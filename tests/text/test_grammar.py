"""``MODEL [KEY=VALUES ...]``."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from flopratio.errors import UsageError
from flopratio.text.grammar import (
    check_keys,
    format_value,
    parse_arguments,
    parse_value,
    parse_values,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", (8,)),
        ("1,8,64", (1, 8, 64)),
        ("0..3", (0, 1, 2, 3)),
        ("5..5", (5,)),
        ("-2..1", (-2, -1, 0, 1)),
        ("1..64*2", (1, 2, 4, 8, 16, 32, 64)),
        ("3..20*2", (3, 6, 12)),
        ("1..100*10", (1, 10, 100)),
        ("0..100+25", (0, 25, 50, 75, 100)),
        ("0..9+4", (0, 4, 8)),
        ("1,4..6,16..64*4", (1, 4, 5, 6, 16, 64)),
        ("0.1,1e-3,2.", (0.1, 0.001, 2.0)),
        ("true,False", (True, False)),
        ("relu,gelu", ("relu", "gelu")),
        ("8x3x224x224", ((8, 3, 224, 224),)),
        ("1,true,1.0", (1, True, 1.0)),
    ],
)
def test_values(text, values):
    parsed = parse_values("key", text)
    assert parsed == values
    assert [type(value) for value in parsed] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty value"),
        ("1,,2", "empty value"),
        ("1,", "empty value"),
        ("1,2,1", "lists 1 twice"),
        ("1..4,3", "lists 3 twice"),
        ("5..1", "write depth=1..5"),
        ("64..1*2", "counts down"),
        ("0..8*2", "never reaches its end"),
        ("1..8*1", "never reaches its end"),
        ("1..8*0", "never reaches its end"),
        ("0..8+0", "never reaches its end"),
        ("1..1000000000000", "1,000,000,000,000 values"),
    ],
)
def test_values_that_are_refused(text, said):
    with pytest.raises(UsageError) as error:
        parse_values("depth", text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.lists(st.integers(), min_size=2).map(tuple),
    )
)
def test_a_value_survives_being_written_and_read(value):
    read = parse_value(format_value(value))
    assert read == value
    assert type(read) is type(value)


def test_arguments():
    assert parse_arguments([]) == (None, {})
    assert parse_arguments(["mlp"]) == ("mlp", {})
    assert parse_arguments(["batch=1,2"]) == (None, {"batch": (1, 2)})
    assert parse_arguments(["cnn", "depth=0..2", "shared=true"]) == (
        "cnn",
        {"depth": (0, 1, 2), "shared": (True,)},
    )
    assert parse_arguments(["hf:llava", "vision_config.depth=2"])[1] == {
        "vision_config.depth": (2,)
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mlp", "batch"], "'batch' is not KEY=VALUE"),
        (["mlp", "=8"], "no key before its '='"),
        (["mlp", "a b=8"], "no key before its '='"),
        (["mlp", "part.=8"], "no key before its '='"),
        (["mlp", "batch=8", "batch=16"], "batch is given twice"),
    ],
)
def test_arguments_that_are_refused(words, said):
    with pytest.raises(UsageError, match=said):
        parse_arguments(words)


DEFAULTS = {"batch": 8, "depth": 2, "bias": True, "rate": 0.1, "input": (1, 3), "kind": "plain"}


def check(**keys):
    check_keys("net", keys, DEFAULTS, {"depth": 0}, {"kind": ("plain", "fancy")})


def test_a_value_must_be_of_its_keys_type():
    check(batch=[1, 8], depth=[0], bias=[False], rate=[1, 0.5], input=[(8, 8)], kind=["fancy"])


def test_a_size_may_be_an_array_or_a_symbol():
    check(batch=[np.array([1, 8], dtype=object), sympy.Symbol("batch"), np.int64(8)])
    for value in (None, [1, 8], "8", np.int64(0)):
        with pytest.raises(UsageError, match="a whole number of at least 1"):
            check(batch=[value])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("batch", "abc", "batch=abc will not do: batch is a whole number of at least 1"),
        ("batch", 0, "a whole number of at least 1, such as batch=8"),
        ("batch", -3, "batch=-3 will not do"),
        ("batch", 1.5, "batch=1.5 will not do"),
        ("batch", True, "batch=true will not do"),
        ("batch", (8, 8), "batch=8x8 will not do"),
        ("depth", -1, "a whole number of at least 0"),
        ("bias", 1, "bias is true or false"),
        ("rate", "abc", "rate is a number"),
        ("input", (8, 0), "input is sizes of at least 1, such as input=1x3"),
        ("kind", 3, "kind is a word"),
        ("kind", "fanzy", "'fanzy' is no kind: did you mean 'fancy'?"),
        ("bach", 8, "net has no KEY 'bach': did you mean 'batch'?"),
        ("qqq", 8, "net has no KEY 'qqq': there are batch, bias, depth, input, kind, rate"),
    ],
)
def test_keys_that_are_refused(key, value, said):
    with pytest.raises(UsageError) as error:
        check(**{key: [value]})
    assert said in str(error.value)
