"""Training steps as people write them: each counted beside a counter that shares no code with the
package, to the integer; and each leaves everything as it would without the Profiler."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # before a step does, so that each finds it alike
import torch.distributed as dist
from torch import nn
from torch.nn.parameter import is_lazy

import flopratio as fr
from tests.wild.census import Census
from tests.wild.counter import Counter
from tests.wild.step import WildStep, build, load_steps
from tests.wild.traces import Trace, differences, of_process, trace_of

AWAITED: dict[str, str] = {}
"""Step (``name`` for its counts; ``name: trace`` for what it leaves, ``name: nested`` and
``name: without the model`` for the other tests) -> what it waits for."""

NAMES = list(load_steps())


def marked(suffix: str = "") -> list[Any]:
    """The steps, those that are known to fail marked so."""
    return [
        pytest.param(
            name,
            marks=[pytest.mark.xfail(reason=AWAITED[name + suffix])]
            if name + suffix in AWAITED
            else [],
        )
        for name in NAMES
    ]


@dataclass
class Left:
    """What a run left behind: values, modes and hooks; and what changed in the process."""

    trace: Trace
    process: list[str]


def run(step: WildStep, around: AbstractContextManager[Any]) -> Left:
    """Run a step and see what is left."""
    before = of_process()
    with around:
        losses = step.run()
    return Left(trace_of(step, losses), differences(before, of_process()))


def memory_left(step: WildStep, around: AbstractContextManager[Any]) -> tuple[int, int]:
    """Bytes of a run's tensors that are alive while its losses are, and when they are not."""
    gc.freeze()  # a collection looks at what this run leaves, not at all of torch
    census = Census()
    with census, around:
        losses = step.run()
    gc.collect()
    held = census.alive()
    del losses
    gc.collect()
    return held, census.alive()


def parameters_of(step: WildStep) -> list[torch.Tensor]:
    """What the step trains: of its modules and its optimizers."""
    found: list[torch.Tensor] = list(step.profiler.get("parameters", ()))
    for owner in [step.model, *step.state]:
        if isinstance(owner, nn.Module):
            found += nn.Module.parameters(owner)
        elif isinstance(owner, torch.optim.Optimizer):
            found += [p for group in owner.param_groups for p in group["params"]]
    return [parameter for parameter in found if not is_lazy(parameter)]


@cache
def without(name: str) -> Left:
    return run(build(name), nullcontext())


@cache
def counted(name: str) -> tuple[Counter, Left]:
    step = build(name)
    counter = Counter(parameters_of(step), watch_saved=not step.saved_unseen)
    return counter, run(step, counter.watching())


@cache
def profiled(name: str) -> tuple[fr.Ledger, Left]:
    without(name)  # what torch makes in a first run and keeps is none of the figures
    before, step = of_process(), build(name)
    profiler = fr.Profiler(step.model, **step.profiler)
    left = run(step, profiler)
    random_state = torch.get_rng_state()
    ledger = profiler.ledger
    _ = ledger.memory
    assert torch.equal(random_state, torch.get_rng_state())
    left.process += differences(before, of_process())
    return ledger, left


@pytest.fixture(autouse=True)
def what_torch_warns_of_is_the_steps_own() -> Iterator[None]:
    """But the package may not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module="flopratio")
        yield


@pytest.fixture(scope="module", autouse=True)
def process_as_before() -> Iterator[None]:
    """What the steps and :func:`memory_left` have changed in it."""
    yield
    gc.unfreeze()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("name", marked())
def test_counted_to_the_integer(name: str) -> None:
    step = build(name)
    counter, left = counted(name)
    assert differences(without(name).trace, left.trace) == []  # it counts the same step
    ledger, _ = profiled(name)
    total, flops = ledger.totals, counter.flops
    if step.unseen:
        assert total.forward < flops["forward"]
        assert ledger.why_not_compared == step.unseen
        assert ledger.reconciled is not True
        return
    update = sum(row.flops for row in ledger.rows if row.phase == "update")
    figures = {
        "forward": total.forward,
        "grad_input": total.grad_input,
        "grad_weight": total.grad_weight,
        "recompute": total.recompute,
        "update": update,
        "elementwise_update": total.update - update,
        "backward": total.backward,
        "ratio": total.ratio,
        "forward and update": total.forward + update,
        "backward and recompute": total.backward + total.recompute,
        "saved at once": ledger.memory["saved_activations"],
        "saved": total.saved_bytes,
    }
    for layer in ledger.layers():
        for phase in ("forward", "grad_input", "grad_weight", "recompute"):
            figures[f"{layer.name}: {phase}"] = getattr(layer, phase)
    expected: dict[str, float] = {
        "forward and update": flops["forward"] + flops["update"],
        "backward and recompute": flops["backward"],
        **step.by_hand,
    }
    if not step.own_update:
        expected |= {"forward": flops["forward"], "update": flops["update"]}
    if not step.saved_unseen:
        expected["saved at once"] = counter.most_kept
        if counter.all_kept == counter.most_kept:  # one graph: the table says the same
            expected["saved"] = counter.all_kept
    assert {key: figures.get(key) for key in expected} == expected
    assert {key: expected[key] for key in step.by_hand} == step.by_hand  # the counter agrees
    assert set(ledger.uncounted_ops) == set(step.uncounted)
    assert list(map(str, ledger.saved_mismatches)) == []
    if step.differs:
        assert ledger.mismatches
        assert ledger.reconciled is False
        return
    assert list(map(str, ledger.mismatches)) == []
    assert ledger.why_not_compared == step.not_compared
    assert ledger.reconciled is (None if step.not_compared else True)


@pytest.mark.parametrize("name", marked(": trace"))
def test_leaves_no_trace(name: str) -> None:
    plain, (_, left) = without(name), profiled(name)
    assert differences(plain.trace, left.trace) == []
    assert left.process == []
    step = build(name)
    if not step.memory_unseen:
        with torch.compiler.set_stance("force_eager"):
            reference = memory_left(build(name), nullcontext())
        profiler = fr.Profiler(step.model, **step.profiler)
        assert memory_left(step, profiler) == reference


def figures_of(ledger: fr.Ledger) -> tuple[Any, ...]:
    """What two ledgers of one step have to share."""
    total = ledger.totals
    return (
        total.forward,
        total.grad_input,
        total.grad_weight,
        total.recompute,
        total.update,
        total.saved_bytes,
        ledger.why_not_compared,
        ledger.mismatches == [],
    )


@pytest.mark.parametrize("name", marked(": nested"))
def test_counted_alike_by_nested_profilers(name: str) -> None:
    ledger, _ = profiled(name)
    step = build(name)
    outer, inner = (fr.Profiler(step.model, **step.profiler) for _ in range(2))
    with outer, inner:
        step.run()
    assert figures_of(outer.ledger) == figures_of(inner.ledger) == figures_of(ledger)
    peaks = [found.memory["peak"] for found in (outer.ledger, inner.ledger, ledger)]
    assert len(set(peaks)) == 1


@pytest.mark.parametrize("name", marked(": without the model"))
def test_counted_alike_without_the_model(name: str) -> None:
    step = build(name)
    with fr.Profiler(**step.profiler) as profiler:
        step.run()
    assert figures_of(profiler.ledger) == figures_of(profiled(name)[0])


@pytest.mark.parametrize("module", ["counter", "formulas", "operators"])
def test_the_counter_shares_no_code_with_the_package(module: str) -> None:
    assert "flopratio" not in Path(__file__).with_name(f"{module}.py").read_text()


def test_what_is_awaited_exists() -> None:
    assert {name.partition(":")[0] for name in AWAITED} <= set(NAMES)
