"""Random command lines: verbs, MODELs, KEYs, options and broken files, all in one process. None may
end in a traceback, in the name of an exception without a sentence, or leave a trace.

``python -m tests.cli.random_lines 3000`` runs so many of them; ``make test-fuzz`` does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from flopratio.cli import main
from flopratio.hardware import DeviceProfile
from flopratio.verbs.count import count

FILES = {
    "roofs.json": DeviceProfile("Abacus", "cpu", {"float32": 1e9}, 1e9, 1e-6).to_json(),
    "good.py": """
import torch
from torch import nn
from torch.nn import functional

def linear(width=8, bias=True):
    return nn.Linear(width, 3, bias=bias)

def two_hidden(input=20, hidden=6):
    return nn.Sequential(nn.Linear(input, hidden), nn.ReLU(), nn.Linear(hidden, 3))

def with_inputs(batch=2, seq=3):
    return nn.Linear(8, 3), torch.randn(batch, seq, 8)

def fixed():
    return nn.Linear(8, 3), {"input": torch.randn(4, 8)}

def image(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Flatten(2))

def embedding(vocabulary=10):
    return nn.Sequential(nn.Embedding(vocabulary, 4), nn.Linear(4, vocabulary))

def lazy():
    return nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()), torch.randn(3, 5)

def attention():
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 4, 8)

def images():
    class Images(nn.Conv2d):
        def forward(self, images):
            return sum(super(Images, self).forward(image[None]).sum() for image in images)
    return Images(3, 2, 3), [torch.randn(3, 8, 8), torch.randn(3, 9, 8)]

def normed():
    return nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))

class Drops(nn.Linear):
    def forward(self, x):
        return super().forward(x) if torch.rand([]) < 0.5 else x

def drops():
    return Drops(4, 4)

anything = lambda **keys: nn.Linear(4, 4)
not_a_factory = 3
built = nn.Linear(2, 2)
""",
    "bad.py": """
import sys
import functools
import torch
from torch import nn

class Silent(Exception):
    def __str__(self):
        return ""

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")

def raises(error):
    def make():
        raise error
    return make

silent, unspeakable = raises(Silent()), raises(Unspeakable())
key, nothing, stop = raises(KeyError("x")), raises(AssertionError()), raises(StopIteration())
long, lines = raises(RuntimeError("long " * 1000)), raises(RuntimeError("two\\nlines\\n"))
memory, usage = raises(MemoryError()), raises(SystemExit("usage"))
leaves, leaves_well = raises(SystemExit(3)), raises(SystemExit())

def endless():
    return endless()

def number(): return 3
def none(): return None
def nowhere(a, b): return nn.Linear(a, b)
def positional(a, /): return nn.Linear(a, a)
def pair(): return nn.Linear(2, 2), "text"
def triple(): return nn.Linear(2, 2), torch.ones(2, 2), None
def empty(): return nn.Linear(2, 2), torch.ones(0, 2)
def inputs_none(): return nn.Linear(2, 2), None
def no_inputs(): return nn.Linear(2, 2), ()
def empty_module(): return nn.Module()
def identity(): return nn.Identity(), torch.ones(2, 2)
def without_parameters(): return nn.Sequential(nn.ReLU()), torch.ones(2, 2)
def frozen(): return nn.Linear(2, 2).requires_grad_(False)
def generator(): yield nn.Linear(2, 2)
def kind(): return nn.Linear
def misfit(): return nn.Linear(4, 4), torch.ones(2, 5)
def bilinear(): return nn.Bilinear(2, 2, 2)
def compiled(): return torch.compile(nn.Linear(2, 2))
def scripted(): return torch.jit.script(nn.Linear(2, 2))
def integers(): return nn.Linear(2, 2), torch.ones(2, 2, dtype=torch.int64)
def strings(): return nn.Linear(2, 2), {"input": "text"}
partial = functools.partial(nn.Linear, 4)

