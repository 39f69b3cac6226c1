"""What a step keeps, when it peaks and on what: by hand for tiny steps, and as really executed."""

import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.formulas.recurrent import ONEDNN_PARTS
from flopratio.measure.memory import measure_peak
from flopratio.memory import CATEGORIES, Memory
from flopratio.models import fakes, load
from flopratio.models.fakes import onednn_parts_here
from flopratio.peers import saved_by_autograd
from flopratio.step.losses import loss_of
from flopratio.text.dtypes import parse_dtype
from flopratio.trace.memory import peak_bytes

FP32 = 4


def remembered(model: nn.Module | None, step: Callable[[], Any]) -> Memory:
    """The memory of a step on real tensors."""
    with fr.Profiler(model) as profiler:
        step()
    memory = profiler.ledger.memory
    assert peak_bytes(profiler.recording) == memory.peak
    return memory


def moves(memory: Memory) -> list[tuple[str, int, str]]:
    """The events of the step itself."""
    return [(e.kind, e.nbytes, e.category) for e in memory.events() if e.record >= 0]


@pytest.fixture(scope="module")
def memory() -> Memory:
    """Of one linear layer."""
    model, x = nn.Linear(4, 6), torch.randn(8, 4)
    return remembered(model, lambda: model(x).sum().backward())


class TestOneLinearLayer:
    """y = x @ W.T + b of 8 rows, 4 -> 6, and the sum of y; all fp32.

    Before the step: W 6·4·4 = 96 B, b 6·4 = 24 B, x 8·4·4 = 128 B. Forward makes y, 8·6·4 = 192 B,
    and the loss, 4 B. y is kept for nothing and goes. Backward starts with a 1, 4 B, expanded to be
    the gradient of y, and makes those of W and b, 96 B and 24 B.
    """

    W, B, X, Y = 96, 24, 128, 192

    def test_events(self, memory: Memory) -> None:
        before = [(e.kind, e.nbytes, e.category) for e in memory.events() if e.record < 0]
        assert before == [
            ("alloc", self.W, "parameters"),
            ("alloc", self.B, "parameters"),
            ("alloc", self.X, "inputs"),
        ]
        assert moves(memory) == [
            ("alloc", self.Y, "temporaries"),
            ("alloc", FP32, "temporaries"),  # the loss, which outlives the step
            ("free", self.Y, "temporaries"),
            ("alloc", FP32, "temporaries"),  # its gradient
            ("alloc", self.W, "gradients"),
            ("alloc", self.B, "gradients"),
        ]

    def test_peak_is_at_the_sum_in_forward(self, memory: Memory) -> None:
        assert memory.peak == self.W + self.B + self.X + self.Y + FP32  # 444
        peak = memory.at_peak
        assert (peak.phase, peak.layer, peak.op) == ("forward", "(step)", "aten.sum")
        assert [(block.nbytes, block.layer, block.op) for block in peak.blocks] == [
            (self.Y, "", "aten.addmm"),
            (self.X, "", ""),
            (self.W, "", ""),
            (self.B, "", ""),
            (FP32, "(step)", "aten.sum"),
        ]

    def test_figures(self, memory: Memory) -> None:
        assert memory == {
            "parameters": 120,
            "buffers": 0,
            "inputs": 128,
            "gradients": 120,
            "optimizer_state": 0,
            "saved_activations": 128,  # x, which the gradient of W reads
            "peak": 444,
            "peak_phase": "forward",
            # Rounded up all blocks take 512 B, so that it is at the end: W, b, their gradients, x,
            # the loss and its gradient.
            "peak_allocated": 7 * 512,
            "peak_reserved": 2 << 20,  # one segment of the small pool
            "inference_peak": None,
            "first_step_peak": 444,
        }

    def test_phases(self, memory: Memory) -> None:
        phases = [phase for phase, _ in memory.phases()]
        assert phases == ["forward", "backward"]
        assert memory.phases()[0][1].stop == memory.phases()[1][1].start

    def test_timeline_adds_up(self, memory: Memory) -> None:
        timeline = memory.timeline()
        assert tuple(timeline) == CATEGORIES
        assert timeline["parameters"] == [120] * len(memory.operators)
        assert timeline["gradients"][-1] == 120
        assert max(map(sum, zip(*timeline.values(), strict=True))) == 444

    def test_peak_adds_up(self, memory: Memory) -> None:
        peak = memory.at_peak
        assert sum(peak.by_category.values()) == sum(peak.by_layer.values()) == 444
        assert peak.by_category["temporaries"] == self.Y + FP32


