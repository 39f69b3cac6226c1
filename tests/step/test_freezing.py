"""The one freeze rule, alone and in every verb."""

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.step.freezing import check_trained, frozen
from flopratio.verbs.sweep.plan import swept_options
from flopratio.verbs.sweep.point import examine


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


def names_of_frozen(pattern: str | None) -> list[str]:
    module = model()
    with frozen(module, pattern):
        names = [name for name, p in module.named_parameters() if not p.requires_grad]
    assert all(parameter.requires_grad for parameter in module.parameters())
    return names


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, []),
        ("0", ["0.weight", "0.bias"]),
        ("1.0", ["1.0.weight", "1.0.bias"]),
        ("1", ["1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"]),
        ("*.bias", ["0.bias", "1.0.bias", "1.1.bias"]),
        ("1.1.weight", ["1.1.weight"]),
    ],
)
def test_a_pattern_is_of_parameters_or_of_modules_that_hold_them(
    pattern: str | None, expected: list[str]
) -> None:
    assert names_of_frozen(pattern) == expected


def test_what_was_frozen_stays_so_also_after_an_exception() -> None:
    module = model()
    module[0].requires_grad_(False)
    with pytest.raises(RuntimeError), frozen(module, "*"):
        raise RuntimeError
    assert [p.requires_grad for p in module.parameters()] == [False, False, *[True] * 4]


def test_bad_patterns_are_one_sentence() -> None:
    with (
        pytest.raises(
            UsageError, match=r"freeze=2 matches no module or parameter: names are like 0\.weight"
        ),
        frozen(model(), "2"),
    ):
        pass
    with pytest.raises(UsageError, match=r"freeze=\* leaves nothing to train"):
        check_trained("*", [torch.ones(1)])
    check_trained("*", [torch.ones(1, requires_grad=True)])
    check_trained(None, [torch.ones(1)])


def test_every_verb_freezes_the_same_layer() -> None:
    """GIVEN a network of layers in modules, WHEN one is frozen by its module's path or by its own,
    THEN it passes its input's gradient and gets none."""
    settings = {"depth": 4, "width": 8, "input": 8, "batch": 2}
    ledger = fr.count("mlp", freeze="hidden.1", optimizer="sgd", **settings)
    assert ledger.reconciled
    assert ledger.mismatches == []
    (layer,) = [layer for layer in ledger.layers() if layer.name == "hidden.1.linear"]
    assert (layer.grad_input, layer.grad_weight) == (layer.forward, 0)
    assert ledger.rows == fr.count("mlp", freeze="hidden.1.*", optimizer="sgd", **settings).rows

    row = examine("mlp", settings, swept_options(freeze="hidden.1"))
    assert row["executed_equal"]
    assert row["backward"] == ledger.totals.backward

    memory = {"memory": "40kB", "optimizer": "adam", **settings}
    fit = fr.fit("mlp", freeze="hidden.1", **memory)
    assert fit.largest > fr.fit("mlp", **memory).largest


@pytest.mark.parametrize("pattern", ["hiden.9", "zz"])
def test_every_verb_says_the_same_of_a_pattern_that_matches_nothing(pattern: str) -> None:
    sentences = set()
    for run in (
        lambda: fr.count("mlp", 2, freeze=pattern),
        lambda: fr.fit("mlp", memory="1MiB", freeze=pattern),
        lambda: fr.sweep("mlp", batch=2, freeze=pattern),
    ):
        with pytest.raises(UsageError, match="matches no module or parameter") as caught:
            run()
        # A sweep says of which point.
        sentences.add(str(caught.value).removeprefix("mlp batch=2: "))
    assert len(sentences) == 1
