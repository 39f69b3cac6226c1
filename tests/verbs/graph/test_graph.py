"""The computational graph of a step: its figures are the ledger's, and its parts textbook's."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

import flopratio as fr
from flopratio.ledger import COUNTS
from flopratio.step.options import StepOptions
from flopratio.verbs.graph import graph_step
from flopratio.verbs.graph.folding import folded, readable
from tests.verbs.graph.networks import encoder, recurrent, residual

FIGURES = [count for count in COUNTS if count != "parameters"]

STEPS = {
    "mlp": (lambda: ("mlp", 2), {}),
    "mlp, two micro-batches": (lambda: ("mlp", 4), {"accumulate": 2, "optimizer": "adamw"}),
    "mlp, checkpointed": (lambda: ("mlp", 4), {"checkpoint": "hidden.*"}),
    "mlp, inference": (lambda: ("mlp", 4), {"inference": True}),
    "mlp, frozen": (lambda: ("mlp", 4), {"freeze": "first.*"}),
    "mlp, in bfloat16": (lambda: ("mlp", 4), {"amp": "bf16"}),
    "mlp, decayed": (lambda: ("mlp", 4), {"weight_decay": "loss:0.01"}),
    "residual": (residual, {"optimizer": "sgd"}),
    "encoder": (encoder, {"optimizer": "adamw"}),
    "recurrent": (recurrent, {}),
}


def traced(name):
    """The ledger of a step, and its graph operator by operator."""
    make, options = STEPS[name]
    model, batch = make()
    settings = {"depth": 2, "width": 8, "input": 6} if isinstance(model, str) else {}
    ledger = fr.count(model, batch, **settings, **options)
    step = StepOptions(**options)
    return ledger, graph_step(model, batch, settings, step, operators=True)


@pytest.fixture(scope="module", params=STEPS)
def step(request):
    return traced(request.param)


@pytest.fixture(scope="module")
def mlp():
    options = StepOptions()
    return graph_step("mlp", 2, {"depth": 1}, options, operators=True)


def figures(totals):
    return {count: getattr(totals, count) for count in FIGURES}


# -- figures --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 3, 9])
def test_what_is_drawn_sums_to_the_ledger_at_every_depth(step, depth):
    ledger, graph = step
    drawn = folded(graph, depth)
    assert figures(drawn.totals) == figures(ledger.totals)


def test_nothing_that_costs_is_left_out(step):
    _, graph = step
    assert figures(graph.outside) == dict.fromkeys(FIGURES, 0)


def test_every_modules_operators_sum_to_the_modules_line(step):
    ledger, graph = step
    drawn, lines = Counter(), Counter()
    for sums, layers in ((drawn, graph.operators), (lines, ledger.layers())):
        for layer in layers:
            name = layer.layer if sums is drawn else layer.name
            of = layer.figures if sums is drawn else layer
            for count in FIGURES:
                if count != "saved_bytes":  # those are of variables
                    sums[".".join(name.split(".")[:2]), count] += getattr(of, count)
    assert drawn.total() > 0
    assert +drawn == +lines


def test_folding_at_once_is_folding_what_was_drawn(mlp):
    at_once = graph_step("mlp", 2, {"depth": 1}, StepOptions(), fold=1)
    assert at_once == folded(mlp, 1)


# -- structure ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [None, 0, 1, 2])
def test_every_variable_is_made_before_it_is_read(step, depth):
    graph = folded(step[1], depth)
    for index, operator in enumerate(graph.operators):
        for variable in operator.reads:
            assert graph.maker.get(variable, -1) < index
        assert set(operator.gradients) <= set(operator.reads)
        assert set(operator.reads).isdisjoint(operator.writes)


@pytest.mark.parametrize("depth", [None, 1])
def test_every_variable_is_read_or_made(step, depth):
    graph = folded(step[1], depth)
    assert {*graph.maker, *graph.readers} == set(range(len(graph.variables)))


def test_the_textbooks_network(mlp):
    assert [operator.op for operator in mlp.operators] == [
        "aten.addmm",
        "aten.relu",
        "aten.addmm",
        "aten._log_softmax",
        "aten.nll_loss_forward",
    ]
    names = {variable.name for variable in mlp.variables if variable.name}
    assert names == {
        "x",
        "first.linear.weight",
        "first.linear.bias",
        "output.weight",
        "output.bias",
        "target",
    }
    chain = [mlp.variables[operator.writes[0]].shape for operator in mlp.operators]
    assert chain == [(2, 512), (2, 512), (2, 10), (2, 10), ()]
    assert mlp.variables[mlp.operators[-1].writes[0]].kind == "loss"
    first, _, output, *_ = mlp.operators
    assert (first.figures.forward, first.figures.backward) == (1_605_632, 1_605_632)
    assert (output.figures.forward, output.figures.backward) == (20_480, 40_960)


def test_what_the_textbooks_network_saves(mlp):
    saved = {v.name or str(v.shape): v.saved_bytes for v in mlp.variables if v.saved_bytes}
    assert saved == {"x": 6272, "(2, 512)": 4096, "(2, 10)": 80, "target": 16}
    assert mlp.operators[-1].figures.saved_bytes == 4  # the total weight, which nobody else reads
    kept = [
        {mlp.variables[variable].name or mlp.variables[variable].shape for variable in each.keeps}
        for each in mlp.operators
    ]
    assert kept == [{"x"}, {(2, 512)}, {(2, 512)}, {(2, 10)}, {(2, 10), "target"}]


def test_gradients_go_where_autograd_sends_them(mlp):
    without = {variable.name for variable in mlp.variables if not variable.has_gradient}
    assert without == {"x", "target"}
    asked = graph_step("mlp", 2, {"depth": 1}, StepOptions(input_grad=True), operators=True)
    without = {variable.name for variable in asked.variables if not variable.has_gradient}
    assert without == {"target"}


def test_a_frozen_layer_has_no_gradient_and_no_backward():
    _, graph = traced("mlp, frozen")
    frozen = [each for each in graph.operators if each.layer.startswith("first")]
    assert frozen
    assert not any(each.runs_backward for each in frozen)
    given = [v for v in graph.variables if v.name.startswith("first.")]
    assert given
    assert not any(variable.has_gradient for variable in given)


def test_of_an_inference_the_output_is_drawn():
    _, graph = traced("mlp, inference")
    assert not any(operator.runs_backward for operator in graph.operators)
    assert not any(variable.saved_bytes or variable.has_gradient for variable in graph.variables)
    assert graph.variables[graph.operators[-1].writes[0]].shape == (4, 10)


def test_views_are_no_operators_and_positions_and_masks_are_constants():
    _, graph = traced("encoder")
    names = {operator.op for operator in graph.operators}
    assert names.isdisjoint({"aten.t", "aten.view", "aten.arange", "aten.ones", "aten.triu"})
    constants = [variable for variable in graph.variables if variable.kind == "constant"]
    assert (5,) in [variable.shape for variable in constants]


def test_a_tied_weight_is_one_variable_with_two_readers():
    _, graph = traced("encoder")
    (index,) = [i for i, v in enumerate(graph.variables) if v.name == "embedding.weight"]
    assert [graph.operators[reader].op for reader in graph.readers[index]] == [
        "aten.embedding",
        "aten.mm",
    ]


def test_writing_in_place_makes_a_new_variable():
    _, graph = traced("residual")
    written = [operator for operator in graph.operators if operator.op == "aten.relu_"]
    assert len(written) == 3
    for operator in written:
        assert set(operator.reads).isdisjoint(operator.writes)


def test_a_module_that_runs_twice_is_there_twice():
    _, graph = traced("residual")
    layers = [operator.layer for operator in folded(graph, 1).operators]
    assert [layer for layer in layers if layer in ("first", "second")] == [
        "first",
        "second",
        "first",
    ]


# -- folding --------------------------------------------------------------------------------


def chain_of(graph, count):
    """A chain of as many operators, of layers side by side."""
    operator, variable = graph.operators[1], graph.variables[3]
    operators = tuple(
        replace(operator, layer=f"{n}", reads=(n,), writes=(n + 1,), gradients=(n,), keeps=(n,))
        for n in range(count)
    )
    variables = (variable,) * count + (replace(variable, kind="loss"),)
    return replace(graph, operators=operators, variables=variables, types={})


def test_ten_thousand_operators_fold_by_themselves_and_say_so(mlp):
    long = chain_of(mlp, 10_000)
    graph = readable(long)
    assert len(graph.operators) <= 30
    assert graph.note == "10,000 operators are folded into 30, into neighbours"
    assert sum(operator.operators for operator in graph.operators) == 10_000
    assert figures(graph.totals) == figures(long.totals)
    assert graph.operators[0].layer == "0 … 333"


def test_as_deep_as_can_be_read():
    graph = graph_step("mlp", 2, {"depth": 40, "width": 8, "input": 6}, StepOptions())
    assert 1 < len(graph.operators) <= 30
    assert graph.note.endswith(f"by module, as --depth {graph.depth} does")
    again = graph_step(
        "mlp", 2, {"depth": 40, "width": 8, "input": 6}, StepOptions(), fold=graph.depth
    )
    assert replace(graph, note="") == again


def test_what_can_be_read_is_not_folded(mlp):
    assert readable(mlp) == folded(mlp, None)
    assert not readable(mlp).note


def test_a_penalty_is_one_term_of_the_loss():
    options = StepOptions(weight_decay="loss:0.01")
    graph = graph_step("mlp", 2, {"depth": 1}, options)
    *_, loss, penalty = graph.operators
    assert (loss.op, penalty.type, penalty.operators) == ("aten.nll_loss_forward", "L2Penalty", 16)
    assert not graph.note
    read = {graph.variables[variable].name for variable in penalty.reads}
    assert read == {
        "",  # the loss without it
        "first.linear.weight",
        "first.linear.bias",
        "output.weight",
        "output.bias",
    }
    assert set(penalty.gradients) == set(penalty.reads)
    assert graph.variables[penalty.writes[0]].kind == "loss"
    every = graph_step("mlp", 2, {"depth": 1}, options, operators=True)
    assert len(every.operators) == 5 + 16


def test_many_parameters_of_one_operator_are_one_variable():
    _, graph = traced("recurrent")
    stacks = [variable for variable in graph.variables if variable.tensors > 1]
    assert [(stack.kind, stack.tensors, stack.numbers, stack.has_gradient) for stack in stacks] == [
        ("constant", 2, 40, False),  # the states that it starts from
        ("parameter", 8, 500, True),
    ]


def test_no_depth_below_zero():
    with pytest.raises(fr.UsageError, match="depth=-1"):
        fr.graph("mlp", 2, fold=-1)


def test_of_a_module_too_and_it_is_as_before():
    module, batch = residual()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    picture = fr.graph(module, batch, operators=True, optimizer="adamw")
    assert picture.graph.model == "Residual"
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
