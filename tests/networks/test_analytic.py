"""The analytic ledgers of the built-in networks: the ratios, the article's figures, whole grids and
closed forms at once."""

import csv
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.formulas import exact
from flopratio.networks.analytic import analyse, analytic_ledger
from flopratio.networks.library import describe

REFERENCE = Path(__file__).parents[1] / "reference"


def table(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open() as file:
        return list(csv.DictReader(file))


class TestRatios:
    """Backward over forward, as exact fractions."""

    @pytest.mark.parametrize("depth", [1, 2, 7])
    def test_the_first_layer_is_one_to_one_and_every_other_two_to_one(self, depth: int) -> None:
        first, *others = [
            layer for layer in analytic_ledger("mlp", depth=depth).layers() if layer.forward
        ]
        assert first.backward == first.forward
        assert len(others) == depth
        assert all(layer.backward == 2 * layer.forward for layer in others)

    def test_an_input_that_needs_a_gradient_makes_the_first_layer_two_to_one(self) -> None:
        ledger = analytic_ledger("mlp", depth=2, input_grad=True)
        assert ledger.totals.backward == 2 * ledger.totals.forward

    def test_the_network_is_two_less_the_first_layers_share(self) -> None:
        for depth in (0, 1, 5, 20):
            ledger = analytic_ledger("cnn", depth=depth, batch=3)
            first = ledger.layers()[0]
            assert Fraction(ledger.totals.backward, ledger.totals.forward) == 2 - Fraction(
                first.forward, ledger.totals.forward
            )

    def test_a_frozen_layer_passes_the_input_gradient_only(self) -> None:
        ledger = analytic_ledger("mlp", depth=3, freeze="hidden.0.*")
        frozen = next(layer for layer in ledger.layers() if layer.name == "hidden.0.linear")
        assert (frozen.grad_input, frozen.grad_weight) == (frozen.forward, 0)

    def test_a_frozen_prefix_has_no_backward_at_all(self) -> None:
        ledger = analytic_ledger("mlp", depth=2, freeze="first*")
        layers = {layer.name: layer for layer in ledger.layers()}
        assert layers["first.linear"].backward == 0
        assert layers["first.activation"].elementwise_backward == 0
        # What follows is a first layer now: nothing in front of it wants a gradient.
        assert layers["hidden.0.linear"].ratio == 1.0

    def test_inference_has_no_backward_and_keeps_nothing(self) -> None:
        total = analytic_ledger("mlp", inference=True).totals
        assert (total.backward, total.elementwise_backward, total.saved_bytes) == (0, 0, 0)


class TestPublishedFigures:
    """Hobbhahn & Sevilla 2021, « What's the backward-forward FLOP ratio for neural networks? »"""

    @pytest.mark.parametrize(
        ("depth", "ratio", "forward"),
        [(0, 1.5714, 275_367_168), (10, 1.8583, None), (100, 1.9798, 5_851_047_168)],
    )
    def test_deeper_convnet(self, depth: int, ratio: float, forward: int | None) -> None:
        total = analytic_ledger("cnn", depth=depth, batch=1, shared=True).totals
        assert round(total.backward / total.forward, 4) == ratio
        assert forward in (None, total.forward)

    @pytest.mark.parametrize(("batch", "ratio"), [(1, 2.0009), (64, 1.0165)])
    def test_linear_net_with_sgd(self, batch: int, ratio: float) -> None:
        ledger = analytic_ledger("linearnet", batch=batch, optimizer="sgd")
        assert ledger.ratio.with_update is not None
        assert round(ledger.ratio.with_update, 4) == ratio

    @pytest.mark.parametrize("case", table("epoch_case_table.csv"), ids=lambda case: str(case))
    def test_four_cases(self, case: dict[str, str]) -> None:
        """First or other layers dominate, the update is large (batch 1) or small (a large batch):
        the ratio tends to the whole number that the article gives."""
        batch = 1 if case["weight_update"] == "big" else 10**6
        sizes = (
            {"input": 10**7, "width": 10, "depth": 1}
            if case["dominant_layers"] == "first layer"
            else {"input": 1, "width": 1000, "depth": 1000}
        )
        analysis = analyse(describe("mlp", batch=batch, bias=False, **sizes), optimizer="sgd")
        backward = analysis.total("grad_input", "grad_weight")
        update = analysis.total("update", of="elementwise")
        ratio = (backward + update) / analysis.total("forward")
        assert ratio == pytest.approx(float(case["bwd_fwd_ratio"]), abs=0.002)

    def test_every_row_of_the_table_of_operations(self) -> None:
        """The article's MLP (two hidden layers, a ReLU after each layer, the output too). Its row
        of the loss is one FLOP an output either way; MSE as it is computed takes 3 and 2."""
        sizes = {"input": 7, "hidden1": 5, "hidden2": 5, "output": 3, "batch": 4}
        ledger = analytic_ledger("mlp", depth=2, input=7, width=5, classes=3, batch=4, bias=False,
                       loss="mse", optimizer="sgd")  # fmt: skip
        rows = {row["op"]: row for row in table("epoch_mlp_op_table.csv")}

        def published(op: str, column: str) -> int:
            formula = rows[op][column].split("(")[0]
            symbols = {name: sympy.Symbol(name) for name in sizes}
            return int(sympy.sympify(formula, locals=symbols).subs(sizes))

        layers = {layer.name: layer for layer in ledger.layers()}
        for op, name in [
            ("Linear input->hidden1", "first.linear"),
            ("Linear hidden1->hidden2", "hidden.0.linear"),
            ("Linear hidden2->output", "output"),
        ]:
            assert layers[name].forward == published(op, "fwd_flop_formula")
            assert layers[name].grad_weight == published(op, "bwd_flop_formula")
        gradient = [row for row in table("epoch_mlp_op_table.csv") if row["op"] == "grad wrt input"]
        symbols = {name: sympy.Symbol(name) for name in sizes}
        for row, name in zip(gradient, ["hidden.0.linear", "output"], strict=True):
            formula = sympy.sympify(row["bwd_flop_formula"], locals=symbols)
            assert layers[name].grad_input == formula.subs(sizes)
        assert layers["first.linear"].grad_input == 0
        relu = rows["ReLU"]  # the same for every layer but for the name of its width
        for column, found in [
            ("fwd_flop_formula", layers["hidden.0.activation"].elementwise_forward),
            ("bwd_flop_formula", layers["hidden.0.activation"].elementwise_backward),
        ]:
            assert found == sympy.sympify(
                relu[column].replace("output", "hidden2"), locals=symbols
            ).subs(sizes)
        outputs = 3 * 4
        assert layers["loss"].elementwise_forward > outputs  # the difference that is told above
        assert ledger.totals.update == 2 * ledger.totals.parameters


class TestManyPointsAtOnce:
    """The same description on arrays and symbols."""

    def test_arrays_give_what_single_points_give(self) -> None:
        depths, widths, batches = exact([1, 2, 9]), exact([8, 16, 10**6]), exact([1, 5, 10**7])
        analysis = analyse(
            describe("mlp", depth=depths, width=widths, batch=batches), optimizer="adam"
        )
        for index in range(3):
            point = (
                analytic_ledger(
                    "mlp",
                    depth=depths[index],
                    width=widths[index],
                    batch=batches[index],
                    optimizer="adam",
                ).totals
                if index < 2
                else None
            )
            if point is None:
                continue
            assert analysis.total("forward")[index] == point.forward
            assert analysis.total("grad_input")[index] == point.grad_input
            assert analysis.total("grad_weight")[index] == point.grad_weight
            assert analysis.total("update", of="elementwise")[index] == point.update
            saved = analysis.total("forward", of="saved_bytes")
            assert saved[index] == point.saved_bytes
        # 2 * batch * width^2 * (depth - 1) alone is past int64; object arrays do not mind.
        assert analysis.total("forward")[2] == 2 * 10**7 * (784 * 10**6 + 8 * 10**12 + 10 * 10**6)
        assert isinstance(analysis.total("forward"), np.ndarray)

    def test_symbols_give_the_closed_form(self) -> None:
        depth, width, batch = sympy.symbols("depth width batch", positive=True, integer=True)
        analysis = analyse(describe("mlp", depth=depth, width=width, batch=batch))
        forward = sympy.expand(analysis.total("forward"))
        assert forward == sympy.expand(
            2 * batch * (784 * width + (depth - 1) * width**2 + 10 * width)
        )
        backward = sympy.expand(analysis.total("grad_input", "grad_weight"))
        assert backward == sympy.expand(2 * forward - 2 * batch * 784 * width)


class TestFreeze:
    """A pattern takes parameters by their own names, or by any module that holds them."""

    @pytest.mark.parametrize(
        "pattern", ["hidden.1", "hidden.1.linear", "hidden.1.*", "hidden.1.linear.weight", "*.1*"]
    )
    def test_the_trace_and_the_formulas_take_the_same(self, pattern: str) -> None:
        ledger = fr.count("mlp", 8, depth=4, freeze=pattern)
        frozen = next(layer for layer in ledger.layers() if layer.name == "hidden.1.linear")
        assert ledger.reconciled
        assert (frozen.grad_input, frozen.grad_weight) == (frozen.forward, 0)

    def test_a_pattern_that_matches_nothing_is_one_sentence(self) -> None:
        with pytest.raises(UsageError) as caught:
            analytic_ledger("mlp", depth=2, freeze="hiden*")
        assert str(caught.value) == (
            "freeze=hiden* matches no module or parameter: names are like hidden.0.linear.bias, "
            "hidden.0.linear.weight"
        )


def test_the_formulas_need_no_torch() -> None:
    script = (
        "import sys\n"
        "from flopratio.networks.analytic import analytic_ledger\n"
        "assert analytic_ledger('mlp', depth=2).totals.forward\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_rows_have_the_dtype_of_the_network() -> None:
    options = {"depth": 1, "width": 4, "batch": 2, "optimizer": "adam"}
    single, half = (analytic_ledger("mlp", dtype=d, **options) for d in ("float32", "bf16"))
    assert {row.dtype for row in single.rows} == {"float32"}
    assert {row.dtype for row in half.rows} == {"bfloat16"}
    product, *_ = (row for row in half.rows if row.flops)
    assert 2 * product.bytes_written == next(r for r in single.rows if r.flops).bytes_written