class TestStorages:
    """Tensors that share a storage are one block."""

    def test_in_place_takes_nothing(self) -> None:
        x = torch.randn(8, 4)

        def step() -> None:
            y = x.exp()  # 8 * 4 * 4 = 128
            y.mul_(2)
            functional.relu_(y)

        assert remembered(None, step).peak == 2 * 128

    def test_views_take_nothing(self) -> None:
        x = torch.randn(8, 4)
        memory = remembered(None, lambda: x.t().flatten()[:8].unsqueeze(0).expand(9, 8))
        assert memory.peak == 2 * 128  # a transpose can't be viewed as one row: it is copied

    def test_a_view_keeps_all_of_its_storage(self) -> None:
        kept: list[torch.Tensor] = []
        x = torch.randn(8, 4)

        def step() -> None:
            kept.append(x.exp()[:1])
            x.sum()

        assert remembered(None, step).peak == 2 * 128 + FP32

    def test_a_constant_is_one(self) -> None:
        """Fake tensors make it twice."""
        with FakeTensorMode():
            x = torch.randn(8, 4)
            memory = remembered(None, lambda: x + torch.tensor(1.0))
        assert (memory.inputs, memory.peak) == (128, 2 * 128 + FP32)


def exponential_and_sine(x: torch.Tensor) -> torch.Tensor:
    return x.exp() + x.sin()


def three_uses(x: torch.Tensor) -> torch.Tensor:
    return x.exp() + x.sin() + x.cos()


def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Both gradients are one tensor: it can't be added into."""
    return x + x


def residual(x: torch.Tensor) -> torch.Tensor:
    return (x + functional.linear(x, WEIGHT)).exp()


def two_linear(x: torch.Tensor) -> torch.Tensor:
    """In three dimensions the gradients are views, into which nothing is added."""
    return functional.linear(x, WEIGHT) * functional.linear(x, WEIGHT)


def held_by_a_hook(x: torch.Tensor) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    y = x.exp()
    y.register_hook(kept.append)
    return y * 2 + y.sin() + x.cos()


WEIGHT = torch.randn(8, 8)


