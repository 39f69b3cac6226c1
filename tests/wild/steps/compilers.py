"""Scripted, traced and compiled models, and operators that take functions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import FIRST, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp
from tests.wild.step import WildStep, needs, wild

MODES_SEE_HIGHER_ORDER_OPERATORS = (
    "utils._python_dispatch.TorchDispatchMode.supports_higher_order_operators"
)
COMPILED = "the compiler refuses to run under a mode that is not its own"


@wild
def scripted_module() -> WildStep:
    """TorchScript: forward and backward by its interpreter; the layers keep their names."""
    model = torch.jit.script(mlp())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        for _ in range(3):  # profiled, optimised, run
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return loss

    by_hand = {name: 3 * figure for name, figure in ONE_STEP.items()}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def traced_backbone() -> WildStep:
    """A traced module inside of an ordinary one."""
    x, y = batch()
    backbone = torch.jit.trace(nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU()), x)
    model = nn.Sequential(backbone, nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand={**ONE_STEP, "1: grad_weight": LAST})


@wild
def compiled_model() -> WildStep:
    """``torch.compile`` of the model, by the backend that runs what it captured."""
    model = mlp()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(compiled(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def compiled_ahead_of_time() -> WildStep:
    """Forward and backward captured as graphs."""
    model = mlp()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(compiled(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def graph_module() -> WildStep:
    """A model rewritten by ``torch.fx``: a layer is replaced."""
    model = mlp()
    graph = torch.fx.symbolic_trace(model)
    for node in graph.graph.nodes:
        if node.op == "call_module" and node.target == "1":
            with graph.graph.inserting_after(node):
                gelu = graph.graph.call_function(functional.gelu, node.args)
            node.replace_all_uses_with(gelu)
            graph.graph.erase_node(node)
            break
    graph.recompile()
    optimizer = torch.optim.SGD(graph.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(graph(x), y)
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {**ONE_STEP, "2: grad_input": LAST, "0: grad_weight": FIRST}
    return WildStep(run, graph, [optimizer], by_hand=by_hand)


@wild
def conditional_branch() -> WildStep:
    """``torch.cond``: one of two branches runs, and its backward."""
    needs("cond", MODES_SEE_HIGHER_ORDER_OPERATORS)
    model = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        weights = [(part.weight, part.bias) for part in model]
        hidden = functional.linear(x, *weights[0])
        (out,) = torch.cond(
            x.sum() > -1e9,
            lambda h, w: (torch.tanh(h @ w),),
            lambda h, w: (torch.relu(h - w.sum()),),
            (hidden, weights[1][0]),
        )
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    one = 2 * ROWS * WIDTH * WIDTH
    by_hand = {"forward": 2 * one, "grad_input": one, "grad_weight": 2 * one}
    return WildStep(
        run,
        model,
        [optimizer],
        by_hand=by_hand,
        saved_unseen="kept by torch.cond's own function",
        memory_unseen=COMPILED,
    )


@wild
def flexible_attention() -> WildStep:
    """Frozen ``flex_attention`` with a relative bias (on the CPU it has no backward)."""
    needs("nn.attention.flex_attention.flex_attention", MODES_SEE_HIGHER_ORDER_OPERATORS)
    from torch.nn.attention.flex_attention import flex_attention

    heads, length, size = 2, 8, 4
    projection = nn.Linear(heads * size, 3 * heads * size, bias=False).requires_grad_(False)
    head = nn.Linear(size, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    x = torch.randn(1, length, heads * size)

    def relative(score, batch, head, query, key):  # type: ignore[no-untyped-def]
        return score + (query - key)

    def run() -> torch.Tensor:
        query, key, value = (
            part.view(1, length, heads, size).transpose(1, 2)
            for part in projection(x).chunk(3, dim=-1)
        )
        loss = head(flex_attention(query, key, value, score_mod=relative)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    projected = 2 * length * (heads * size) * (3 * heads * size)
    scores = 2 * heads * length * length * size  # and the mixture as much
    headed = 2 * heads * length * size * 3
    by_hand = {
        "forward": projected + 2 * scores + headed,
        "grad_input": 0,
        "grad_weight": headed,
    }
    model = nn.ModuleList([projection, head])
    return WildStep(run, model, [optimizer], by_hand=by_hand, memory_unseen=COMPILED)


@wild
def operator_of_ones_own() -> WildStep:
    """``torch.library.custom_op`` with a backward of ordinary operators: forward has no formula."""
    needs("library.custom_op")
    if not hasattr(torch.ops.wild_steps, "doubled"):

        @torch.library.custom_op("wild_steps::doubled", mutates_args=())
        def doubled(x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        doubled.register_autograd(lambda context, gradient: 2 * gradient)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        hidden = torch.ops.wild_steps.doubled(model[0](x))
        loss = functional.cross_entropy(model[2](hidden), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(
        run,
        model,
        [optimizer],
        by_hand=ONE_STEP,
        uncounted=frozenset({"wild_steps.doubled"}),
        not_compared="there is no formula for wild_steps.doubled",
    )
