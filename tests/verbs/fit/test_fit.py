"""fr.fit: the answer is what fr.count says at it and at the next."""

from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError

SMALL = {"depth": 2, "width": 16, "input": 8}


def peak(size: int, key: str, **words: Any) -> int:
    return fr.count("mlp", **{**SMALL, key: size}, **words).memory["peak"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("batch", {}),
        ("batch", {"optimizer": "adamw"}),
        ("batch", {"dtype": "bfloat16", "checkpoint": "hidden.*"}),
        ("depth", {"batch": 4}),
        ("width", {"batch": 4}),
    ],
)
def test_the_answer_fits_and_the_next_does_not(key: str, words: dict[str, Any]) -> None:
    settings = {name: value for name, value in SMALL.items() if name != key}
    found = fr.fit("mlp", memory="100KiB", key=key, **settings, **words)
    assert found.peak == peak(found.largest, key, **words) <= 100 * 1024
    assert found.next == found.largest + 1
    assert found.peak_at_next == peak(found.next, key, **words) > 100 * 1024
    assert found.settings[key] == found.largest
    assert sum(found.at_peak.values()) == found.peak


def test_a_reserve_is_left_free() -> None:
    found = fr.fit("mlp", memory=100_000, reserve="20kB", **SMALL)
    assert found == fr.fit("mlp", memory=100_000, reserve=20_000, **SMALL)
    assert found.limit == 80_000
    assert found.peak is not None
    assert found.peak_at_next is not None
    assert found.peak <= 80_000 < found.peak_at_next


@pytest.mark.parametrize("figure", ["peak_allocated", "peak_reserved"])
def test_the_allocators_figures_may_have_to_fit(figure: str) -> None:
    found = fr.fit("mlp", memory="6MiB", figure=figure, **SMALL)
    at = {tried.size: tried.memory[figure] for tried in found.tried}
    assert at[found.largest] == getattr(found, figure) <= 6 * 2**20 < at[found.next]


def test_a_value_that_is_given_is_where_to_start() -> None:
    started = fr.fit("mlp", 100, memory="100KiB", **SMALL)
    assert started.base == 100
    assert started.largest == fr.fit("mlp", memory="100KiB", **SMALL).largest


def test_no_size_fits() -> None:
    found = fr.fit("mlp", memory="4KiB", optimizer="adamw", **SMALL)
    assert (found.largest, found.peak, found.next) == (0, None, 1)
    assert found.peak_at_next == peak(1, "batch", optimizer="adamw")


# -- a module that is built ------------------------------------------------------------------------


def test_the_leading_dimension_of_a_modules_inputs_is_its_batch() -> None:
    module = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    found = fr.fit(module, torch.empty(4, 8), memory="100KiB", loss="sum")
    assert found.model == "Sequential"
    for size, expected in ((found.largest, found.peak), (found.next, found.peak_at_next)):
        assert fr.count(module, torch.empty(size, 8), loss="sum").memory["peak"] == expected


def test_integer_inputs_stay_within_a_table() -> None:
    module = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    tokens = torch.full((2, 5), 9)
    found = fr.fit(module, {"input": tokens}, memory="50kB", loss="sum")
    ledger = fr.count(module, tokens[:1].expand(found.largest, 5).contiguous(), loss="sum")
    assert found.peak == ledger.memory["peak"]


# -- sizes that a model refuses --------------------------------------------------------------------

