"""Weight decay: in the update of an optimizer, and as a term of the loss."""

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.ledger import LayerTotals, Ledger
from flopratio.step.options import StepOptions
from flopratio.step.run import Step
from flopratio.step.weight_decay import WeightDecay, read_weight_decay

WEIGHTS = 5 * 3 + 3 + 3 * 10 + 10
SIZES = {"input": 5, "hidden": 3, "batch": 2}


def decay_of(ledger: Ledger) -> LayerTotals:
    (layer,) = [layer for layer in ledger.layers() if layer.name == "weight_decay"]
    return layer


@pytest.mark.parametrize(
    ("written", "means", "kept"),
    [
        (None, WeightDecay(), None),
        ("0.01", WeightDecay(update=0.01), 0.01),
        (1, WeightDecay(update=1.0), 1.0),
        (0, WeightDecay(update=0.0), 0.0),
        ("loss:1e-2", WeightDecay(loss=0.01), "loss:0.01"),
    ],
)
def test_the_two_ways(written: object, means: WeightDecay, kept: object) -> None:
    options = StepOptions(optimizer="sgd", weight_decay=written)  # type: ignore[arg-type]
    assert options.decay == read_weight_decay(options.weight_decay) == means
    assert options.weight_decay == options.convention()["weight_decay"] == kept


@pytest.mark.parametrize(
    "written", ["", "much", "-0.1", "nan", "inf", "loss:", "los:0.1", ":0.1", "loss:-1", True]
)
def test_what_is_neither_is_refused(written: object) -> None:
    with pytest.raises(UsageError, match=f"weight_decay={written} should be a number of at le"):
        StepOptions(optimizer="sgd", weight_decay=written)  # type: ignore[arg-type]


def test_without_an_update_or_a_loss_there_is_nothing_to_decay() -> None:
    with pytest.raises(UsageError, match=r"name an optimizer, or .* of the loss, loss:0.1"):
        StepOptions(weight_decay=0.1)
    with pytest.raises(UsageError, match=r"inference has no loss: leave out weight_decay=loss:0.1"):
        StepOptions(weight_decay="loss:0.1", inference=True)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("optimizer", "decay", "flops"),
    [("sgd", 0.1, 4), ("sgd", None, 2), ("adamw", None, 14), ("adamw", 0, 13), ("adam", 0.1, 15)],
)
def test_the_update_with_it(optimizer: str, decay: float | None, flops: int, target: str) -> None:
    ledger = fr.count("mlp", optimizer=optimizer, weight_decay=decay, target=target, **SIZES)
    counted = 4 if optimizer.startswith("adam") else 0  # the steps, a counter a tensor
    assert ledger.totals.update == flops * WEIGHTS + counted
    assert ledger.reconciled


def test_the_term_of_the_loss() -> None:
    """Forward w w, their sum, times lambda / 2, and added to the loss: 2 W, and 2 a tensor.
    Backward 2 w times the gradient, 2 W, and lambda / 2 once a tensor; and W additions to the
    weights' other gradients, where their layers are."""
    plain, ledger = (
        fr.count("mlp", weight_decay=decay, target="cpu", **SIZES) for decay in (None, "loss:0.1")
    )
    assert ledger.reconciled
    layer = decay_of(ledger)
    assert (layer.elementwise_forward, layer.elementwise_backward) == (
        2 * WEIGHTS + 2 * 4,
        2 * WEIGHTS + 4,
    )
    assert {row.phase for row in ledger.rows if row.layer == "weight_decay"} == {
        "forward",
        "grad_weight",
    }
    more = ledger.totals.elementwise_backward - plain.totals.elementwise_backward
    assert more == layer.elementwise_backward + WEIGHTS
    assert ledger.totals.saved_bytes == plain.totals.saved_bytes  # it keeps the weights alone
    assert ledger.totals.forward == plain.totals.forward


def test_what_does_not_train_does_not_decay() -> None:
    ledger = fr.count("mlp", weight_decay="loss:0.1", freeze="first*", **SIZES)
    assert decay_of(ledger).elementwise_forward == 2 * 40 + 2 * 2
    assert ledger.reconciled


def test_any_models_step_has_it() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    x = torch.randn(5, 4)
    ledger = fr.count(model, x, weight_decay="loss:0.1")
    assert decay_of(ledger).elementwise_forward == 2 * 23 + 2 * 4


def test_both_ways_are_the_same_gradient() -> None:
    """GIVEN the same weights, THEN a step of SGD with the term in its loss ends where one does that
    decays in its update."""
    model = nn.Linear(4, 3)
    x, start = torch.randn(5, 4), [p.detach().clone() for p in model.parameters()]

    def after(decay: object) -> list[torch.Tensor]:
        with torch.no_grad():
            for weight, first in zip(model.parameters(), start, strict=True):
                weight.copy_(first)
        options = StepOptions(optimizer="sgd", weight_decay=decay, target="cpu")  # type: ignore[arg-type]
        with Step.of_module(model, x, options).prepared(lr=0.1) as prepared:
            prepared.forward().backward()
            prepared.update()
        return [p.detach().clone() for p in model.parameters()]

    in_update, in_loss, without = after(0.5), after("loss:0.5"), after(None)
    for one, other, plain in zip(in_update, in_loss, without, strict=True):
        torch.testing.assert_close(one, other)
        assert not torch.allclose(one, plain)
