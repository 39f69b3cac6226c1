"""Several ranks, of which one runs here: collectives of a process group that only pretends."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from tests.wild.models import ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, needs, wild

RANKS = 2
SHARDED = "what is saved are gathered weights, which are nobody's parameters"


def mesh() -> dist.DeviceMesh:
    """Two ranks, of which this is the first. One group serves all steps of the process."""
    needs("testing._internal.distributed.fake_pg.FakeStore")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if not dist.is_initialized():
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    return init_device_mesh("cpu", (RANKS,))


def needs_results() -> None:
    """Skip a step whose numbers come from a collective, where the group that pretends leaves its
    results as they were."""
    mesh()
    gathered, scattered = torch.full((RANKS,), math.nan), torch.full((1,), math.nan)
    dist.all_gather_into_tensor(gathered, torch.ones(1))
    dist.reduce_scatter_tensor(scattered, torch.ones(RANKS))
    if gathered.isnan().any() or scattered.isnan().any():
        pytest.skip("this torch's pretended process group writes no results")


@wild
def tensor_parallel() -> WildStep:
    """DTensor: a column-wise and a row-wise layer, half of either on this rank."""
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, WIDTH))
    styles = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    parallelize_module(model, mesh(), styles, src_data_rank=None)  # each cuts its own copy
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    half = 2 * ROWS * WIDTH * 8 // RANKS
    by_hand = {
        "forward": 2 * half,
        "grad_input": half,
        "grad_weight": 2 * half,
        # Half of both weights and of the first bias, all of the second.
        "elementwise_update": 2 * (2 * WIDTH * 8 // RANKS + 8 // RANKS + WIDTH),
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def fully_sharded() -> WildStep:
    """FSDP2: weights are gathered before each layer, gradients scattered after it."""
    needs("distributed.fsdp.fully_shard")
    from torch.distributed.fsdp import fully_shard

    needs_results()
    model = mlp()
    for part in (model[0], model[2]):
        fully_shard(part, mesh=mesh())
    fully_shard(model, mesh=mesh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    # Each rank computes with the whole weight, and updates its rows: 4 of 8, 2 of 3.
    updated = 2 * (4 * (WIDTH + 1) + 2 * (8 + 1))
    by_hand = {**ONE_STEP, "elementwise_update": updated}
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=SHARDED)


@wild
def data_parallel_without_sync() -> WildStep:
    """DDP: accumulation under ``no_sync``, then buckets with a hook that compresses them."""
    mesh()
    model = nn.parallel.DistributedDataParallel(mlp())

    def compress(state, bucket):  # type: ignore[no-untyped-def]
        future = torch.futures.Future()
        future.set_result(bucket.buffer().bfloat16().float() / RANKS)
        return future

    model.register_comm_hook(None, compress)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [batch(), batch()]

    def run() -> torch.Tensor:
        with model.no_sync():
            functional.cross_entropy(model(batches[0][0]), batches[0][1]).backward()
        loss = functional.cross_entropy(model(batches[1][0]), batches[1][1])
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=times(2, ONE_STEP))


@wild
def gradients_reduced_by_hand() -> WildStep:
    """``all_reduce`` on each gradient, and gathered embeddings for a contrastive loss."""
    mesh()
    model = mlp(classes=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = batch()

    def run() -> torch.Tensor:
        embedded = functional.normalize(model(x), dim=1)
        gathered = [torch.zeros_like(embedded) for _ in range(RANKS)]
        dist.all_gather(gathered, embedded.detach())
        gathered[0] = embedded
        logits = embedded @ torch.cat(gathered).T
        loss = functional.cross_entropy(logits, torch.arange(ROWS))
        loss.backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= RANKS
        optimizer.step()
        return loss

    first, last = 2 * ROWS * WIDTH * 8, 2 * ROWS * 8 * 5
    pairs = 2 * ROWS * 5 * RANKS * ROWS
    by_hand = {
        "forward": first + last + pairs,
        "grad_input": last + 2 * pairs,
        "grad_weight": first + last,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def functional_collectives() -> WildStep:
    """Collectives that autograd follows, as sequence parallelism uses them."""
    needs("distributed._functional_collectives.all_gather_tensor_autograd")
    from torch.distributed import _functional_collectives as collectives

    needs_results()
    group = mesh().get_group()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        hidden = model[1](model[0](x))
        whole = collectives.all_gather_tensor_autograd(hidden, 0, group)
        loss = functional.cross_entropy(model[2](whole), y.repeat(RANKS))
        loss.backward()
        optimizer.step()
        return loss

    first, last = 2 * ROWS * WIDTH * 8, 2 * RANKS * ROWS * 8 * 3
    by_hand = {"forward": first + last, "grad_input": last, "grad_weight": first + last}
    return WildStep(run, model, [optimizer], by_hand=by_hand)
