"""A difference for people: the verdict, the tables, and names that mean something elsewhere."""

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from flopratio.report import difference as report
from flopratio.snapshot import LayerCounts
from flopratio.verbs.diff import Change, difference
from tests.verbs.test_diff import BLOCKS, layer, snapshot


def printed(page):
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(page)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.fixture
def found():
    after = {
        "a": BLOCKS["a"],
        "b": layer(forward=20, grad_input=10, grad_weight=10),
        "fc": BLOCKS["c"],
        "act": layer("Abs", elementwise_forward=3),
        "tail": layer("Dropout"),
    }
    return difference(
        replace(snapshot(BLOCKS), versions={"torch": "2.11"}, reconciled=True),
        replace(
            snapshot(after),
            versions={"torch": "2.13"},
            uncounted_ops={"an.op": 1},
            memory={**snapshot(after).memory, "peak": 14, "peak_reserved": None},
        ),
    )


PAGE = """\
CHANGED: 5 of 6 layers; forward +33.3%, peak +100%, parameters -100%

whole step   before    after    change
──────────────────────────────────────────────
forward     30 FLOP  40 FLOP  +10 FLOP  +33.3%
parameters        4        0        -4   -100%
peak            7 B     14 B      +7 B   +100%

   layer  type     figure            before    after    change
─────────────────────────────────────────────────────────────────────
-  head   Linear   parameters             4        0        -4  -100%
~  b      Linear   forward          10 FLOP  20 FLOP  +10 FLOP  +100%
+  tail   Dropout  nothing counted

unchanged: 1 layer; of the whole step grad input, grad weight, elementwise forward

renamed     c → fc
class       act ReLU → Abs, with equal figures
no formula  an.op (0 calls before, 1 after)
reconciled  law and execution agree before, not compared after
versions    torch 2.11 → 2.13
torch       another version counted the two: some of this may be its doing"""


def test_the_page(found):
    memory = {"peak": 7}
    found = replace(found, before=replace(found.before, memory=memory))
    assert printed(report.page(found)) == PAGE


def test_nothing_changed():
    found = difference(snapshot(BLOCKS), snapshot(BLOCKS))
    text = "UNCHANGED: all figures of 5 layers and of the step are equal"
    assert printed(report.page(found)) == text
    assert report.to_markdown(found) == f"**{text}**\n"


def test_the_document(found):
    document = json.loads(report.to_json(found))
    assert document["schema"] == "flopratio.diff/1"
    assert document["equal"] is False
    assert document["totals"] == {"forward": [30, 40], "parameters": [4, 0]}
    assert document["memory"] == {"peak": [7, 14]}
    assert document["versions"] == {"torch": ["2.11", "2.13"]}
    assert document["uncounted_ops"] == {"an.op": [0, 1]}
    assert document["reconciled"] == [True, None]
    layers = document["layers"]
    assert layers["unchanged"] == 1
    assert layers["changed"] == [{"name": "b", "type": "Linear", "forward": [10, 20]}]
    assert [each["name"] for each in layers["only_before"]] == ["head"]
    assert [each["name"] for each in layers["only_after"]] == ["tail"]
    assert layers["renamed"] == [["c", "fc"]]
    assert layers["retyped"] == {"act": ["ReLU", "Abs"]}


def test_the_lines_of_a_csv(found):
    rows = list(csv.reader(io.StringIO(report.to_csv(found))))
    assert rows[0] == ["sign", "layer", "type", "figure", "before", "after"]
    assert ["~", "b", "Linear", "forward", "10", "20"] in rows
    assert ["memory", "", "", "peak", "7", "14"] in rows


def test_sentences(found):
    assert report.sentences(found, most=2) == [
        "head is gone: parameters 4",
        "b: forward 10 FLOP → 20 FLOP (+100%)",
        "and 1 more layer",
        "renamed: c → fc",
        "class: act ReLU → Abs, with equal figures",
        "no formula: an.op (0 calls before, 1 after)",
        "reconciled: law and execution agree before, not compared after",
        "versions: torch 2.11 → 2.13",
        "torch: another version counted the two: some of this may be its doing",
    ]


def test_repeated_layers_that_moved_alike_are_one_line():
    one, two = layer(forward=1), layer(forward=2)
    before = {f"h.{n}.mlp": one for n in range(12)}
    after = {f"h.{n}.mlp": two for n in range(11)} | {"h.11.mlp": one}
    found = difference(snapshot(before), snapshot(after))
    assert report.sentences(found) == ["h.*.mlp (11 layers, each): forward 1 FLOP → 2 FLOP (+100%)"]
    lines, left = report.layer_lines(found)
    assert len(lines) == 1
    assert left == 0


