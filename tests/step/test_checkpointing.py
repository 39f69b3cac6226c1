"""Checkpointing from outside: gradients stay what they are, of really executed steps; what a
segment keeps and computes again is what torch's own checkpoint of these blocks does."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.models import load
from flopratio.step.checkpointing import checkpointed
from flopratio.step.losses import loss_of

WIDTH = 16


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(self.down(functional.gelu(self.up(self.norm(x)))))


class Scale(nn.Module):
    """A block that keeps neither what it is given nor what it returns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh() * 2


class Chain(nn.Module):
    """Equal blocks between two layers.

    Args:
        ends: where the segments end that the model checkpoints itself.
    """

    def __init__(
        self, number: int, ends: tuple[int, ...] = (), block: type[nn.Module] = Block
    ) -> None:
        super().__init__()
        self.first = nn.Linear(8, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(number))
        self.last = nn.Linear(WIDTH, 3)
        self.ends = ends

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for start, end in zip((0, *self.ends), self.ends, strict=False):
            segment = nn.Sequential(*self.blocks[start:end])
            x = checkpoint(segment, x, use_reentrant=False, preserve_rng_state=False)
        for block in self.blocks if not self.ends else ():
            x = block(x)
        return self.last(x)


class Keywords(nn.Module):
    """A block that is given a mask by name, and returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, x: torch.Tensor, *, mask: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.tanh(self.linear(x)) * mask
        bias = y.mean(0) if bias is None else bias * 2
        return y + bias, bias


class Loop(nn.Module):
    """Work between the blocks: random numbers, new tensors, results written over, an earlier result
    used again, one block called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, WIDTH)
        self.blocks = nn.ModuleList(Keywords() for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        mask, bias, earliest = torch.ones(WIDTH), None, None
        for number, block in enumerate([*self.blocks, self.blocks[2]]):
            x, bias = block(x, mask=mask, bias=bias)
            if number == 0:
                earliest = x
            if number == 1:
                x = functional.dropout(x, 0.5)
            if number == 2:
                x = functional.dropout(x, 0.5).sin()
            if number == 5:
                x += 1
            if number == 4:
                x = earliest
        return x


class Shuffled(Chain):
    """The blocks run in another order each time."""

    def __init__(self) -> None:
        super().__init__(5)
        self.order = [0, 1, 2, 3, 4]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.order = [self.order[2], self.order[0], *self.order[3:], self.order[1], self.order[2]]
        x = self.first(x)
        for number in self.order:
            x = self.blocks[number](x)
        return x


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        y += x
        return self.relu(y)


def convolutions() -> nn.Module:
    blocks = (Residual() for _ in range(3))
    return nn.Sequential(nn.Linear(8, 64), nn.Unflatten(1, (4, 4, 4)), *blocks, nn.Flatten())


def in_place() -> nn.Module:
    """Activations that write over what they are given can't begin a segment."""
    parts: list[nn.Module] = [nn.Linear(8, WIDTH), nn.ReLU(inplace=True)]
    for _ in range(4):
        parts += [nn.Linear(WIDTH, WIDTH), nn.SiLU(inplace=True), nn.Dropout(0.3)]
    return nn.Sequential(*parts)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "blocks": lambda: Chain(7),
    "loop": Loop,
    "shuffled": Shuffled,
    "in place": in_place,
    "convolutions": convolutions,
    "nested": lambda: nn.Sequential(
        nn.Linear(8, WIDTH), nn.Sequential(Block(), Block()), nn.Sequential(Block())
    ),
}

GPT2 = {"batch": 2, "seq": 8, "n_layer": 4, "n_embd": 16, "n_head": 2, "vocab_size": 20}
T5 = {"batch": 2, "seq": 8, "num_layers": 3, "d_model": 16, "d_kv": 8, "d_ff": 32}
T5 |= {"num_heads": 2, "vocab_size": 20}

SPECS: dict[str, dict[str, Any]] = {
    "hf:gpt2": GPT2,
    "hf:t5": T5,
}


