"""Harmful and harmless edits of a model: the former are caught, in the layers that they are of and
in no others; of the latter nothing is told."""

import pytest
import torch

from flopratio.report.difference import headline, sentences
from flopratio.text.patterns import without_numbers
from flopratio.verbs.diff import difference
from tests.verbs.edits import BATCH, Edit, original, snapshot

BLOCK = {
    "norm1",
    "attention",
    "attention.qkv",
    "attention.out",
    "norm2",
    "up",
    "activation",
    "down",
}
BLOCKS = frozenset({"blocks.*", *(f"blocks.*.{name}" for name in BLOCK)})

ALL = frozenset({"", "stem", *BLOCKS, "first", "second", "gate", "norm", "head"})
ATTENTION = {"blocks.*.attention", "blocks.*.attention.out"}

TRAINED = frozenset(
    {"stem", "first", "second", "gate", "norm", "head"}
    | {f"blocks.*.{name}" for name in BLOCK - {"attention", "activation"}}
)
"""The layers that hold parameters."""

BF16 = {"dtype": "bfloat16"}

FUSED = "mixed = F.scaled_dot_product_attention(q, k, v)"
UNFUSED = "mixed = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1) @ v"
GATE = "x = x * torch.sigmoid(self.gate(x))"
CHAIN = "x = self.second(self.first(x))"
HEAD = "self.head = nn.Linear(width, 5)"
FIRST = "self.first = nn.Linear(width, width)"
SECOND = FIRST.replace("first", "second")
EXTRA = f"{HEAD}\n        self.extra = nn.Linear(width, 5)"
TIED = f"{HEAD}\n        self.second.weight = self.first.weight"


def edit(layers, lines=(), before=(), after=(), before_lines=()) -> Edit:
    return Edit(dict(lines), dict(before), dict(after), frozenset(layers), dict(before_lines))


