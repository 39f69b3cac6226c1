"""Graphs, sparse matrices, jagged batches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import CLASSES, HIDDEN, WIDTH
from tests.wild.step import WildStep, needs, wild

NODES = 10


def edges() -> torch.Tensor:
    """A ring with self-loops: 2 NODES edges."""
    here = torch.arange(NODES)
    return torch.cat([torch.stack([here, here]), torch.stack([here, (here + 1) % NODES])], dim=1)


EDGES = 2 * NODES


class GraphConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, adjacency: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(torch.sparse.mm(adjacency, self.first(x)))
        return torch.sparse.mm(adjacency, self.second(hidden))


FIRST, SECOND = 2 * NODES * WIDTH * HIDDEN, 2 * NODES * HIDDEN * CLASSES
SPREAD = (2 * EDGES * HIDDEN, 2 * EDGES * CLASSES)
"""FLOP of the products with the adjacency: an edge meets a row."""


@wild
def graph_convolution_coo() -> WildStep:
    """Kipf and Welling's: a sparse adjacency, counted by its edges."""
    model = GraphConvolution()
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=5e-4)
    adjacency = torch.sparse_coo_tensor(edges(), torch.rand(EDGES), (NODES, NODES)).coalesce()
    x, y = torch.randn(NODES, WIDTH), torch.randint(CLASSES, (NODES,))

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(adjacency, x)[:5], y[:5])
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": FIRST + SECOND + sum(SPREAD),
        "grad_input": SECOND + sum(SPREAD),
        "grad_weight": FIRST + SECOND,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def graph_convolution_csr() -> WildStep:
    """The same with compressed rows, by ``@``."""
    model = nn.Linear(WIDTH, HIDDEN)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    adjacency = torch.sparse_coo_tensor(edges(), torch.rand(EDGES), (NODES, NODES)).to_sparse_csr()
    x = torch.randn(NODES, WIDTH)

    def run() -> torch.Tensor:
        loss = (adjacency @ model(x)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {"forward": FIRST + SPREAD[0], "grad_input": SPREAD[0], "grad_weight": FIRST}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def message_passing() -> WildStep:
    """Messages gathered along edges, weighted by attention over neighbours, scattered back."""
    project, score = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(2 * HIDDEN, 1, bias=False)
    model = nn.ModuleList([project, score])
    optimizer = torch.optim.Adam(model.parameters())
    source, target = edges()
    x = torch.randn(NODES, WIDTH)

    def run() -> torch.Tensor:
        hidden = project(x)
        logits = functional.leaky_relu(score(torch.cat([hidden[source], hidden[target]], 1)))
        weights = (logits - logits.max().detach()).exp()
        total = torch.zeros(NODES, 1).index_add_(0, target, weights)
        messages = weights / total[target] * hidden[source]
        out = torch.zeros(NODES, HIDDEN).scatter_add(
            0, target.unsqueeze(1).expand(-1, HIDDEN), messages
        )
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    attended = 2 * EDGES * 2 * HIDDEN
    by_hand = {
        "forward": FIRST + attended,
        "grad_input": attended,
        "grad_weight": FIRST + attended,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def learned_sparse_values() -> WildStep:
    """The values of a sparse matrix train: its gradient is asked for where values are."""
    values = nn.Parameter(torch.rand(EDGES))
    model = nn.Linear(WIDTH, HIDDEN)
    model.register_parameter("values", values)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    indices, x = edges(), torch.randn(NODES, WIDTH)

    def run() -> torch.Tensor:
        adjacency = torch.sparse_coo_tensor(indices, values, (NODES, NODES))
        loss = torch.sparse.mm(adjacency, model(x)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand={"forward": FIRST + SPREAD[0]})


@wild
def sparse_masked_product() -> WildStep:
    """``_sparse_addmm`` of features that are sparse themselves."""
    model = nn.Linear(WIDTH, HIDDEN)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dense = torch.zeros(NODES, WIDTH)
    dense[::2, ::3] = 1.0
    features = dense.to_sparse()

    def run() -> torch.Tensor:
        hidden = torch.sparse.addmm(model.bias, features, model.weight.t())
        loss = hidden.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    product = 2 * (NODES // 2) * (WIDTH // 3) * HIDDEN
    by_hand = {"forward": product, "grad_input": 0, "grad_weight": product}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def bag_of_words_sparse() -> WildStep:
    """``EmbeddingBag`` with sparse gradients, plain SGD on them."""
    bag, head = nn.EmbeddingBag(20, WIDTH, sparse=True, mode="sum"), nn.Linear(WIDTH, CLASSES)
    model = nn.ModuleList([bag, head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids, offsets = torch.tensor([1, 2, 3, 3, 5]), torch.tensor([0, 2])
    y = torch.tensor([0, 2])

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(head(bag(ids, offsets)), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    product = 2 * 2 * WIDTH * CLASSES
    by_hand = {"forward": product, "grad_input": product, "grad_weight": product}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def adagrad_on_sparse_gradients() -> WildStep:
    table = nn.Embedding(20, WIDTH, sparse=True)
    optimizer = torch.optim.Adagrad(table.parameters(), lr=0.1)
    users, items = torch.tensor([1, 4, 4]), torch.tensor([7, 8, 9])

    def run() -> torch.Tensor:
        scores = (table(users) * table(items)).sum(1)
        loss = functional.softplus(-scores).mean()
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, table, [optimizer], by_hand={"forward": 0, "backward": 0})


@wild
def jagged_batch() -> WildStep:
    """Sequences of different lengths in one nested tensor."""
    needs("nested.nested_tensor_from_jagged")
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lengths = (2, 5, 3)
    values = torch.randn(sum(lengths), WIDTH)
    offsets = torch.tensor([0, 2, 7, 10])

    def run() -> torch.Tensor:
        batch = torch.nested.nested_tensor_from_jagged(values, offsets)
        loss = model(batch).values().square().mean()
        loss.backward()
        optimizer.step()
        return loss

    tokens = sum(lengths)
    first, last = 2 * tokens * WIDTH * HIDDEN, 2 * tokens * HIDDEN * CLASSES
    by_hand = {"forward": first + last, "grad_input": last, "grad_weight": first + last}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def packed_sequences() -> WildStep:
    """A GRU over packed sequences: each time step has the rows that are still running."""
    model = nn.GRU(WIDTH, HIDDEN)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lengths = (5, 3, 2)
    sequences = [torch.randn(length, WIDTH) for length in lengths]

    def run() -> torch.Tensor:
        packed = nn.utils.rnn.pack_sequence(sequences)
        out, _ = nn.utils.rnn.pad_packed_sequence(model(packed)[0])
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    tokens = sum(lengths)
    inputs, hidden = 2 * tokens * WIDTH * 3 * HIDDEN, 2 * tokens * HIDDEN * 3 * HIDDEN
    by_hand = {"forward": inputs + hidden, "grad_weight": inputs + hidden}
    return WildStep(run, model, [optimizer], by_hand=by_hand)