def forward(result):
    class Forward(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
        def forward(self, x):
            return result(self, x)
    return lambda: (Forward(), torch.randn(2, 4))

def throw(error):
    raise error

returns_none = forward(lambda self, x: None)
returns_text = forward(lambda self, x: "text")
returns_number = forward(lambda self, x: 3)
returns_nothing = forward(lambda self, x: [])
returns_dict = forward(lambda self, x: {"a": self.layer(x), "b": None})
returns_dict_of_text = forward(lambda self, x: {"a": "b"})
returns_tuple = forward(lambda self, x: (None, self.layer(x)))
returns_integers = forward(lambda self, x: self.layer(x).argmax(1))
returns_complex = forward(lambda self, x: torch.fft.fft(self.layer(x)))
returns_detached = forward(lambda self, x: self.layer(x).detach())
returns_scalar = forward(lambda self, x: self.layer(x).sum())
returns_vector = forward(lambda self, x: self.layer(x).sum(1))
returns_input = forward(lambda self, x: x)
reads = forward(lambda self, x: self.layer(x) if self.layer(x).sum() > 0 else x)
reads_item = forward(lambda self, x: self.layer(x) * self.layer(x).sum().item())
reads_numpy = forward(lambda self, x: torch.tensor(self.layer(x).detach().numpy()))
selects = forward(lambda self, x: self.layer(x)[self.layer(x) > 0])
to_cuda = forward(lambda self, x: self.layer.cuda()(x.cuda()))
to_nowhere = forward(lambda self, x: self.layer(x.to("nowhere")))
silent_forward = forward(lambda self, x: throw(Silent()))
unspeakable_forward = forward(lambda self, x: throw(Unspeakable()))
key_forward = forward(lambda self, x: {}[x.shape])
asserting = forward(lambda self, x: throw(AssertionError()))
leaving = forward(lambda self, x: sys.exit(1))
endless_forward = forward(lambda self, x: self(x))
attribute = forward(lambda self, x: self.laier(x))
reshapes = forward(lambda self, x: self.layer(x).reshape(7, -1))
in_place = forward(lambda self, x: self.layer.weight.add_(1))
adds = forward(lambda self, x: setattr(self, f"extra{len(list(self.children()))}",
                                       nn.Linear(4, 4)) or self.layer(x))
calls_backward = forward(lambda self, x: self.layer(x).sum().backward())

class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, grad):
        raise Silent()

fails_backward = forward(lambda self, x: Backward.apply(self.layer(x)))

class Parameters(nn.Sequential):
    def parameters(self):
        raise KeyError("none")

def parameters(): return Parameters(nn.Linear(4, 4))

class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        raise Silent()
    def __getstate__(self):
        raise Silent()

def uncopied(): return Uncopied(4, 4)
""",
    "syntax.py": "def make(:\n    return 3",
    "empty.py": "",
    "leaves.py": "import sys\nsys.exit(3)",
    "parses.py": (
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--data', required=True)\nparser.parse_args([])"
    ),
    "imports.py": "import there_is_no_such_module",
    "relative.py": "from . import good\nfrom .good import linear as make",
    "vision.py": (
        "import torchvision\ndef make():\n    return torchvision.models.squeezenet1_1()\n"
        "def timm():\n    import timm\n    return timm.create_model('resnet10t')"
    ),
    "half_vision.py": "import torchvision\nimport timm\nraise RuntimeError('torchvision::nms')",
    "sibling.py": "from good import linear as make",
    "timm.py": "from torch import nn\ndef make():\n    return nn.Linear(2, 2)",
    "torch.py": "raise RuntimeError('not torch')",
    "raises.py": "raise KeyError('x')",
    "raises_nothing.py": "assert not 3",
    "bytes.py": b"\xff\xfe\x00",
    "text.txt": "hello",
    "config.json": '{"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2}',
    "broken.json": '{"model_type": ',
    "list.json": "[]",
    **{
        f"cases{number}.toml": text
        for number, text in enumerate(
            (
                '[cases]\nsmall = "mlp depth=1 width=4 batch=2"',
                '[tool.flopratio.cases.small]\nmodel = "good.py:linear"\nbatch = 2\n'
                '[tool.flopratio.cases.small.expect]\nratio = ">= 1"\npeak = "<= 1 B"\n'
                '[tool.flopratio.cases.other]\nmodel = "cnn"\nimage = 9\ndepth = 1\nbatch = 2',
                '[cases]\nsmall = "good.py:linear batch=2 --freeze nothing"',
                '[cases]\nsmall = "bad.py:silent_forward"',
                '[cases]\nsmall = "bad.py:misfit"\nother = "mlp depth=1 batch=2"',
                '[cases]\nsmall = "mlp --bogus"',
                "[cases]\nsmall = 3",
                "[cases.small]\nmodel = 3",
                '[cases.small]\nmodel = "mlp"\nbatch = [1, 2]',
                '[cases.small]\nmodel = "mlp batch=2"\ndtype = 3',
                '[cases.small]\nmodel = "mlp batch=2"\nexpect = { ratoi = 2 }',
                '[cases.small]\nmodel = "mlp depth=1 batch=2"\n'
                'expect = { ratio = "< 0.5 * other", "forward[nosuch]" = 1 }',
                'time_tolerance = "wide"\n[cases]\nsmall = "mlp"',
                "cases = 3",
                "[cases",
                "",
            )
        )
    },
}

LEDGER = "ledger.json"

LEDGERS: dict[str, dict[str, Any]] = {
    "newer.json": {"schema": "flopratio.ledger/9"},
    "anything.json": {"schema": "anything/1"},
    "no_layers.json": {"layers": [], "rows": []},
    "no_rows.json": {"rows": []},
    "half.json": {"memory": {}, "flops": 3},
    "html.json": {"model": "<script>alert(1)</script>"},
    "command.json": {"model": "=cmd()", "settings": {"=1+1": "@SUM(A1)"}},
    "nulls.json": dict.fromkeys(("model", "settings", "layers", "memory", "versions"), None),
}
"""Saved steps that aren't what they should be -> what is other in them than in :data:`LEDGER`."""

