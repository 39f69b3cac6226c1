"""Formulas beside the schemas of their operators: all of ours; what is said of a misfit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch

import flopratio as fr
from flopratio.errors import FormulaError
from flopratio.formulas import OPERATORS, Tensor
from flopratio.formulas.formula import OperatorFormula
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.torch_private import operator_names
from flopratio.trace.formula_check import check_call
from flopratio.trace.recorder import operator_of
from tests.trace.made_up_calls import check_made_up_calls, full_name, met_by_a_trace

with suppress(ImportError):
    import torch.nn.attention.varlen  # defines operators of its own
import_torchvision()


@pytest.fixture(scope="module")
def ours() -> list[tuple[Any, OperatorFormula]]:
    """All operators of this torch that have a formula of ours, every overload."""
    names = [name for name in OPERATORS if not name.startswith("flopratio_tests.")]
    dispatched = set(operator_names())
    return [(op, OPERATORS[name]) for name in names for op in met_by_a_trace(name, dispatched)]


def test_our_formulas_can_be_called_as_their_operators_are(
    ours: list[tuple[Any, OperatorFormula]],
) -> None:
    assert len({operator_of(op).name for op, _ in ours}) > 800
    misfits = {}
    for op, formula in ours:
        try:
            check_call(operator_of(op), formula)
        except FormulaError as error:
            misfits[full_name(op)] = str(error)
    assert misfits == {}


def test_our_formulas_name_what_is_there(ours: list[tuple[Any, OperatorFormula]]) -> None:
    """Operands, backward operators, kept tensors; the operands of backward operators once all the
    forward operators are known."""
    misfits: dict[str, str] = {}

    def check(op: Any, formula: OperatorFormula) -> list[fr.Cost]:
        try:
            return check_made_up_calls(op, formula)
        except FormulaError as error:
            misfits[full_name(op)] = str(error)
            return [fr.Cost()]

    costs = [(op, formula, check(op, formula)) for op, formula in ours]
    assert [full_name(op) for op, _, taken in costs if not taken] == []
    fused = [(op, formula) for op, formula, taken in costs if any(cost.parts for cost in taken)]
    assert len(fused) > 20
    for op, formula in fused:
        check(op, formula)
    assert misfits == {}


# A formula that does not fit ---------------------------------------------------------------------

FORWARD, BACKWARD = "flopratio_tests::scaled_mm", "flopratio_tests::scaled_mm_backward"


@torch.library.custom_op(FORWARD, mutates_args=())
def scaled_mm(x: torch.Tensor, weight: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    return scale * (x @ weight)


@torch.library.custom_op(BACKWARD, mutates_args=())
def scaled_mm_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return scale * (grad @ weight.T), scale * (x.T @ grad)


def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, ctx.scale = inputs
    ctx.save_for_backward(x, weight)


scaled_mm.register_autograd(
    lambda ctx, grad: (*scaled_mm_backward(grad, *ctx.saved_tensors, ctx.scale), None),
    setup_context=keep,
)

X, WEIGHT = (8, 4), (4, 6)
FLOPS = 2 * 8 * 4 * 6


def forward(operand: str = "weight", op: str = BACKWARD, **saves: Any) -> OperatorFormula:
    """A formula of the forward operator, in which something may be wrong."""

    def formula(x: Tensor, weight: Tensor, scale: float = 2.0, *, out: Tensor) -> fr.Cost:
        backward = op.replace("::", ".")
        gradients = [fr.Gradient(name, backward, flops=FLOPS, **saves) for name in ("x", operand)]
        return fr.Cost(flops=FLOPS, gradients=tuple(gradients))

    return formula


def backward(*operands: str) -> OperatorFormula:
    def formula(grad: Tensor, x: Tensor, weight: Tensor, scale: float, *, out: Any) -> fr.Cost:
        return fr.Cost.fused(*(fr.Part(operand, flops=FLOPS) for operand in operands))

    return formula


@pytest.fixture
def registered() -> Iterator[Callable[[str, OperatorFormula], None]]:
    """Formulas for as long as a test runs."""
    names = []

    def register(op: str, formula: OperatorFormula) -> None:
        fr.register(op, formula)
        names.append(op.replace("::", "."))

    yield register
    for name in names:
        del OPERATORS[name]


Register = Callable[[str, OperatorFormula], None]


def ledger() -> fr.Ledger:
    x, weight = (torch.randn(shape, requires_grad=True) for shape in (X, WEIGHT))
    with fr.Profiler() as profiler:
        scaled_mm(x, weight).sum().backward()
    return profiler.ledger


def test_formulas_that_fit(registered: Register) -> None:
    registered(FORWARD, forward())
    registered(BACKWARD, backward("x", "weight"))
    totals = ledger().totals
    assert (totals.forward, totals.backward) == (FLOPS, 2 * FLOPS)


MISFITS: dict[str, tuple[OperatorFormula, str]] = {
    "operand": (
        forward(operand="wieght"),
        "names a gradient of 'wieght', which is no tensor that it takes: did you mean 'weight'?",
    ),
    "operand that is no tensor": (
        forward(operand="scale"),
        "names a gradient of 'scale', which is no tensor that it takes: there are weight, x",
    ),
    "backward operator": (
        forward(op="flopratio_tests::scaled_mm_bakward"),
        "says that 'flopratio_tests.scaled_mm_bakward' computes the gradient of x, and there is "
        "none: did you mean 'flopratio_tests.scaled_mm_backward'",
    ),
    "backward operator without a namespace": (
        forward(op="mm"),
        "says that 'mm' computes the gradient of x, and there is none",
    ),
    "kept tensor": (
        forward(saves=(Tensor((3, 5)),)),
        "keeps a tensor of (3, 5) for the gradient of x, which is neither one of its operands nor "
        "of its results",
    ),
    "kept number": (
        forward(saves=(2.0,)),
        "keeps a tensor 2.0 for the gradient of x, which is neither one of its operands nor of "
        "its results",
    ),
    "argument": (
        lambda x, wieght, scale=2.0, *, out: fr.Cost(),
        "takes 'wieght', which is no argument of it: did you mean 'weight'?",
    ),
    "argument that a star swallows": (
        lambda x, weight, scael=2.0, *rest, out, **options: fr.Cost(),
        "takes 'scael', which is no argument of it: did you mean 'scale'?",
    ),
    "order": (
        lambda weight, x, scale=2.0, *, out: fr.Cost(),
        "takes 'x' in the place of 'weight'",
    ),
    "too few": (
        lambda x, *, out: fr.Cost(),
        "is to be called with (x, weight, scale, *, out): too many positional arguments",
    ),
    "no default": (
        lambda x, weight, scale, *, out: fr.Cost(),
        "is to be called with (x, weight, *, out): missing a required argument: 'scale'",
    ),
    "no out": (
        lambda x, weight, scale=2.0: fr.Cost(),
        "is to be called with (x, weight, scale, *, out): got an unexpected keyword argument 'out'",
    ),
    "no cost": (lambda x, weight, scale=2.0, *, out: FLOPS, "gives int, which is no Cost"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_an_error_that_names_the_formula(name: str, registered: Register) -> None:
    formula, expected = MISFITS[name]
    registered(FORWARD, formula)
    with pytest.raises(FormulaError) as caught:
        ledger()
    start = "the formula of flopratio_tests.scaled_mm (tests.trace.test_formula_check."
    assert str(caught.value).startswith(start)
    assert expected in str(caught.value)
    with pytest.raises(fr.UsageError):  # each time, not only the first
        ledger()


def test_arguments_that_other_versions_of_torch_name_otherwise_or_have(
    registered: Register,
) -> None:
    def formula(
        data: Tensor, /, weight: Tensor, scale: float = 2.0, later: int = 0, *, out: Tensor
    ) -> fr.Cost:
        return fr.Cost(flops=2 * data.numel * weight.shape[1])

    registered(FORWARD, formula)
    assert ledger().totals.forward == FLOPS


def test_a_part_of_what_the_forward_operator_has_not(registered: Register) -> None:
    registered(FORWARD, forward())
    registered(BACKWARD, backward("x", "wieght"))
    with pytest.raises(FormulaError, match=r"names a part of 'wieght', .* did you mean 'weight'?"):
        ledger()


def test_the_check_finds_a_misfit_among_ours() -> None:
    """That the test over all formulas can fail."""
    softmax = OPERATORS["aten._softmax"]

    def misspelt(*arguments: Any, **named: Any) -> fr.Cost:
        cost = softmax(*arguments, **named)
        return fr.Cost(gradients=(fr.Gradient("sefl", cost.gradients[0].op),))

    op = torch.ops.aten._softmax.default
    assert check_made_up_calls(op, softmax)
    with pytest.raises(FormulaError, match="'sefl'"):
        check_made_up_calls(op, misspelt)


def test_a_shape_that_a_formula_did_not_expect_is_uncounted(registered: Register) -> None:
    def of_three_dimensions(x: Tensor, weight: Tensor, scale: float = 2.0, *, out: Any) -> fr.Cost:
        batch, rows, columns = x.shape
        return fr.Cost(flops=2 * batch * rows * columns * weight.shape[-1])

    registered(FORWARD, of_three_dimensions)
    (name,) = (name for name in ledger().uncounted_ops if "backward" not in name)
    assert name.startswith("flopratio_tests.scaled_mm (ValueError: not enough values to unpack")


def test_equal_calls_are_checked_once(
    registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flopratio.trace import evaluation

    registered(FORWARD, forward())
    registered(BACKWARD, backward("x", "weight"))
    ledger()
    monkeypatch.setattr(evaluation, "check_call", None)  # would fail if it were called
    monkeypatch.setattr(evaluation, "check_cost", None)
    ledger()


def test_what_an_out_overload_writes_is_not_given() -> None:
    """GIVEN out= under other names than out, THEN the operator counts as without."""
    x, mean, rstd = torch.randn(2, 3, 4), torch.empty(0), torch.empty(0)
    arguments = (x, None, None, None, None, True, 0.1, 1e-5)
    with fr.Profiler() as plain:
        torch.ops.aten.native_batch_norm(*arguments)
    with fr.Profiler() as written:
        torch.ops.aten.native_batch_norm.out(
            *arguments, out=torch.empty(0), save_mean=mean, save_invstd=rstd
        )
    assert written.ledger.uncounted_ops == {}
    elementwise = plain.ledger.totals.elementwise_forward
    assert written.ledger.totals.elementwise_forward == elementwise > 0