def gradients(
    module: nn.Module,
    run: Callable[[nn.Module], Any],
    loss: Callable[[Any], torch.Tensor],
    how: str | None,
) -> list[torch.Tensor | None]:
    """The gradients of two micro-batches; dropout is the same each time."""
    torch.manual_seed(1)
    with checkpointed(module, how, lambda: run(module)):
        for _ in range(2):
            loss(run(module)).backward()
    return [parameter.grad for parameter in module.parameters()]


def assert_equal_gradients(
    expected: list[torch.Tensor | None], found: list[torch.Tensor | None]
) -> None:
    assert any(gradient is not None and gradient.any() for gradient in expected)
    for one, other in zip(expected, found, strict=True):
        if one is None:
            assert other is None
        else:
            assert other is not None
            assert torch.equal(one, other)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("how", ["auto:1", "auto:2", "auto", "auto:100"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_modules(name: str, how: str, amp: bool) -> None:
    torch.manual_seed(0)
    model, x = MODELS[name](), torch.randn(4, 8)

    def run(module: nn.Module) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            output: torch.Tensor = module(x)
            return output

    def loss(output: torch.Tensor) -> torch.Tensor:
        return output.float().square().mean()

    plain, other = copy.deepcopy(model), copy.deepcopy(model)
    if name == "shuffled":  # the other one goes one order further when it is looked at
        run(plain)
    expected = gradients(plain, run, loss, None)
    assert_equal_gradients(expected, gradients(other, run, loss, how))


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_of_models(spec: str) -> None:
    torch.manual_seed(0)
    example = load(spec, SPECS[spec], real=True)
    other = copy.deepcopy(example.module)

    def run(module: nn.Module) -> Any:
        return module(*example.args, **example.kwargs)

    expected = gradients(example.module, run, loss_of, None)
    assert_equal_gradients(expected, gradients(other, run, loss_of, "auto:2"))


def test_gradients_by_a_pattern() -> None:
    torch.manual_seed(0)
    model, x = Chain(3), torch.randn(4, 8)
    other = copy.deepcopy(model)
    expected = gradients(model, lambda module: module(x), torch.sum, None)
    found = gradients(other, lambda module: module(x), torch.sum, "blocks.[12]")
    assert_equal_gradients(expected, found)


@pytest.mark.parametrize("how", ["auto:1", "auto:2"])
def test_backward_through_a_graph_again(how: str) -> None:
    """Of the first and the last parameter one after the other, then of all, twice."""
    torch.manual_seed(0)
    model, x = Chain(4), torch.randn(4, 8)

    def gradients_of_all(how: str | None) -> list[torch.Tensor | None]:
        module = copy.deepcopy(model)
        parameters = list(module.parameters())
        torch.manual_seed(1)
        with checkpointed(module, how, lambda: module(x)):
            loss = module(x).square().mean()
            found = [
                torch.autograd.grad(loss, parameter, retain_graph=True)[0]
                for parameter in (parameters[0], parameters[-1], parameters[2])
            ]
            loss.backward(retain_graph=True)
            loss.backward()
        return [*found, *(parameter.grad for parameter in parameters)]

    assert_equal_gradients(gradients_of_all(None), gradients_of_all(how))


class Fickle(nn.Module):
    """A block that does something else each time.

    Args:
        works: what it does, in turn.
    """

    def __init__(self, *works: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.works = cycle(works)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return next(self.works)(x)


@pytest.mark.parametrize(
    "again", [lambda x: x + 1, lambda x: x[:2].exp(), lambda x: x.double().exp()]
)
def test_a_block_that_does_something_else_is_refused(
    again: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """It keeps fewer tensors when it is computed again, smaller ones, or others."""
    model = nn.Sequential(nn.Tanh(), Fickle(torch.exp, torch.exp, again))  # the first is looked at
    x = torch.randn(4, 8, requires_grad=True)
    with checkpointed(model, "auto:1", lambda: model(x)):
        output = model(x)
        with pytest.raises(UsageError, match="keeps other tensors when it is computed again"):
            output.sum().backward()


# -- what is kept, and what is computed again ------------------------------------------------------


def figures(ledger: fr.Ledger) -> dict[str, int]:
    assert ledger.reconciled
    totals, memory = ledger.totals, ledger.memory
    return {
        "forward": totals.forward,
        "backward": totals.backward,
        "recompute": totals.recompute,
        "saved": memory.saved_activations,
        "saved by layers": totals.saved_bytes,
        "peak": memory.peak,
    }


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("auto:1", (9,)),
        ("auto:2", (4, 9)),
        ("auto", (3, 6, 9)),
        ("auto:4", (2, 4, 6, 9)),
        ("auto:9", tuple(range(1, 10))),
    ],
)
@pytest.mark.parametrize("block", [Block, Scale])
def test_segments_are_as_torch_checkpoints_them(
    block: type[nn.Module], how: str, ends: tuple[int, ...]
) -> None:
    x = torch.empty(64, 8)
    found = figures(fr.count(Chain(9, block=block), x, loss="sum", checkpoint=how))
    assert found == figures(fr.count(Chain(9, ends, block), x, loss="sum"))


@pytest.mark.parametrize("how", ["auto:9", "auto:10", "auto:1000"])
def test_more_segments_than_blocks_are_one_each(how: str) -> None:
    x = torch.empty(64, 8)
    found = figures(fr.count(Chain(9), x, loss="sum", checkpoint=how))
    assert found == figures(fr.count(Chain(9), x, loss="sum", checkpoint="blocks.*"))


def test_the_chains_of_models() -> None:
    """Each block by itself is what the pattern of these blocks does."""
    for spec, settings, pattern in (
        ("hf:gpt2", GPT2, "transformer.h.*"),
        ("hf:t5", T5, "*.block.*"),
        ("torchvision:resnet18", {"batch": 2, "image": 32}, "layer*.*"),
    ):
        found = figures(fr.count(spec, **settings, checkpoint="auto:1000"))
        assert found == figures(fr.count(spec, **settings, checkpoint=pattern)), spec


@pytest.mark.parametrize("how", ["auto:1", "auto:3", "auto", "auto:1000"])
@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        ("mlp", {"depth": 16, "batch": 256, "width": 64}),
        ("cnn", {"depth": 4, "batch": 2, "image": 32}),
        ("hf:gpt2", GPT2),
        ("torchvision:resnet18", {"batch": 2, "image": 32}),
    ],
)
def test_the_model_flops_are_the_same(spec: str, settings: dict[str, Any], how: str) -> None:
    # With the CPU's kernels: CUDA's attention computes something again by itself.
    plain = figures(fr.count(spec, **settings, target="cpu"))
    found = figures(fr.count(spec, **settings, checkpoint=how, target="cpu"))
    assert plain["recompute"] == 0
    assert (found["forward"], found["backward"]) == (plain["forward"], plain["backward"])
    assert 0 <= found["recompute"] <= found["forward"]
    if how != "auto:1000":
        assert found["recompute"] > 0
        assert found["saved"] < plain["saved"]