MODELS = """
import torch
from torch import nn

def patches(image=32, batch=2):
    if image % 8:
        raise ValueError("whole patches, please")
    return nn.Conv2d(3, 4, 8, stride=8), torch.empty(batch, 3, image, image)

def positions(seq=4, batch=2):
    if seq > 12:
        raise ValueError("12 positions are all there are")
    return nn.Linear(6, 6), torch.empty(batch, seq, 6)

def heads(hidden, batch=2, seed=0):
    if hidden % 6:
        raise ValueError("not divisible by 6 heads")
    return nn.Linear(hidden, 4), torch.empty(batch, hidden)

def sized():
    return nn.Linear(6, 4)

def fixed():
    return nn.Linear(6, 4), torch.empty(2, 6)

def odd(hidden):
    raise ValueError("never")
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return "models.py:"


@pytest.mark.parametrize("factory", ["sized", "fixed"])
def test_the_batch_of_an_input_that_is_said(models, factory) -> None:
    """`batch` takes the place of the first side of `input`."""
    words = {"memory": "10kB", "loss": "sum"}
    found = fr.fit(models + factory, input="2x6", **words)
    assert found.largest == fr.fit(nn.Linear(6, 4), torch.empty(2, 6), **words).largest > 2
    assert found.settings["input"] == f"{found.largest}x6"


def test_a_module_that_makes_its_own_inputs_says_what_would_do(models) -> None:
    with pytest.raises(UsageError, match=r"takes no 'batch': give it an argument.*input=2x6"):
        fr.fit(models + "fixed", memory="10kB")


def test_of_a_list_the_examples_are_its_items() -> None:
    class Images(nn.Conv2d):
        def forward(self, images):
            return torch.stack([super(Images, self).forward(image[None]) for image in images])

    image = torch.empty(3, 8, 8)
    found = fr.fit(Images(3, 2, 3), [image, image], memory="100kB", loss="sum")
    assert found.largest > 2
    assert (
        found.peak == fr.count(Images(3, 2, 3), [image] * found.largest, loss="sum").memory["peak"]
    )


def test_images_in_whole_patches(models) -> None:
    found = fr.fit(models + "patches", memory="1MiB", key="image", image=32)
    assert found.step == 8
    assert found.largest % 8 == 0
    assert found.next == found.largest + 8
    assert "whole patches, please" in next(t.refusal for t in found.tried if t.size % 8)


def test_the_model_takes_no_more(models) -> None:
    found = fr.fit(models + "positions", memory="1MiB", key="seq")
    assert (found.largest, found.next, found.peak_at_next) == (12, 13, None)
    assert "12 positions" in found.refusal
    assert found.peak == fr.count(models + "positions", seq=12).memory["peak"]


def test_a_size_without_default_is_looked_for(models) -> None:
    found = fr.fit(models + "heads", memory="10kB", key="hidden")
    assert (found.step, found.largest % 6) == (6, 0)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("mlp", {"memory": "80"}, "memory=80 has no unit: write 80GiB"),
        ("mlp", {"memory": "1GiB", "reserve": "1GiB"}, "reserve=1GiB leaves nothing"),
        ("mlp", {"memory": "1GiB", "figure": "peek"}, "did you mean 'peak'"),
        ("mlp", {"memory": "1GiB", "key": "optimizer"}, "is an option and no KEY"),
        ("mlp", {"memory": "1GiB", "key": "widht"}, "did you mean 'width'"),
        ("mlp", {"memory": "1GiB", "key": "activation"}, "activation=relu is no size"),
        ("mlp", {"memory": "1GiB", "batch": 0}, "batch=0 is no size"),
        ("mlp", {"memory": "1GiB", "batch": True}, "batch=true is no size"),
        ("mlp", {"memory": "1GiB", "optimizer": "adm"}, "optimizer=adm should be one of"),
        ("mpl:x", {"memory": "1GiB"}, "there is no module 'mpl'"),
        (nn.Linear(2, 2), {"memory": "1GiB"}, "give the module an example batch"),
        (nn.Linear(2, 2), {"memory": "1GiB", "key": "depth"}, "already has its sizes"),
        (nn.Bilinear(2, 2, 2), {"memory": "1GiB", "batch": (torch.ones(3, 2), torch.ones(4, 2))},
         "no leading dimension in common"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(model: Any, words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        fr.fit(model, **words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "words", "said"),
    [
        ("heads", {"key": "seed", "hidden": 6}, "seed changes no byte of the step: seed=1"),
        ("heads", {"key": "seed", "hidden": 6, "seed": 5}, "seed=5 and seed="),
        ("sized", {"input": "2x6", "key": "seq"}, "seq=1 and input=2x6 both say.*leave one out"),
        ("odd", {"key": "hidden"}, "never"),
        ("odd", {"key": "hiden"}, "hidden"),
    ],
)
def test_a_key_that_leads_nowhere(models, factory, words, said) -> None:
    with pytest.raises(UsageError, match=said):
        fr.fit(models + factory, memory="1MiB", **words)
