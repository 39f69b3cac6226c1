"""The grid of a sweep."""

import sys

import pytest
import torch

from flopratio.errors import UsageError
from flopratio.verbs.sweep.file import COLUMNS
from flopratio.verbs.sweep.plan import is_for_closed_form, make_plan, swept_options
from tests import toy


def toy_plan(measure="none", **keys):
    return make_plan("toy", keys, networks=toy.NETWORKS, measure=measure)


def settings(grid, *keys):
    return [tuple(point.settings[key] for key in keys) for point in grid.points]


def test_all_combinations_the_last_key_fastest():
    grid = toy_plan(depth=(1, 2), batch=(8, 16))
    assert settings(grid, "depth", "batch") == [(1, 8), (1, 16), (2, 8), (2, 16)]
    assert settings(toy_plan(batch=(8, 16), depth=(1, 2)), "depth", "batch") == [
        (1, 8),
        (2, 8),
        (1, 16),
        (2, 16),
    ]


def test_keys_that_are_left_out_take_their_defaults():
    assert settings(toy_plan(depth=(1,)), "width", "kind", "batch") == [(8, "plain", 4)]
    assert toy_plan().columns == ("model", "depth", "width", "kind", "batch", *COLUMNS)


def test_the_default_grids(monkeypatch):
    monkeypatch.setattr(
        sys.modules["flopratio.verbs.sweep.plan"],
        "DEFAULT_GRIDS",
        {"toy": {"depth": "0,1", "batch": "2"}, "flat": {"batch": "3..4"}},
    )
    grid = make_plan(networks=toy.NETWORKS)
    assert [(p.model, p.settings.get("depth"), p.settings["batch"]) for p in grid.points] == [
        ("toy", 0, 2),
        ("toy", 1, 2),
        ("flat", None, 3),
        ("flat", None, 4),
    ]
    assert grid.keys == ("depth", "width", "kind", "batch")
    assert {
        p.settings["batch"] for p in make_plan(None, {"batch": (9,)}, None, toy.NETWORKS).points
    } == {9}
    with pytest.raises(UsageError, match="flat has no KEY 'depth'"):
        make_plan(None, {"depth": (9,)}, None, toy.NETWORKS)


@pytest.mark.parametrize(
    ("model", "keys", "said"),
    [
        ("toi", {}, "'toi' is no model: did you mean 'toy'?"),
        ("hf:bert", {"freeze": ("a",)}, "freeze can't be a KEY of hf:bert in a sweep: write --fre"),
        ("net.py:make", {"forward": (1,)}, "it is a column of sweep.csv; call the argument other"),
        ("toy", {"batch": (0,)}, "at least 1"),
        ("toy", {"bach": (1,)}, "did you mean 'batch'"),
        ("toy", {"depth": range(2000), "batch": range(1, 2000)}, "3,998,000 points"),
    ],
)
def test_plans_that_are_refused(model, keys, said):
    with pytest.raises(UsageError) as error:
        make_plan(model, keys, networks=toy.NETWORKS)
    assert said in str(error.value)


def test_choices():
    for name, value in (
        ("optimizer", "sdg"),
        ("dtype", "int8"),
        ("loss", "x"),
        ("loss", torch.sum),
    ):
        with pytest.raises(UsageError, match=f"{name}=.* should be one of"):
            swept_options(**{name: value})
    with pytest.raises(UsageError, match="measure=gpu should be one of auto, cpu, cuda, none"):
        toy_plan(measure="gpu")


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", torch.bfloat16])
def test_a_dtype_has_several_names(dtype):
    assert swept_options(dtype=dtype).dtype == "bfloat16"


def test_measuring_on_cuda_needs_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert toy_plan(measure="auto").measure == "cpu"
    with pytest.raises(UsageError, match="no CUDA device"):
        toy_plan(measure="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert toy_plan(measure="auto").measure == "cuda"


def test_the_loss_is_a_key_and_an_option():
    networks = {"net": toy.ToyNetwork(keys={"batch": 1, "loss": "mse"}, choices={})}
    grid = make_plan("net", {}, swept_options(loss="sum"), networks)
    assert settings(grid, "loss") == [("sum",)]
    assert grid.columns.count("loss") == 1
    assert settings(make_plan("net", {"loss": ("sum", "mse")}, None, networks), "loss") == [
        ("sum",),
        ("mse",),
    ]
    with pytest.raises(UsageError, match="given twice"):
        make_plan("net", {"loss": ("mse",)}, swept_options(loss="sum"), networks)


def test_widths_layer_by_layer_are_swept_in_the_place_of_depth_and_width():
    grid = make_plan("mlp", {"hidden": (300, (300, 100))})
    assert settings(grid, "hidden") == [(300,), ((300, 100),)]
    assert "hidden" in grid.columns
    assert not {"depth", "width"} & {*grid.columns}
    assert "hidden" not in make_plan("mlp", {"depth": (2,)}).columns
    with pytest.raises(UsageError, match="leave out depth, or hidden"):
        make_plan("mlp", {"hidden": ((300, 100),), "depth": (1, 2)})


def test_which_grids_are_swept_by_closed_form() -> None:
    many = {"batch": tuple(range(1, 300))}
    assert is_for_closed_form("hf:gpt2", many, "none")
    assert not is_for_closed_form("hf:gpt2", many, "cpu")
    assert not is_for_closed_form("hf:gpt2", {"batch": (1, 2)}, "none")
    assert not is_for_closed_form(None, many, "none")
    assert not is_for_closed_form("gpt2", many, "none")  # a slip of the pen
    assert not is_for_closed_form("hf:gpt2", {**many, "dtype": ("a", "b")}, "none")
    assert not is_for_closed_form("mlp", many, "none")  # the claims are judged on it
    assert is_for_closed_form("mlp", {"batch": tuple(range(1, 10_002))}, "none")