def test_a_chain_of_layers_is_computed_again_but_for_the_last() -> None:
    """torch stops once the last saved tensor is there, which the product of the output is not."""
    ledger = fr.count("mlp", depth=16, batch=256, width=64, checkpoint="auto:1")
    output = 2 * 256 * 64 * 10
    assert ledger.totals.recompute == ledger.totals.forward - output


def test_the_root_of_a_chain_takes_least() -> None:
    """Of equal blocks that keep what they hand on."""
    chain, x = nn.Sequential(*(nn.Tanh() for _ in range(36))), torch.empty(1 << 20)

    def peak(how: str) -> int:
        ledger = fr.count(chain, x, loss="sum", checkpoint=how, input_grad=True)
        return int(ledger.memory.peak)

    peaks = {segments: peak(f"auto:{segments}") for segments in (1, 2, 3, 4, 6, 9, 12, 18, 36)}
    assert min(peaks, key=lambda segments: peaks[segments]) == 6
    assert peak("auto") == peaks[6]


def test_micro_batches_and_inference() -> None:
    x = torch.empty(64, 8)
    once = fr.count(Chain(4), x, loss="sum", checkpoint="auto:2")
    twice = fr.count(Chain(4), x, loss="sum", checkpoint="auto:2", accumulate=2)
    assert twice.totals.recompute == 2 * once.totals.recompute > 0
    alone = fr.count(Chain(4), x, checkpoint="auto:2", inference=True)
    assert (alone.totals.recompute, alone.totals.forward) == (0, once.totals.forward)


