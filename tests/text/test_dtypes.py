"""Dtypes by any of their names."""

import pytest
import torch

from flopratio.errors import UsageError
from flopratio.text.dtypes import (
    ALIASES,
    FLOATING,
    RUNNABLE,
    SHORT_NAMES,
    dtype_name,
    itemsize,
    parse_dtype,
)


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", torch.bfloat16])
def test_any_name_will_do(dtype) -> None:
    assert parse_dtype(dtype) is torch.bfloat16
    assert dtype_name(dtype) == "bfloat16"


def test_names_are_torchs() -> None:
    for name, other in (SHORT_NAMES | ALIASES).items():
        assert f"torch.{other}" == str(parse_dtype(name))
    assert all(parse_dtype(name).is_floating_point for name in FLOATING)
    assert parse_dtype("int64") is torch.int64


def test_another_name_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="there is no dtype 'flot32': did you mean 'float32'"):
        parse_dtype("flot32")


def test_the_bytes_of_a_number_are_in_its_dtypes_name() -> None:
    assert [itemsize(name) for name in RUNNABLE] == [parse_dtype(n).itemsize for n in RUNNABLE]
    assert (itemsize("bf16"), itemsize("double")) == (2, 8)
    with pytest.raises(UsageError, match="there is no dtype 'float23': did you mean 'float32'"):
        itemsize("float23")