HARMFUL = {
    "a branch is detached": edit({"gate"}, {GATE: GATE.replace("gate(x)", "gate(x.detach())")}),
    # Most is kept when the trunk has run, whose graph is then let go: so of what follows nothing
    # is kept at that moment.
    "the trunk is detached": edit(ALL - {"blocks.*"}, {CHAIN: f"{CHAIN}.detach()"}),
    "a layer without a graph": edit(
        {"gate", ""},
        {
            GATE: "with torch.no_grad():\n            gate = self.gate(x)\n"
            "        x = x * torch.sigmoid(gate)"
        },
    ),
    # The product keeps its operands itself.
    "the wrong layer is frozen": edit(
        {"gate", "head", ""}, before={"freeze": "head"}, after={"freeze": "gate"}
    ),
    "a weight does not train": edit(
        {"first"}, {HEAD: f"{HEAD}\n        self.first.weight.requires_grad_(False)"}
    ),
    # The fused kernel keeps the output that the projection keeps else.
    "fused attention is lost": edit(ATTENTION, {FUSED: UNFUSED}),
    "another attention kernel": edit(ATTENTION, after={"attention": "math"}),
    "more and smaller heads": edit(ATTENTION, {"heads=2": "heads=4"}),
    "a width is doubled": edit(
        {"blocks.*.up", "blocks.*.activation", "blocks.*.down"},
        {
            "nn.Linear(width, 2 * width)": "nn.Linear(width, 4 * width)",
            "nn.Linear(2 * width, width)": "nn.Linear(4 * width, width)",
        },
    ),
    "the model is wider by a head": edit(ALL, {"width=8, heads=2": "width=12, heads=3"}),
    "checkpointing is dropped": edit({*BLOCKS, "stem"}, before={"checkpoint": "blocks.*"}),
    "float32 for bfloat16": edit(ALL - {"blocks.*"}, before=BF16),
    "a product in float32": edit(
        {""}, {GATE: "x = (x * torch.sigmoid(self.gate(x)).float()).to(x.dtype)"}, BF16, BF16
    ),
    "autocast is lost": edit(
        ALL - {"blocks.*", "blocks.*.norm1", "blocks.*.norm2", "norm"}, before={"amp": "bf16"}
    ),
    "an input that needs a gradient": edit({"stem"}, after={"input_grad": True}),
    "an unused head": edit({"extra"}, {HEAD: EXTRA}),
    "a head whose output is dropped": edit(
        {"extra"}, {HEAD: EXTRA, CHAIN: f"{CHAIN}\n        self.extra(x)"}
    ),
    "Adam for SGD": edit(TRAINED, before={"optimizer": "sgd"}, after={"optimizer": "adam"}),
    # The one gradient is summed where the weight is first.
    "weights are tied": edit({"first", "second"}, {HEAD: TIED}),
    "weights are untied": edit({"first", "second"}, before_lines={HEAD: TIED}),
    "two layers of equal cost are swapped": edit(
        {"second"}, {CHAIN: "x = self.first(self.second(x))"}
    ),
    "a bias is lost": edit(
        {"gate"},
        {"self.gate = nn.Linear(width, width)": "self.gate = nn.Linear(width, width, bias=False)"},
    ),
    "another activation": edit({"blocks.*.activation"}, {"nn.GELU()": "nn.SiLU()"}),
    # Two gradients of the residual now meet in the product's input.
    "a norm is forgotten": edit(
        {"blocks.*.norm2", "blocks.*.up"}, {"self.up(self.norm2(x))": "self.up(x)"}
    ),
    # The gradients of the residual meet in another layer, as they are ready in another order.
    "dropout in every block": edit(
        {"blocks.*", "blocks.*.norm2"},
        {"return x + self.down(": "return F.dropout(x, 0.1, self.training) + self.down("},
    ),
    "a residual is forgotten": edit(
        {"blocks.*", "blocks.*.norm1"}, {"x = x + self.attention": "x = self.attention"}
    ),
    "a layer runs twice": edit({"first"}, {CHAIN: "x = self.second(self.first(self.first(x)))"}),
    "one block more": edit(BLOCKS, {"depth=2": "depth=3"}),
    "one block less": edit(BLOCKS, {"depth=2": "depth=1"}),
    "two micro-batches": edit({*ALL, "loss"}, after={"accumulate": 2}),
    "a layer is renamed": edit(
        {"predict"}, {HEAD: HEAD.replace("head", "predict"), "self.head(self": "self.predict(self"}
    ),
}