def test_top_leaves_layers_out():
    before = {name: layer(forward=1) for name in "abcd"}
    after = {name: layer(forward=2) for name in "abcd"}
    found = difference(snapshot(before), snapshot(after))
    lines, left = report.layer_lines(found, top=1)
    assert [line.name for line in lines] == ["a"]
    assert left == 3
    assert "3 more layers: --top 0 lists all" in printed(report.page(found, top=1))
    assert "3 more layers" in report.to_markdown(found, top=1)


def test_renames_of_a_module_are_one_line():
    before = {f"model.{name}": layer(forward=n) for n, name in enumerate("abc")}
    after = {path.replace("model", "net"): each for path, each in before.items()}
    found = difference(snapshot(before), snapshot(after))
    assert report.sentences(found) == ["renamed: model.* → net.* (3 layers)"]
    bare = {path.removeprefix("model."): each for path, each in before.items()}
    found = difference(snapshot(bare), snapshot(before))
    assert report.sentences(found) == ["renamed: * → model.* (3 layers)"]


def test_an_order():
    after = {path: BLOCKS[path] for path in ("c", "a", "b", "act", "head")}
    found = difference(snapshot(BLOCKS), snapshot(after))
    assert report.sentences(found) == ["order: c runs first now"]
    assert report.headline(found) == "CHANGED: 1 of 5 layers"


def test_another_class_is_only_told_apart_where_its_figures_are_equal():
    before = snapshot({"a": layer("ReLU", forward=1)})
    found = difference(before, snapshot({"a": layer("GELU", forward=2)}))
    assert found.retyped == {"a": ("ReLU", "GELU")}
    assert report.remarks(found) == []


def test_another_torch_is_no_doubt_where_nothing_changed():
    before = replace(snapshot(BLOCKS), versions={"torch": "2.11"})
    found = difference(before, replace(before, versions={"torch": "2.13"}))
    assert report.remarks(found) == [("versions", "torch 2.11 → 2.13")]


def test_only_the_peak():
    before = snapshot(BLOCKS)
    after = replace(before, memory={**before.memory, "peak": 8})
    found = difference(before, after)
    assert report.headline(found) == "CHANGED: 0 of 5 layers; peak +14.3%"
    assert report.sentences(found) == ["the whole step: peak 7 B → 8 B (+14.3%)"]


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (Change(0, 1024), ("0", "1.024 kFLOP", "+1.024 kFLOP")),
        (Change(2_000_000, 1_000_000), ("2.000 MFLOP", "1.000 MFLOP", "-1.000 MFLOP")),
        # Apart, though four digits would not tell them apart.
        (Change(10**9, 10**9 + 1), ("1,000,000,000 FLOP", "1,000,000,001 FLOP", "+1 FLOP")),
    ],
)
def test_both_sides_in_one_unit(change, texts):
    assert report.amounts(change, report.Kind.FLOP) == texts


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change(100, 112), "+12%"),
        (Change(3, 2), "-33.3%"),
        (Change(1, 101), "+10,000%"),
        (Change(10**9, 10**9 + 1), "+1e-07%"),
        (Change(0, 5), ""),
    ],
)
def test_percent(change, text):
    assert report.percent(change) == text


NASTY = [
    "[red]x[/]",
    "a|b",
    "`tick`",
    "<b>",
    "@all",
    "![x](http://x)",
    "line\nbreak",
    "\x1b[31mred",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_mean_nothing(name):
    before = snapshot({name: LayerCounts.of(name, {"forward": 1})})
    after = snapshot({name: LayerCounts.of(name, {"forward": 2})})
    found = difference(before, replace(after, model=name, settings={name: name}))
    text = printed(report.page(found))
    assert "\x1b" not in text
    shown = name.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert shown in text
    markdown = report.to_markdown(found)
    assert "\x1b" not in markdown
    rows = [line for line in markdown.splitlines() if shown.replace("|", "\\|") in line]
    assert len(rows) == 3  # the layer, the model and the settings
    assert rows[0].replace("\\|", "").count("|") == 9
    for row in rows:
        outside = [
            part for n, part in enumerate(row.split("``" if "`tick" in row else "`")) if not n % 2
        ]
        assert not any(shown in part for part in outside)


def test_backward_is_both_gradients():
    before, after = (
        snapshot({"a": layer(forward=10, grad_input=flops, grad_weight=10)}) for flops in (10, 15)
    )
    assert "; backward +25%" in report.headline(difference(before, after))