TINY = {  # a MODEL -> KEYs that make it small
    "mlp": ["depth=1", "width=4", "input=3", "classes=2", "batch=2"],
    "cnn": ["depth=1", "image=9", "batch=2"],
    "convnet": ["image=9", "batch=1"],
    "linearnet": ["input=3", "batch=1"],
    "onenet": ["batch=1"],
    "torchvision:squeezenet1_1": ["image=64", "batch=1"],
    "timm:resnet10t": ["image=64", "batch=1"],
    "hf:gpt2": ["n_layer=1", "n_embd=16", "n_head=2", "vocab_size=50", "seq=8", "batch=1"],
    "hf:bert": ["hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "seq=8"],
    "hf:t5": ["d_model=16", "num_layers=1", "num_heads=2", "d_ff=16", "seq=8", "vocab_size=50"],
}

MODELS = (
    "",
    ":",
    "::",
    "mpl",
    "MLP",
    "resnet18",
    "torchvision:",
    "torchvision:resnet81",
    "torchvision:resnet18:x",
    "timm:",
    "timm:nonesuch",
    "hf:",
    "hf:gtp2",
    "hf:config.json",
    "hf:broken.json",
    "hf:list.json",
    "hf:.",
    "torch.nn:Linear",
    "torch.nn:Nonesuch",
    "torch.nn:functional",
    "torch.nn.functional:relu",
    "torch:ones",
    "nosuch.module:make",
    "os:getcwd",
    "os:_exit_",
    "good:linear",
    "good.py",
    "good.py:",
    "empty.py",
    "leaves.py",
    "text.txt:make",
    ".:make",
    "..py:make",
    "nosuch.py:make",
    "😀",
    "-",
)

KEYS: dict[str, tuple[str, ...]] = {
    "batch": ("1", "2", "5"),
    "seq": ("1", "8"),
    "image": ("9", "32", "16x24"),
    "input": ("3", "4x8", "2x3x16x16", "4x8:int64", "2x4,2x4", "6x4"),
    "depth": ("0", "1", "2"),
    "width": ("4", "8"),
    "classes": ("2", "3"),
    "bias": ("true", "false"),
    "activation": ("relu", "gelu", "tanh"),
    "loss": ("mse", "sum", "cross_entropy"),
    "shared": ("true", "false"),
    "hidden": ("3",),
    "channels": ("1", "3"),
    "vocabulary": ("5",),
    "num_classes": ("7",),
    "in_features": ("4",),
    "n_layer": ("1", "2"),
    "head": ("encoder", "causal-lm", "nonesuch"),
    "frames": ("4",),
    **dict.fromkeys(("bathc", "optimizer", "model", "self", "x.y", "memory", "kwargs"), ("2",)),
    **dict.fromkeys(("", "1x", "a b", "class", "inference", "hidden_size"), ("2",)),
}
"""KEY -> values that it may have. Whether a MODEL has the KEY is another matter."""

JUNK = (
    *("1", "2", "3", "8", "7", "0", "-1", "1.5", "1e3", "nan", "inf", "-0", "+2", "true", "False"),
    *(
        "none",
        "relu",
        "tanh",
        "mse",
        "sum",
        "cross_entropy",
        "auto",
        "abc",
        "",
        " ",
        ",",
        "1,",
        "x",
    ),
    *(
        "2x8",
        "2x3x16x16",
        "8x0",
        "0x8",
        "-1x2",
        "2x",
        "4x8:int64",
        "4x8:nosuch",
        "4x8,4x8",
        "1x1x1",
    ),
    *("1,2", "1..3", "3..1", "1..8*2", "1..8*1", "0..4+2", "1..", "..2", "1..99999999999"),
    *("99999999999", "9223372036854775808", "1" + "0" * 40, "😀", "a=b", "'", "\\", "[1,2]", "\n"),
)

SMALL_ONLY = ("depth", "n_layer", "num_hidden_layers", "frames", "channels")
"""KEYs whose large values would really be built."""

OPTIONS: dict[str, tuple[str | None, ...]] = {
    "--loss": ("auto", "cross_entropy", "mse", "sum", "hinge", ""),
    "--optimizer": ("none", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "sdg"),
    "--optimizer-implementation": ("plain", "foreach", "fused", "quick"),
    "--dtype": ("fp32", "bf16", "float64", "float16", "complex64", "float8_e4m3fn", "int64", "f"),
    "--amp": ("bf16", "fp16", "fp8"),
    "--freeze": ("first*", "*", "nothing", "", "[", "0.weight", "hidden.1"),
    "--checkpoint": ("auto", "auto:2", "auto:0", "auto:x", "*", "first*", "nothing", "", "["),
    "--accumulate": ("1", "3", "0", "-1", "x"),
    "--attention": ("flash", "efficient", "math", "flush"),
    "--causal": ("full", "half", "third"),
    "--input-grad": (None,),
    "--inference": (None,),
    "--target": ("cuda", "cpu", "H100-80GB", "H100", "tpu"),
}
VERBS: dict[str, dict[str, tuple[str | None, ...]]] = {
    "count": {
        **OPTIONS,
        "--by": ("layer", "type", "op", "phase", "autograd", "lair"),
        "--depth": ("0", "1", "-1", "x"),
        "--top": ("0", "3", "-1"),
        "--sort": ("forward", "name", "saved_bytes", "foo"),
        "--macs": (None,),
        "--exact": (None,),
        "--strict": (None,),
        "--json": (None,),
        "-o": ("new.json", "new.csv", "new.md", "new.html", "new.txt", "good.py", "no/such/a.json"),
        "--force": (None,),
        "--timeline": ("new.jpg", "no/such/a.png"),
        "--memory-trace": ("trace.json", "trace.pickle", "trace.txt"),
        "--roofline": ("roofs.json", "h20", "cuda:7", "tpu", "list.json", "no/such.json", ""),
        "-q": (None,),
        "-v": (None,),
        "--bogus": (None,),
    },
    "fit": {
        **OPTIONS,
        "--memory": ("20kB", "100KiB", "1MB", "0", "1", "x", "-1GB", "10B", "1e3MB", "5 MiB"),
        "--key": ("batch", "seq", "depth", "width", "nosuch", "loss", "", "memory", "input"),
        "--reserve": ("0", "1kB", "1GB", "x"),
        "--figure": ("peak", "peak_allocated", "peak_reserved", "top"),
        "--levers": (None,),
        "--json": (None,),
        "-o": ("fit.json", "fit.csv", "fit.txt"),
        "-v": (None,),
    },
    "profile": {
        **OPTIONS,
        "--device": ("cpu", "cuda", "cuda:7", "mps", "gpu", ""),
        "--repeats": ("1", "4", "0", "-1", "x"),
        "--budget": ("0.1", "0", "-1", "x", "nan"),
        "--roofs": ("good.py", "text.txt", "no.json", "h200", ""),
        "--by": ("layer", "type", "op", "phase", "autograd"),
        "--depth": ("0", "1", "-1"),
        "--top": ("0", "3", "-1"),
        "--sort": ("time", "ran", "name", "foo"),
        "--json": (None,),
        "-o": ("new.json", "new.csv", "new.md", "new.html", "new.txt", "good.py", "no/such/a.json"),
        "--plots": ("good.py", "new.png"),
        "--trace": ("new.json", "new.txt", "good.py", "no/such/a.json"),
        "--force": (None,),
        "-q": (None,),
        "-v": (None,),
    },
    "sweep": {
        **{key: OPTIONS[key] for key in ("--loss", "--optimizer", "--dtype", "--freeze")},
        "--input-grad": (None,),
        "--amp": ("bf16",),
        "--measure": ("none", "cuda", "tpu"),
        "--json": (None,),
        "--fresh": (None,),
        "-q": (None,),
    },
    "graph": {
        **OPTIONS,
        "--depth": ("0", "1", "9", "-1", "x"),
        "--operators": (None,),
        "--exact": (None,),
        "--json": (None,),
        "-o": ("new.svg", "new.dot", "new.mmd", "new.png", "good.py", "no/such/a.svg"),
        "--force": (None,),
        "-q": (None,),
    },
    "formula": {
        **{key: OPTIONS[key] for key in ("--loss", "--optimizer", "--freeze", "--dtype", "--amp")},
        "--inference": (None,),
        "--by": ("total", "type", "layer", "op"),
        "--verify": ("1", "0", "x"),
        "--solve": ("forward=1e6", "forward = 1MFLOP", "peak=1MiB", "peak=1", "nosuch=3", "x", ""),
        "--for": ("batch", "width", "nosuch"),
        "--latex": (None,),
        "--python": (None,),
        "--json": (None,),
        "-q": (None,),
    },
    "report": {
        "-o": ("new.html", "new.md", "new.HTML", "new.pdf", "good.py", LEDGER, "no/such/a.html"),
        "--force": (None,),
        "-q": (None,),
        "--bogus": (None,),
    },
    "check": {
        "--update": (None,),
        "--case": ("small", "smal", "other", ""),
        "--format": ("table", "github", "junit", "xml"),
        "--json": (None,),
        "-q": (None,),
        "-v": (None,),
        "--bogus": (None,),
    },
    "diff": {
        "--top": ("0", "1", "-1"),
        "--format": ("table", "github", "junit"),
        "--json": (None,),
        "-o": ("new.json", "new.csv", "new.md", "new.html", "new.txt", "good.py", "no/such/a.json"),
        "--force": (None,),
        "-q": (None,),
        "--optimizer": ("adam",),
    },
}


def write_files(directory: Path) -> None:
    """The files that lines name, in the directory where they run."""
    for name, text in FILES.items():
        path = directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ledger = count("mlp", depth=1, width=4, input=3, classes=2, batch=2)
    (directory / LEDGER).write_text(ledger.to_json(), encoding="utf-8")
    for name, other in LEDGERS.items():
        (directory / name).write_text(json.dumps({**json.loads(ledger.to_json()), **other}))


def factories(directory: Path) -> list[str]:
    """Every MODEL in the files, by the names at the start of their lines."""
    names = [
        f"{path.name}:{name}"
        for path in sorted(directory.glob("*.py"))
        for line in path.read_text(errors="replace").splitlines()
        for name in re.findall(r"^(?:def |class )?([a-z]\w*)(?:\(| = |, )", line)
    ]
    others = (path.name for path in sorted(directory.glob("*.py")))
    return [*dict.fromkeys(names), *(f"{name}:make" for name in others)]


def random_lines(seed: int, directory: Path) -> Iterator[list[str]]:
    """Command lines without end, the same for a seed."""
    draw = random.Random(seed)
    own = factories(directory)
    others = sorted(path.name for path in directory.iterdir())
    often = {
        "count": 60,
        "fit": 14,
        "profile": 4,
        "sweep": 8,
        "check": 6,
        "diff": 6,
        "graph": 6,
        "report": 6,
        "formula": 2,
        "": 2,
    }
    while True:
        verb = draw.choices([*often], [*often.values()])[0]
        if not verb:
            words = ("", "cuont", "mlp", "good.py:linear", "--bogus", "--version", "fit--", "😀")
            yield [draw.choice(words), *draw.sample(MODELS, draw.randrange(2))]
            continue
        options = _options(draw, VERBS[verb])
        if verb == "check":
            # It knows no KEY, and no MODEL.
            cases = [name for name in others if name.endswith(".toml")]
            file = draw.choice(cases if draw.random() < 0.9 else others)
            yield [verb, *([file] if draw.random() < 0.95 else []), *options]
            continue
        if verb == "diff":
            sides = [_side(draw, own, others) for _ in range(draw.choice([2] * 18 + [1, 3]))]
            yield [verb, *sides, *options]
            continue
        if verb == "report":
            saved = [LEDGER, LEDGER, *LEDGERS]
            files = draw.choices(saved, k=draw.choice([0, 1, 1, 1, 2, 2, 3]))
            if draw.random() < 0.1:
                files.append(draw.choice(others))
            target = [] if "-o" in options or draw.random() < 0.1 else ["-o", "new.html"]
            yield [verb, *files, *options, *target]
            continue
        named, keys = _step(draw, verb, own)
        if verb == "formula":
            # What it is in are names alone; it traces dozens of steps, and keeps what it found.
            free = draw.choice([["batch"], ["batch"], ["batch", "width"], ["nosuch"], ["b c"], []])
            keys = [key for key in keys if key.partition("=")[0] not in free]
            if "--solve" in options and "--for" not in options and draw.random() < 0.8:
                options += ["--for", "batch"]
            yield [verb, *named, *free, *keys, *options, "--no-cache"]
            continue
        if verb == "profile" and "--roofs" not in options:
            options += ["--roofs", "roofs.json", "--budget", "0.05"]
        if verb == "fit" and "--memory" not in options and draw.random() < 0.9:
            options += ["--memory", draw.choice(["20kB", "1MB"])]
        if verb == "sweep":
            # A sweep that runs draws its pictures, which takes seconds; without a MODEL and sizes
            # it would run all of the default grids.
            options += ["--measure", "none", "-o", draw.choice(["good.py", "out/x", "text.txt"])]
            keys = keys if named else ["depth=0", "batch=1"]
        yield [verb, *named, *keys, *options]


def _step(draw: random.Random, verb: str, own: list[str]) -> tuple[list[str], list[str]]:
    """MODEL, seldom none, and KEYs."""
    model = draw.choice([*TINY, *TINY, *own, *own, *MODELS])
    if verb != "sweep" and draw.random() < 0.4:
        model = draw.choice([*TINY, *(name for name in own if name.startswith("good.py"))])
    if verb == "profile":
        model = draw.choice([*TINY])  # it is really built, and really run
    if verb == "formula":
        small = ["mlp", "mlp", "linearnet", "good.py:linear", "good.py:two_hidden"]
        model = draw.choice([*small, draw.choice(own), draw.choice(MODELS)])
    keys = list(TINY.get(model, []))
    for _ in range(draw.choice([0, 0, 0, 0, 1, 1, 2])):
        key = draw.choice([*KEYS])
        value = draw.choice(KEYS[key] if draw.random() < 0.6 else JUNK)
        if key in SMALL_ONLY and re.search(r"\d{3}", value):
            value = "2"
        keys = [other for other in keys if other.partition("=")[0] != key]
        keys.append(f"{key}={value}" if draw.random() < 0.97 else key)
    return [model] if draw.random() < 0.97 else [], keys


def _options(draw: random.Random, known: dict[str, tuple[str | None, ...]]) -> list[str]:
    options: list[str] = []
    for name in draw.sample([*known], draw.choice([0, 0, 1, 1, 2, 3])):
        value = draw.choice(known[name])
        options += [name] if value is None else [name, value]
    return options


def _side(draw: random.Random, own: list[str], files: list[str]) -> str:
    """What ``diff`` compares: a step in one text, or a file."""
    if draw.random() < 0.3:
        return draw.choice([LEDGER, LEDGER, "mlp '", *files])
    named, keys = _step(draw, "diff", own)
    return shlex.join([*named, *keys, *_options(draw, OPTIONS)])


ANCHORS = (
    ["count", "mlp", "depth=2", "width=4", "batch=2", "--json"],
    ["count", "good.py:attention", "--optimizer", "adamw", "--json"],
    ["count", "good.py:drops", "--json"],
    ["count", "good.py:lazy", "--json"],
    ["count", "torchvision:squeezenet1_1", "image=64", "batch=1", "--json"],
    ["count", "vision.py:make", "image=64", "batch=1", "--json"],
    ["count", "timm:resnet10t", "image=64", "batch=1", "--json"],
    ["count", "hf:gpt2", *TINY["hf:gpt2"], "--inference", "--json"],
)
"""Lines that give the same document whatever ran before."""


def run(line: list[str]) -> tuple[int, str, str]:
    """The exit code of a line, and what it wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line)
    return code, out.getvalue(), err.getvalue()


def state() -> dict[str, Any]:
    """What a line may not change."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "random": random.getstate(),
        "torch random": torch.get_rng_state().tolist(),
        "directory": os.getcwd(),
        "path": list(sys.path),
        "finders": list(sys.meta_path),
        "call": torch.nn.Module.__call__,
        "apply": torch.nn.Module._apply,
        "copy": torch.Tensor.__deepcopy__,
        "warnings": warnings.showwarning,
    }


