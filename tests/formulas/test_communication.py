"""What ranks send each other: bytes, and the additions of reductions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import flopratio as fr
from flopratio.formulas import OPERATORS, Tensor
from tests.formulas import counting
from tests.formulas.counting import counted, zeros

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # names that torch has renamed


@pytest.mark.oracle
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_reductions_in_loops(ranks: int) -> None:
    """Each rank's elements are added to accumulators that are 0 at first."""
    n = 6 * ranks
    sent = [counting.tensor((n,), rank) for rank in range(ranks)]
    counting.reset()
    total = zeros((n,))
    for own in sent:
        for i in range(n):
            total[i] = total[i] + own[i]
    whole, share = Tensor((n,)), Tensor((6,))
    everybody = "_c10d_functional.all_reduce"
    scattered = "_c10d_functional.reduce_scatter_tensor"
    assert ranks * OPERATORS[everybody](whole, "sum", "0", out=whole).elementwise == counted()
    each = OPERATORS[scattered](whole, "sum", ranks, "0", out=share).elementwise
    assert ranks * each == counted()
    for i in range(n):
        total[i] = total[i] / ranks
    averaged = OPERATORS[scattered](whole, "avg", ranks, "0", out=share).elementwise
    assert ranks * averaged == counted()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    if not dist.is_available():
        pytest.skip("torch without torch.distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_collectives_of_a_step_are_counted() -> None:
    x = torch.ones(4, 6)
    with fr.Profiler() as profiler:
        dist.all_reduce(x)
        dist.broadcast(x, 0)
        dist.all_gather([torch.empty(4, 6)], x)
        dist.reduce_scatter_tensor(torch.empty(4, 6), x)
        dist.barrier()
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    assert ledger.totals.forward == 0
    assert ledger.totals.elementwise_forward == 2 * 24
    rows = {row.op: row for row in ledger.rows if row.op.startswith("c10d.")}
    assert rows["c10d.allreduce_"].bytes_read == 96
    assert rows["c10d.allreduce_"].bytes_written == 96
    assert rows["c10d.allgather_"].bytes_written == 96


@pytest.mark.usefixtures("group")
def test_functional_collectives_are_counted() -> None:
    from torch.distributed import _functional_collectives as collectives

    x = torch.ones(4, 6)
    with fr.Profiler() as profiler:
        group = dist.group.WORLD
        assert group is not None
        (collectives.all_reduce(x, "avg", group) + 1).sum()
        collectives.wait_tensor(collectives.all_gather_tensor(x, 0, group))
    ledger = profiler.ledger
    assert not any(name.startswith("_c10d") for name in ledger.uncounted_ops)
    (row,) = (row for row in ledger.rows if row.op == "_c10d_functional.all_reduce")
    assert (row.flops, row.elementwise, row.bytes_read) == (0, 2 * 24, 96)