# -- what is left behind, and what is refused ------------------------------------------------------


def attributes(module: nn.Module) -> Iterator[tuple[str, list[str], int]]:
    for name, part in module.named_modules():
        yield name, sorted(vars(part)), len(part._forward_hooks) + len(part._forward_pre_hooks)


@pytest.mark.parametrize("how", ["auto:2", "blocks.*"])
def test_nothing_is_left_on_the_module(how: str) -> None:
    model, x = Chain(4), torch.randn(4, 8)
    own = model.blocks[1].forward
    model.blocks[1].forward = own  # type: ignore[method-assign] - somebody has replaced it
    before = list(attributes(model))
    with checkpointed(model, how, lambda: model(x)):
        model(x).sum().backward()
    assert list(attributes(model)) == before
    assert model.blocks[1].forward == own


@pytest.mark.parametrize("at", [1, 2, 3])
def test_nothing_is_left_after_an_exception(at: int) -> None:
    """In the first look at the order, in forward, and when it is computed again."""
    model, x = Chain(4), torch.randn(4, 8)
    before = list(attributes(model))
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise ZeroDivisionError

    hook = model.blocks[2].norm.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), checkpointed(model, "auto:2", lambda: model(x)):
        model(x).sum().backward()
    hook.remove()
    assert list(attributes(model)) == before
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        model(x)
    assert saved


def test_activations_are_released_with_the_graph() -> None:
    """They do not wait for the garbage collector."""

    def left(how: str | None) -> list[tuple[str, str, int]]:
        ledger = fr.count(Chain(6), torch.empty(64, 8), loss="sum", checkpoint=how)
        blocks = ledger.memory.blocks
        return [(b.category, b.layer, b.nbytes) for b in blocks if b.died is None]

    assert left("auto:2") == left(None)


def test_what_is_kept_goes_with_the_output() -> None:
    """Even what lies between two blocks of a segment, whose history leads back to the segment."""
    model, x = Loop(), torch.randn(4, 8)
    kept: list[weakref.ref[torch.UntypedStorage]] = []

    def watch(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        kept.append(weakref.ref(output.untyped_storage()))

    model.first.register_forward_hook(watch)
    gc.disable()
    try:
        with checkpointed(model, "auto:1", lambda: model(x)):
            output = model(x)
        assert kept[-1]() is not None
        del output
        assert kept[-1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("auto:0", "a number of segments, such as auto:4"),
        ("auto:-1", "a number of segments"),
        ("auto:", "a number of segments"),
        ("auto:two", "a number of segments"),
        ("auto:1.5", "a number of segments"),
        ("nothing*", "matches no module: names are like"),
    ],
)
def test_bad_input(how: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        fr.count(Chain(3), torch.empty(4, 8), checkpoint=how)


class Listed(nn.Module):
    """A list of blocks, which has no forward, and a part that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(2))
        self.unused = nn.Linear(8, 8)
        self.empty = nn.ModuleList()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("blocks", "matches blocks, which has no forward and never runs: names are like blocks.1,"),
        ("empty", "matches empty, which has no forward and never runs: names are like "),
        ("unused", "matches modules that the model never calls"),
    ],
)
def test_a_pattern_of_what_never_runs_is_refused(pattern: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        fr.count(Listed(), torch.empty(4, 8), loss="sum", checkpoint=pattern)


def test_what_has_no_forward_hides_nothing_in_it() -> None:
    outer, inner = (
        fr.count(Listed(), torch.empty(4, 8), loss="sum", checkpoint=pattern).totals.recompute
        for pattern in ("b*", "blocks.?")
    )
    assert outer == inner > 0


def test_what_holds_layers_of_a_built_in_network_is_no_block() -> None:
    with pytest.raises(UsageError, match=r"=hidden\.0 matches hidden\.0, which has no forw"):
        fr.count("mlp", 2, depth=2, width=4, checkpoint="hidden.0")


@pytest.mark.parametrize("model", [nn.Linear(8, 3), nn.Sequential(nn.Linear(8, 3))])
def test_a_model_without_a_chain(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="name the modules by a pattern"):
        fr.count(model, torch.empty(4, 8), loss="sum", checkpoint="auto")