BARE = re.compile(
    r"^flopratio: (\w+\.)*\w*(Error|Exception|Exit|Interrupt|Iteration)\b|--debug shows"
)
"""An exception of ours without a sentence."""


def problem(line: list[str]) -> str:
    """What is wrong with the end of a line; empty if nothing is."""
    before = state()
    try:
        code, out, err = run(line)
    except BaseException:
        return traceback.format_exc()
    changed = [name for name, value in state().items() if value != before[name]]
    if changed:
        return f"it leaves other {', '.join(changed)}"
    lines = err.splitlines()
    if "Traceback" in out + err:
        return f"a traceback: {err}"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if code == 2:
        if out:
            return f"it printed before it failed: {out[:200]}"
        told = [text for text in lines if text.startswith("flopratio: ")]
        if len(told) != 1 or (told[0] != lines[-1]):
            return f"not one sentence: {err}"
        if BARE.search(told[0]):
            return f"a bare exception: {told[0]}"
        if len(told[0]) > 1500:
            return f"{len(told[0]):,} characters: {told[0][:300]} ..."
    if code == 0 and "--json" in line and "-o" not in line and line[:1] != ["sweep"]:
        try:
            json.loads(out)
        except ValueError:
            return f"no JSON: {out[:200]}"
    return ""