HARMLESS = {
    "renamed variables": {
        "mixed = F": "attended = F",
        "mixed.transpose": "attended.transpose",
    },
    "a renamed argument": {
        "    def forward(self, x):\n        x = self.stem(x)": "    def forward(self, tokens):\n"
        "        x = self.stem(tokens)"
    },
    "a renamed loop variable": {
        "for block in self.blocks:\n            x = block(x)": "for layer in self.blocks:\n"
        "            x = layer(x)"
    },
    "definitions in another order": {
        "        self.stem = nn.Linear(6, width)\n": "",
        f"        {HEAD}\n": f"        {HEAD}\n        self.stem = nn.Linear(6, width)\n",
    },
    "two definitions swapped": {
        f"{FIRST}\n        {SECOND}": f"{SECOND}\n        {FIRST}",
    },
    "a norm is defined elsewhere": {
        "        self.norm2 = nn.LayerNorm(width)\n": "",
        "self.down = nn.Linear(2 * width, width)": "self.down = nn.Linear(2 * width, width)\n"
        "        self.norm2 = nn.LayerNorm(width)",
    },
    "another name of the model": {
        "class Net(nn.Module)": "class Renamed(nn.Module)",
        "return self.head(self.norm(x))\n": "return self.head(self.norm(x))\n\n\nNet = Renamed\n",
    },
    "a docstring": {"class Block(nn.Module):\n": 'class Block(nn.Module):\n    """A block."""\n'},
    "a comment": {GATE: f"# gated\n        {GATE}"},
    "a step in two": {
        CHAIN: "y = self.first(x)\n        x = self.second(y)",
    },
    "two steps in one": {
        f"{GATE}\n        return self.head(self.norm(x))": (
            "return self.head(self.norm(x * torch.sigmoid(self.gate(x))))"
        )
    },
    "operands in another order": {GATE: "x = torch.sigmoid(self.gate(x)) * x"},
    "a method for a function": {GATE: "x = x.mul(self.gate(x).sigmoid())"},
    "a view for unflatten": {
        "each.unflatten(-1, (self.heads, -1))": "each.view(*each.shape[:2], self.heads, -1)"
    },
    "permute for transpose": {
        "mixed.transpose(1, 2).flatten(2)": "mixed.permute(0, 2, 1, 3).flatten(2)"
    },
    "split for chunk": {"self.qkv(x).chunk(3, dim=-1)": "self.qkv(x).split(x.shape[-1], dim=-1)"},
    "a list for a generator": {
        "(Block(width, heads) for _ in range(depth))": "([Block(width, heads)] + "
        "[Block(width, heads) for _ in range(1, depth)])"
    },
    "a size worked out elsewhere": {
        "self.up = nn.Linear(width, 2 * width)": "hidden = width + width\n"
        "        self.up = nn.Linear(width, hidden)",
    },
    "keywords": {"nn.Linear(6, width)": "nn.Linear(in_features=6, out_features=width, bias=True)"},
    "another initialisation": {HEAD: f"{HEAD}\n        nn.init.zeros_(self.head.weight)"},
    "a check of shapes": {GATE: f"assert x.dim() == 3 and x.shape[-1] == 8\n        {GATE}"},
    "a branch for inference": {
        GATE: f"if not self.training:\n            x = x * 1\n        {GATE}"
    },
    "another alias": {"from torch.nn import functional as F": "import torch.nn.functional as F"},
    "a helper": {
        "class Attention(nn.Module)": (
            "def gated(x, gate):\n    return x * torch.sigmoid(gate)\n\n\n"
            "class Attention(nn.Module)"
        ),
        GATE: "x = gated(x, self.gate(x))",
    },
    "a submodule by its index": {
        "for block in self.blocks:\n            x = block(x)": (
            "for number in range(len(self.blocks)):\n            x = self.blocks[number](x)"
        )
    },
    "a needless detach of what needs no gradient": {
        "x = self.stem(x)": "x = self.stem(x.detach())"
    },
}

BATCHES = {
    "the examples in another order": torch.arange(72.0).reshape(BATCH).flip(0),
    "other values": torch.ones(BATCH),
    "no values": torch.zeros(BATCH, device="meta"),
}


def differing(before, after) -> str:
    """What is told of two steps."""
    found = difference(before, after)
    return "" if found.equal else "\n".join([headline(found), *sentences(found, 20)])


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_edit_is_caught_where_it_is(name):
    edit = HARMFUL[name]
    before = original(tuple(edit.before.items()), tuple(edit.before_lines.items()))
    found = difference(before, snapshot(edit.lines, edit.after))
    assert not found.equal
    layers = {without_numbers(path) for path in found.layers}
    if name == "checkpointing is dropped":
        # The stem's output is the first input that a checkpoint keeps: for the stem, or, as torch
        # did it before 2.13, for the first block.
        layers.add("stem")
    assert layers == edit.layers
    text = without_numbers("\n".join(sentences(found, 100)).replace(" ", "."))
    for path in {without_numbers(path) for path in found.layers}:
        assert (path or "(model)") in text


@pytest.mark.parametrize("name", HARMLESS)
def test_of_a_harmless_edit_nothing_is_told(name):
    assert differing(original(), snapshot(HARMLESS[name], {})) == ""


@pytest.mark.parametrize("name", BATCHES)
def test_nor_of_another_batch(name):
    assert differing(original(), snapshot({}, {}, BATCHES[name])) == ""


def test_one_class_for_another_of_equal_cost():
    lines = {
        "class Block(nn.Module)": "class Layer(nn.Module)",
        "ModuleList(Block(": "ModuleList(Layer(",
    }
    found = difference(original(), snapshot(lines, {}))
    assert found.retyped == {f"blocks.{n}": ("Block", "Layer") for n in range(2)}
    assert found.layers == ("blocks.0", "blocks.1")
