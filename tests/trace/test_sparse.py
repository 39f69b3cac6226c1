"""Steps with sparse tensors: a graph network, counted by hand; where the non-zeros are unknown; the
bytes of values and indices."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # torch says that they are in beta

PAPERS, WORDS, HIDDEN, TOPICS = 2_708, 1_433, 16, 7
CITATIONS = 10_556
"""Cora, each citation both ways."""


def cora() -> torch.Tensor:
    """As many different places as Cora has citations, on a ring."""
    paper = torch.arange(PAPERS)
    places = [(paper, (paper + step) % PAPERS) for step in (1, 2, 3, 4)]
    first, second = (torch.cat(side)[:CITATIONS] for side in zip(*places, strict=True))
    return torch.sparse_coo_tensor(
        torch.stack((first, second)), torch.ones(CITATIONS), (PAPERS, PAPERS)
    ).coalesce()


class GCN(nn.Module):
    """Kipf and Welling, 2017: two layers, each a linear map and a product with the graph."""

    def __init__(self, graph: torch.Tensor | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WORDS, HIDDEN), nn.Linear(HIDDEN, TOPICS)
        if graph is not None:
            self.register_buffer("graph", graph)

    def forward(self, x: torch.Tensor, graph: torch.Tensor | None = None) -> torch.Tensor:
        graph = self.graph if graph is None else graph
        return graph @ self.second(torch.relu(graph @ self.first(x)))


LINEAR = 2 * PAPERS * WORDS * HIDDEN + 2 * PAPERS * HIDDEN * TOPICS
GRAPH = 2 * CITATIONS * (HIDDEN + TOPICS)
FORWARD = LINEAR + GRAPH
GRAD_INPUT = GRAPH + 2 * PAPERS * HIDDEN * TOPICS
"""No gradient of the words."""


def layout_of(graph: torch.Tensor, layout: str) -> torch.Tensor:
    return graph if layout == "coo" else graph.to_sparse_csr()


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_graph_network_on_cora_by_hand(layout: str) -> None:
    graph, model = layout_of(cora(), layout), GCN()
    x, y = torch.randn(PAPERS, WORDS), torch.randint(TOPICS, (PAPERS,))
    with fr.Profiler(model) as profiler:
        nn.functional.cross_entropy(model(x, graph), y).backward()
    ledger = profiler.ledger
    assert FORWARD == 125_270_216
    totals = ledger.totals
    assert (totals.forward, totals.grad_input, totals.grad_weight) == (FORWARD, GRAD_INPUT, LINEAR)
    assert totals.recompute == 0
    assert ledger.mismatches == []
    assert ledger.saved_mismatches == []
    assert ledger.uncounted_ops == {}
    pickle.loads(pickle.dumps(profiler.recording))


@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize("where", ["input", "buffer"])
def test_a_graph_network_on_fake_tensors(layout: str, where: str) -> None:
    """A sparse tensor keeps its values, whose number is what its products cost."""
    graph, x = layout_of(cora(), layout), torch.randn(PAPERS, WORDS)
    if where == "input":
        ledger = fr.count(GCN(), (x, graph), loss="sum")
    else:
        ledger = fr.count(GCN(graph), (x,), loss="sum")
    totals = ledger.totals
    assert (totals.forward, totals.grad_input, totals.grad_weight) == (FORWARD, GRAD_INPUT, LINEAR)
    assert ledger.reconciled
    assert ledger.uncounted_ops == {}


def test_an_unknown_number_of_non_zeros_is_named() -> None:
    """GIVEN a model without values, THEN its sparse products are no dense ones in silence."""
    ledger = fr.count(GCN(cora()).to("meta"), (torch.randn(PAPERS, WORDS, device="meta"),))
    assert ledger.totals.forward == LINEAR
    assert set(ledger.uncounted_ops) == {
        "aten.mm (the number of non-zeros is unknown)",
        "aten.t (the number of non-zeros is unknown)",
    }


def bytes_of(tensors: list[torch.Tensor]) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_values_and_indices_are_inputs(layout: str) -> None:
    graph = layout_of(cora(), layout)
    if layout == "coo":
        parts = [graph.values(), graph.indices()]
    else:
        parts = [graph.values(), graph.crow_indices(), graph.col_indices()]
    weight = nn.Parameter(torch.randn(PAPERS, HIDDEN))
    with fr.Profiler() as profiler:
        (graph @ weight).sum().backward()
    memory = profiler.ledger.memory
    assert memory["inputs"] == bytes_of(parts)
    (row,) = (row for row in profiler.ledger.rows if row.op == "aten.mm" and row.phase == "forward")
    assert row.bytes_read == sum(part.nbytes for part in parts) + weight.nbytes
    assert row.bytes_written == PAPERS * HIDDEN * 4
    assert row.saved_bytes == bytes_of(parts)


def test_values_and_indices_of_a_parameter_are_parameters() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(6).to_sparse())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sparse.mm(self.weight, x)

    model = Sparse()
    with fr.Profiler(model) as profiler:
        model(torch.randn(6, 3)).sum().backward()
    ledger = profiler.ledger
    assert ledger.memory["parameters"] == 6 * 4 + 2 * 6 * 8
    totals = ledger.totals
    assert (totals.forward, totals.grad_weight, totals.grad_input) == (36, 36, 0)
    assert totals.recompute == 2 * 6 * 6 * 3 - 36
    assert ledger.saved_mismatches == []


def test_a_sparse_gradient_is_a_gradient() -> None:
    table = nn.Embedding(100, 8, sparse=True)
    rows = torch.tensor([1, 5, 7])
    with fr.Profiler(table) as profiler:
        table(rows).sum().backward()
    gradients = profiler.ledger.memory["gradients"]
    assert isinstance(table.weight.grad, torch.Tensor)
    grad = table.weight.grad
    assert gradients == bytes_of([grad._values(), grad._indices()])


UPDATES: dict[str, Any] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, 0.1),
    "sparse adam": lambda parameters: torch.optim.SparseAdam(parameters, 0.1),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_with_sparse_gradients_count_the_rows_that_were_read(name: str) -> None:
    """GIVEN three rows of a hundred, THEN the update is not that of the whole table."""
    table = nn.Embedding(100, 8, sparse=True)
    optimizer = UPDATES[name](list(table.parameters()))
    with fr.Profiler(table) as profiler:
        table(torch.tensor([1, 5, 7])).sum().backward()
        optimizer.step()
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    work = ledger.totals.update
    entries = 3 * 8
    assert 0 < work < 100 * 8
    if name == "sgd":
        assert work == 2 * entries


@pytest.mark.parametrize(
    ("options", "elementwise"),
    [
        ({"mode": "sum"}, 0),
        ({"mode": "mean"}, 2 * 4),  # the gradient of each of 2 bags, divided by its size
    ],
)
def test_the_rows_that_bags_read(options: dict[str, Any], elementwise: int) -> None:
    """A sparse gradient lists the rows that were read: 5 of 4 numbers, with 5 indices."""
    bag = nn.EmbeddingBag(20, 4, sparse=True, **options)
    optimizer = torch.optim.SGD(bag.parameters(), lr=0.1)
    ids, offsets = torch.tensor([1, 2, 3, 3, 5]), torch.tensor([0, 2])
    with fr.Profiler(bag) as profiler:
        bag(ids, offsets).sum().backward()
        optimizer.step()
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    assert ledger.reconciled is True
    (row,) = [row for row in ledger.rows if row.op == "aten._embedding_bag_backward"]
    assert (row.phase, row.elementwise) == ("grad_weight", elementwise)
    assert row.bytes_written == 5 * 4 * 4 + 5 * 8