class TestSums:
    """Gradients that meet are added in place if the engine alone holds the first of them: what no
    recorder gets to see, for under a mode it doesn't."""

    @pytest.mark.parametrize(
        "function",
        [
            exponential_and_sine,
            three_uses,
            square,
            doubled,
            residual,
            two_linear,
            held_by_a_hook,
        ],
    )
    def test_as_executed(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        x = torch.randn(4, 16, 8, requires_grad=True)

        def step() -> None:
            function(x * 1).sum().backward()
            x.grad = None

        memory = remembered(None, step)
        # Numbers that operators turn into tensors take a few bytes.
        measured = measure_peak(step).outside_kernels
        before = memory.inputs + memory.parameters
        assert memory.peak - before == pytest.approx(measured, abs=16)

    @pytest.mark.parametrize(
        ("function", "made"), [(exponential_and_sine, 0), (three_uses, 0), (doubled, 1)]
    )
    def test_what_is_made_for_sums(
        self, function: Callable[[torch.Tensor], torch.Tensor], made: int
    ) -> None:
        x = torch.randn(4, 4, requires_grad=True)
        memory = remembered(None, lambda: function(x * 1).sum().backward())
        (_, _), (_, backward) = memory.phases()
        sums = [b for b in memory.blocks if b.op == "aten.add" and b.born in backward]
        assert len(sums) == made


class TestGradients:
    def test_accumulated_in_place(self) -> None:
        model, x = nn.Linear(4, 6), torch.randn(8, 4)

        def step() -> None:
            for _ in range(3):
                model(x).sum().backward()

        memory = remembered(model, step)
        assert memory.gradients == 96 + 24
        # Of the second forward: y and the loss, beside the first gradients.
        assert memory.timeline()["gradients"][-1] == 96 + 24
        assert memory.peak == 120 + 128 + 120 + 192 + 4

    def test_of_steps_before_stay(self) -> None:
        model, x = nn.Linear(4, 6), torch.randn(8, 4)
        model(x).sum().backward()
        memory = remembered(model, lambda: model(x).sum())
        assert memory.gradients == 96 + 24
        assert memory.peak == 120 + 120 + 128 + 192 + 4

    def test_of_an_input(self) -> None:
        x = torch.randn(8, 4, requires_grad=True)
        assert remembered(None, lambda: x.exp().sum().backward()).gradients == 128


class TestWorkspaces:
    """What kernels and libraries take from CUDA's allocator behind the operators."""

    def test_a_gpu_by_its_name_has_two_of_cublas(self) -> None:
        """One of each thread that multiplies: forward's and backward's. The peak is in backward's
        last product, when both are there."""
        anywhere = fr.count("mlp", depth=2, batch=8)
        hopper = fr.count("mlp", depth=2, batch=8, target="H100-80GB")
        assert hopper.memory.peak == anywhere.memory.peak
        assert hopper.memory.peak_allocated - anywhere.memory.peak_allocated == 2 * (32 << 20)

    def test_flash_attention_s_backward_has_sums_of_its_own(self) -> None:
        """Of 256 rows of 64 in each of 4 heads: a number a row, and the query's gradient, fp32."""

        def peak(ledger: fr.Ledger) -> tuple[int, int]:
            return ledger.memory.peak, ledger.memory.peak_allocated

        class Attention(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return functional.scaled_dot_product_attention(x, x, x)

        x = torch.empty(1, 4, 256, 64, dtype=torch.bfloat16, requires_grad=True)
        flash, allocated = peak(fr.count(Attention(), x, loss="sum", input_grad=True))
        inside = 4 * 256 * 4 + 4 * 256 * 64 * 4
        rounded = allocated - flash - inside
        assert 0 <= rounded < 20 * 512

    def test_those_of_unknown_size_are_named(self) -> None:
        ledger = fr.count("cnn", depth=0, batch=1)
        assert "aten.convolution_backward" in ledger.memory.unknown_workspaces
        again = fr.Ledger.from_json(ledger.to_json())
        assert again.memory.unknown_workspaces == ledger.memory.unknown_workspaces
        assert fr.count("cnn", depth=0, batch=1, target="cpu").memory.unknown_workspaces == ()

    def test_a_gpu_that_is_not_known(self) -> None:
        with pytest.raises(UsageError, match="target=H1 should be one of cuda, cpu, A100"):
            fr.count("mlp", target="H1")


class TestUpdate:
    """8 -> 8 without bias: parameters, gradients and each moment take 8·8·4 = 256 B."""

    SIZE = 256

    def update_of(self, optimizer: str) -> Memory:
        model = nn.Linear(8, 8, bias=False)
        options = {"optimizer": optimizer, "optimizer_implementation": "plain"}
        return fr.count(model, torch.randn(2, 8), loss="sum", **options).memory

    @pytest.mark.parametrize(
        ("optimizer", "state"),
        [
            ("sgd", 0),
            ("momentum", SIZE),
            ("adagrad", SIZE + FP32),  # and the number of steps
            ("rmsprop", SIZE + FP32),
            ("adam", 2 * SIZE + FP32),
            ("adamw", 2 * SIZE + FP32),
        ],
    )
    def test_state(self, optimizer: str, state: int) -> None:
        memory = self.update_of(optimizer)
        assert memory.optimizer_state == state
        assert {b.layer for b in memory.blocks if b.category == "optimizer_state"} <= {""}

    def test_the_steady_state_has_the_state_from_the_start(self) -> None:
        memory = self.update_of("adamw")
        assert memory.timeline()["optimizer_state"][0] == 2 * self.SIZE + FP32
        # Beside parameters, gradients and state, the update takes the root of a moment and its
        # quotient: 2 * 256; x of 64 B and the loss are there too.
        fixed = 4 * self.SIZE + FP32 + 64 + FP32
        assert (memory.peak, memory.peak_phase) == (fixed + 2 * self.SIZE, "update")

    def test_the_first_step_makes_it_in_the_update(self) -> None:
        """An update of a large batch: the peak is in forward, where the state is yet to come."""
        model = nn.Linear(8, 8, bias=False)
        memory = fr.count(model, torch.randn(512, 8), loss="sum", optimizer="adamw").memory
        assert memory.peak_phase == "forward"
        assert memory.peak - memory.first_step_peak == 2 * self.SIZE + FP32

    def test_adagrad_makes_it_when_it_is_built(self) -> None:
        model = nn.Linear(8, 8, bias=False)
        memory = fr.count(model, torch.randn(512, 8), loss="sum", optimizer="adagrad").memory
        assert memory.first_step_peak == memory.peak

    def test_a_first_step_of_ones_own(self) -> None:
        model, x = nn.Linear(8, 8, bias=False), torch.randn(2, 8)
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)

        def step() -> None:
            model(x).sum().backward()
            optimizer.step()

        memory = remembered(model, step)
        assert memory.optimizer_state == self.SIZE
        assert memory.timeline()["optimizer_state"][0] == 0
        assert memory.timeline()["optimizer_state"][-1] == self.SIZE


class Chain(nn.Module):
    """Equal layers, some of them checkpointed together, or all of them."""

    def __init__(self, length: int, width: int, segments: int = 0, *, reentrant: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(length)
        )
        self.segments = segments
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.segments:
            return nn.Sequential(*self.layers)(x)
        size = -(-len(self.layers) // self.segments)
        for start in range(0, len(self.layers), size):
            part = nn.Sequential(*self.layers[start : start + size])
            # The state of the random numbers, 5,056 bytes, is made where no recorder sees it.
            x = checkpoint(part, x, use_reentrant=self.reentrant, preserve_rng_state=False)
        return x


class TestCheckpoint:
    UNIT = 64 * 32 * 4
    """Bytes of an activation: 64 rows of 32."""

    def memory_of(self, segments: int, **options: bool) -> Memory:
        model, x = Chain(9, 32, segments, **options), torch.randn(64, 32, requires_grad=True)
        return remembered(model, lambda: model(x).sum().backward())

    def test_only_the_inputs_of_segments_are_kept(self) -> None:
        # Nine outputs of tanh and x, against x and what two of the three segments return.
        assert self.memory_of(0).saved_activations == 10 * self.UNIT
        assert self.memory_of(3).saved_activations == 3 * self.UNIT

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_what_is_recomputed_is_kept_too(self, reentrant: bool) -> None:
        memory = self.memory_of(3, reentrant=reentrant)
        alive = memory.timeline()["saved_activations"]
        (_, forward), (_, backward) = memory.phases()
        assert max(alive[forward.start : forward.stop]) >= 2 * self.UNIT
        # Of the last segment: the outputs of its three layers, beside what the others returned.
        assert max(alive[backward.start : backward.stop]) == 5 * self.UNIT

    def test_takes_less(self) -> None:
        assert self.memory_of(3).peak < self.memory_of(0).peak


class TestTheLedger:
    def test_items_are_attributes(self) -> None:
        memory = fr.count("mlp", batch=2, depth=1, width=8).memory
        assert memory.peak == memory["peak"] > 0
        with pytest.raises(AttributeError, match="no figure of memory is called 'peek'"):
            _ = memory.peek

    def test_every_figure_is_an_int(self) -> None:
        memory = dict(fr.count("mlp", batch=2, depth=1, width=8, optimizer="adamw").memory)
        assert memory.pop("peak_phase") in ("forward", "backward", "update")
        assert {type(figure) for figure in memory.values()} == {int}

    def test_it_is_written_as_a_dict_and_read_again(self) -> None:
        ledger = fr.count("mlp", batch=2, depth=1, width=8)
        assert json.loads(ledger.to_json())["memory"] == dict(ledger.memory)
        again = fr.Ledger.from_json(ledger.to_json())
        assert again.memory.peak == ledger.memory.peak

    def test_a_step_without_operators(self) -> None:
        memory = remembered(nn.Linear(4, 6), lambda: None)
        assert (memory.peak, memory.peak_phase, next(iter(memory.timeline().values()))) == (
            120,
            "forward",
            [120],
        )

    def test_cpu_has_no_segments(self) -> None:
        memory = fr.count("mlp", batch=2, depth=1, width=8, target="cpu").memory
        assert memory.peak <= memory.peak_allocated == memory.peak_reserved < memory.peak + 64 * 50


# -- as really executed ----------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(2, (4, 8)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, 2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).flatten(2))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(10),
    )


EXECUTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4)), (32, 16)),
    "convolutions": (convolutions, (8, 3, 16, 16)),
    "attention": (Attention, (4, 16, 32)),
    "chain": (lambda: Chain(9, 32), (64, 32)),
    "checkpointed": (lambda: Chain(9, 32, 3), (64, 32)),
    "checkpointed, reentrant": (lambda: Chain(9, 32, 3, reentrant=True), (64, 32)),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True),
        (4, 16, 32),
    ),
}