def failures(
    seed: int,
    count: int,
    anchors: Sequence[list[str]] = ANCHORS,
    progress: Callable[[int, list[str]], None] = lambda number, line: None,
) -> list[str]:
    """Run lines in a directory of their own, in this process; those that end badly, and how."""
    home, found = Path.cwd(), []
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            directory = Path(name)
            write_files(directory)
            documents = [run(line) for line in anchors]
            found += [
                f"{shlex.join(line)}\n  {err or code}"
                for line, (code, _, err) in zip(anchors, documents, strict=True)
                if code
            ]
            for number, line in enumerate(random_lines(seed, directory)):
                if number == count:
                    break
                progress(number, line)
                said = problem(line)
                if said:
                    found.append(f"{shlex.join(line)}\n  {said}")
                for leftover in directory.glob("new.*"):
                    leftover.unlink()
            for line, document in zip(anchors, documents, strict=True):
                if run(line) != document:
                    found.append(f"{shlex.join(line)}\n  other than before all the others")
        finally:
            os.chdir(home)
    return found


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started = time.monotonic()

    def show(number: int, line: list[str]) -> None:
        if number % 100 == 0:
            print(f"{number} lines, {time.monotonic() - started:.0f} s", file=sys.stderr)

    wrong = failures(chosen, wanted, progress=show)
    print(*wrong, f"{len(wrong)} of {wanted} random command lines end badly", sep="\n")
    sys.exit(bool(wrong))