@pytest.mark.parametrize("optimizer", [None, partial(torch.optim.SGD, momentum=0.9), "adamw"])
@pytest.mark.parametrize("name", EXECUTED)
def test_peak_as_executed(name: str, optimizer: Any) -> None:
    """Requested bytes of a second step of two micro-batches, but for temporaries inside kernels and
    numbers that operators turn into tensors."""
    make, shape = EXECUTED[name]
    model, x = make(), torch.randn(shape, requires_grad=True)
    model(x)
    make_update = partial(torch.optim.AdamW, foreach=False) if optimizer == "adamw" else optimizer
    update = make_update(model.parameters()) if make_update else None

    def step() -> None:
        for _ in range(2):
            model(x).square().mean().backward()
        if update is not None:
            update.step()

    def clear() -> None:
        x.grad = None
        model.zero_grad()

    step()
    clear()
    state = update.state.values() if update is not None else ()
    measured = measure_peak(step, [*model.parameters(), *model.buffers(), x, *state])
    clear()
    assert remembered(model, step).peak == pytest.approx(measured.outside_kernels, abs=32)


class Tagger(nn.Module):
    """Words, an LSTM, and a class for each."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 5)
        self.rnn = nn.LSTM(5, 5, batch_first=True, **options)
        self.classes = nn.Linear(5 * (1 + self.rnn.bidirectional), 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.rnn(self.words(x))[0])


@pytest.fixture
def ask_one_dnn() -> Iterator[None]:
    """As if nobody had asked oneDNN before; what is found is forgotten again."""
    onednn_parts_here.cache_clear()
    yield
    onednn_parts_here.cache_clear()


class TestRecurrent:
    """On the CPU, oneDNN's workspace and all."""

    @pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
    def test_peak_as_executed(self, options: dict[str, Any]) -> None:
        model, x = Tagger(**options), torch.randint(0, 11, (3, 4))
        measured = measure_peak(lambda: model(x).sum().backward(), [*model.parameters(), x])
        model.zero_grad()
        counted = fr.count(model, x, loss=torch.sum, target="cpu").memory.peak
        assert counted == measured.outside_kernels
        assert remembered(model, lambda: model(x).sum().backward()).peak == counted

    @torch.no_grad()
    def test_peak_of_inference_as_executed(self, ask_one_dnn: None) -> None:
        """Without autograd there is no workspace."""
        model, x = nn.LSTM(8, 16, 2).eval(), torch.randn(5, 3, 8)
        measured = measure_peak(lambda: model(x), [*model.parameters(), x])
        counted = fr.count(model, x, inference=True, target="cpu").memory.peak
        assert counted == measured.outside_kernels
        assert remembered(model, lambda: model(x)).peak == counted

    @pytest.mark.parametrize("surroundings", [torch.no_grad, torch.inference_mode])
    def test_one_dnn_is_asked_anywhere(
        self, ask_one_dnn: None, surroundings: Callable[[], Any]
    ) -> None:
        expected = onednn_parts_here()
        onednn_parts_here.cache_clear()
        torch.set_default_dtype(torch.float64)
        try:
            with surroundings(), FakeTensorMode(), torch.device("meta"):
                assert onednn_parts_here() == expected
        finally:
            torch.set_default_dtype(torch.float32)

    def test_without_one_dnn(self, ask_one_dnn: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        monkeypatch.setattr(fakes, "ONEDNN_PARTS", 70)
        assert onednn_parts_here() == 70

    def test_the_first_call_is_as_the_others(self) -> None:
        model, x = Tagger(), torch.randint(0, 11, (3, 4))
        for target in ("cpu", "cuda"):
            FakeTensorMode.cache_clear()
            first, second = (fr.count(model, x, loss=torch.sum, target=target) for _ in range(2))
            assert first.rows == second.rows
            assert first.memory == second.memory

    @pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True}], ids=str)
    def test_saved_as_executed(self, options: dict[str, Any]) -> None:
        model, x = nn.LSTM(650, 650, 2, **options), torch.randn(20, 35, 650)
        saved = saved_by_autograd(lambda: model(x), model.parameters())
        ledger = fr.count(model, x, loss=lambda output: output[0].sum(), target="cpu")
        assert ledger.memory.saved_activations == ledger.totals.saved_bytes == saved
        assert ledger.saved_mismatches == []
        if not options and onednn_parts_here() == ONEDNN_PARTS:
            assert saved == 62_925_792  # two workspaces of 28,368,896 among it


SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100}
SMALL |= {"intermediate_size": 128, "batch": 2, "seq": 16}
GPT2 = {"batch": 2, "seq": 16, "n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 100}
OPT = {"batch": 2, "seq": 16, "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
OPT |= {"ffn_dim": 128, "word_embed_proj_dim": 64, "vocab_size": 100}
T5 = {"batch": 2, "seq": 16, "num_layers": 2, "d_model": 64, "d_kv": 16, "d_ff": 128}
T5 |= {"num_heads": 4, "vocab_size": 100}
VIT = {"batch": 2, "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
IMAGE = {"batch": 2, "image": 32}

STEPS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("torchvision:resnet18", IMAGE, {}),
    ("torchvision:resnet18", IMAGE, {"dtype": "float64"}),
    ("torchvision:resnet18", IMAGE, {"checkpoint": "layer*"}),
    ("torchvision:alexnet", {"batch": 2, "image": 64}, {}),
    ("torchvision:squeezenet1_1", IMAGE, {"amp": "bf16"}),
    ("torchvision:mobilenet_v3_small", IMAGE, {}),
    ("torchvision:mnasnet0_5", IMAGE, {}),
    ("torchvision:shufflenet_v2_x0_5", IMAGE, {}),
    ("torchvision:regnet_y_400mf", IMAGE, {}),
    ("torchvision:convnext_tiny", IMAGE, {}),
    ("torchvision:swin_t", IMAGE, {}),
    ("timm:vit_tiny_patch16_224", {"batch": 1}, {"checkpoint": "blocks.*"}),
    ("timm:resmlp_12_224", {"batch": 1}, {}),
    ("timm:mixer_s32_224", {"batch": 1}, {}),
    ("timm:poolformer_s12", IMAGE, {}),
    ("timm:lcnet_050", IMAGE, {}),
    ("timm:lcnet_050", IMAGE, {"amp": "bf16"}),
    ("hf:gpt2", GPT2, {}),
    ("hf:gpt2", GPT2, {"dtype": "float64"}),
    ("hf:gpt2", GPT2, {"dtype": "bfloat16"}),
    ("hf:gpt2", GPT2, {"amp": "bf16"}),
    ("hf:gpt2", GPT2, {"checkpoint": "transformer.h.*"}),
    ("hf:gpt2", GPT2, {"amp": "bf16", "checkpoint": "transformer.h.*"}),
    ("hf:bert", SMALL, {}),
    ("hf:bert", SMALL, {"amp": "bf16"}),
    ("hf:roberta", SMALL, {}),
    ("hf:albert", SMALL, {}),
    ("hf:llama", SMALL | {"num_key_value_heads": 2}, {}),
    ("hf:llama", SMALL | {"num_key_value_heads": 2}, {"amp": "bf16"}),
    ("hf:mistral", SMALL | {"num_key_value_heads": 2}, {"dtype": "bfloat16"}),
    ("hf:qwen2_moe", SMALL | {"num_key_value_heads": 2, "num_experts": 4}, {}),
    ("hf:gpt_neox", SMALL, {}),
    ("hf:opt", OPT, {}),
    ("hf:bloom", {"batch": 2, "seq": 16, "n_layer": 2, "hidden_size": 64, "n_head": 4}, {}),
    ("hf:t5", T5, {}),
    ("hf:mamba", {"batch": 2, "seq": 16, "num_hidden_layers": 2, "hidden_size": 64}, {}),
    ("hf:vit", VIT, {}),
    ("hf:distilbert", {"batch": 2, "seq": 16, "n_layers": 2, "dim": 64, "n_heads": 4}, {}),
    ("hf:electra", SMALL, {}),
    ("hf:phi", SMALL, {}),
]
BATCHED = [
    step
    for step in STEPS
    if step[0] in ("torchvision:alexnet", "torchvision:resnet18", "hf:gpt2", "hf:bert", "hf:llama")
    and "dtype" not in step[2]
]


def named(step: tuple[str, dict[str, Any], dict[str, Any]]) -> str:
    model, _, options = step
    return " ".join([model, *(f"{key}={value}" for key, value in options.items())])


def executed(
    model: str,
    settings: dict[str, Any],
    *,
    dtype: str | None = None,
    amp: str | None = None,
    checkpoint: str = "",
) -> int:
    """The bytes that autograd's hooks see in a real forward."""
    torch.manual_seed(0)
    example = load(model, settings, dtype=dtype, real=True)
    for name, module in example.module.named_modules():
        if checkpoint and fnmatch(name, checkpoint) and name.count(".") == checkpoint.count("."):
            again = partial(torch.utils.checkpoint.checkpoint, module.forward, use_reentrant=False)
            module.forward = again

    def forward() -> None:
        with torch.autocast("cpu", parse_dtype(amp or "bf16"), enabled=amp is not None):
            loss_of(example.module(*example.args, **example.kwargs))

    return saved_by_autograd(forward, example.module.parameters())


@pytest.mark.parametrize("step", STEPS, ids=map(named, STEPS))
def test_saved_as_executed(step: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    model, settings, options = step
    ledger = fr.count(model, **settings, **options, target="cpu")
    saved = executed(model, settings, **options)
    assert (ledger.memory.saved_activations, ledger.totals.saved_bytes) == (saved, saved)
    # Training takes more than inference, always.
    assert ledger.memory.peak > ledger.memory.inference_peak > ledger.memory.parameters


@pytest.mark.parametrize("step", BATCHED, ids=map(named, BATCHED))
def test_saved_is_affine_in_the_batch(step: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    model, settings, options = step

    def saved(batch: int) -> int:
        ledger = fr.count(model, **settings | {"batch": batch}, **options)
        return int(ledger.memory["saved_activations"])

    assert saved(6) - saved(3) == 3 * (saved(3) - saved(2)) > 0
