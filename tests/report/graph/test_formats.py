"""A graph as SVG, DOT and Mermaid: whole documents, with every figure, whatever names there are."""

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

import flopratio as fr
from flopratio.ledger import COUNTS
from flopratio.report.graph import FORMATS
from flopratio.report.graph.labels import (
    bare_name,
    operator_labels,
    shape_text,
    summary,
    variable_labels,
)
from flopratio.step.options import StepOptions
from flopratio.verbs.graph import graph_step

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>\"alert('1')\" & \\ ]]> `=cmd()` --> } ;\nÜ"


@pytest.fixture(scope="module")
def graph():
    return graph_step("mlp", 2, {"depth": 1}, StepOptions(optimizer="sgd"))


@pytest.fixture(scope="module")
def evil(graph):
    """The same, with names that are markup in one format or another."""
    return replace(
        graph,
        model=EVIL,
        settings={"key": EVIL},
        operators=tuple(
            replace(operator, op=f"{EVIL}.{EVIL}", layer=EVIL, type=EVIL)
            for operator in graph.operators
        ),
        variables=tuple(replace(variable, name=EVIL) for variable in graph.variables),
    )


def titles(document):
    root = ElementTree.fromstring(document)
    return [element.text for element in root.iter(f"{SVG}title")][1:]


# -- svg ------------------------------------------------------------------------------------


def test_squares_are_variables_and_circles_operators(graph):
    root = ElementTree.fromstring(FORMATS[".svg"](graph))
    picture = root.find(f"{SVG}svg")
    with_gradient = sum(variable.has_gradient for variable in graph.variables)
    backward = sum(operator.runs_backward for operator in graph.operators)
    squares = [e for e in picture.iter(f"{SVG}rect") if e.get("class") != "plate"]
    assert len(squares) == len(graph.variables) + with_gradient == 11 + 9
    assert len(list(picture.iter(f"{SVG}circle"))) == len(graph.operators) + backward == 5 + 5


def test_what_is_saved_has_a_colour_of_its_own(graph):
    root = ElementTree.fromstring(FORMATS[".svg"](graph))
    squares = [e for e in root.find(f"{SVG}svg").iter(f"{SVG}rect") if e.get("class") == "saved"]
    assert len(squares) == sum(variable.saved_bytes > 0 for variable in graph.variables) == 4


def test_the_figures_in_its_titles_sum_to_the_ledger(graph):
    total = fr.count("mlp", 2, depth=1, optimizer="sgd").totals
    sums: Counter[str] = Counter()
    for title in titles(FORMATS[".svg"](graph)):
        for name, figure in re.findall(r"^(\w+): ([\d,]+)$", title, re.M):
            sums[name] += int(figure.replace(",", ""))
        for figure in re.findall(r"([\d,]+) bytes saved", title):
            sums["saved_bytes"] += int(figure.replace(",", ""))
    for count in COUNTS:
        if count != "parameters":
            assert sums[count] == getattr(total, count), count


@pytest.mark.parametrize("suffix", FORMATS)
def test_figures_of_each_operator_and_bytes_of_each_variable_are_there(graph, suffix):
    document = FORMATS[suffix](graph, exact=True)
    for text in ("1,605,632 FLOP", "20,480 FLOP", "6,272 B", "4,096 B", "80 B", "16 B"):
        assert text in document
    assert "update 814,100 FLOP" in document
    assert "512 × 784" in document


def test_the_same_graph_is_the_same_document(graph):
    assert FORMATS[".svg"](graph) == FORMATS[".svg"](replace(graph))


def test_it_needs_nothing_beside_it(graph):
    document = FORMATS[".svg"](graph).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in document
    assert "@import" not in document


def test_a_wide_picture_is_cut_into_lines():
    graph = graph_step("mlp", 2, {"depth": 12, "width": 8, "input": 6}, StepOptions())
    root = ElementTree.fromstring(FORMATS[".svg"](graph))
    lines = root.findall(f"{SVG}svg")
    assert len(lines) > 1
    assert float(root.get("width")) <= 1_560
    ends = [tuple(map(float, line.get("viewBox").split())) for line in lines]
    for (left, _, width, _), (following, *_) in pairwise(ends):
        assert left + width == pytest.approx(following, abs=0.11)


def test_of_an_inference_there_is_no_backward():
    graph = graph_step("mlp", 2, {"depth": 1}, StepOptions(inference=True))
    root = ElementTree.fromstring(FORMATS[".svg"](graph))
    picture = root.find(f"{SVG}svg")
    assert len(list(picture.iter(f"{SVG}circle"))) == len(graph.operators) == 3


# -- names that are markup ------------------------------------------------------------------


def test_no_name_is_markup_in_svg(evil):
    root = ElementTree.fromstring(FORMATS[".svg"](evil))
    kinds = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert kinds <= {
        *("svg", "title", "style", "defs", "marker", "path", "rect", "circle", "g", "text", "use")
    }


def test_no_name_ends_a_string_in_dot(evil):
    document = FORMATS[".dot"](evil)
    without = re.sub(r'"(?:[^"\\]|\\.)*"', '""', document)
    for line in without.splitlines():
        assert re.fullmatch(r'[\w\s{}\[\]="",;.>-]*', line), line


def test_no_name_ends_a_string_in_mermaid(evil):
    _, title, _, *lines = FORMATS[".mmd"](evil).splitlines()
    assert title.startswith('title: "')
    for line in lines:
        assert "script>" not in line
        assert line.count('"') in (0, 2)


@pytest.mark.parametrize("suffix", [".dot", ".mmd"])
def test_every_arrow_is_between_two_that_are_there(graph, suffix):
    document = FORMATS[suffix](graph)
    there = set(re.findall(r"^  (d?[vo]\d+)[\[( ]+(?!-)", document, re.M))
    arrows = re.findall(r"^  (\w+) (?:->|-->|-\.->) (\w+)", document, re.M)
    assert arrows
    assert {end for arrow in arrows for end in arrow} <= there


# -- labels ---------------------------------------------------------------------------------


def test_textbooks_letters(graph):
    names = [label.name for label in variable_labels(graph)]
    assert sorted(names) == sorted(
        ["W_1", "b_1", "x", "z_1", "h_1", "W_2", "b_2", "z_2", "h_2", "y", "L"]
    )
    assert [label.sign for label in operator_labels(graph)] == [
        "× +",
        "ReLU",
        "× +",
        "log p",
        "−log p",
    ]


def test_backwards_figures_are_split(graph):
    first, _, output, *_ = operator_labels(graph)
    assert first.backward[:2] == ("grad_weight 1,605,632 FLOP", "+ 1,024 elementwise")
    assert output.backward[:3] == (
        "grad_input 20,480 FLOP",
        "grad_weight 20,480 FLOP",
        "+ 20 elementwise",
    )


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("aten.relu_", "relu"),
        ("aten._log_softmax", "log_softmax"),
        ("aten.native_layer_norm", "layer_norm"),
        ("aten.nll_loss_forward", "nll_loss"),
        ("aten.__and__", "and_"),
        ("aten._", "_"),
        ("bare", "bare"),
        ("", ""),
    ],
)
def test_names_of_operators_without_their_affixes(op, name):
    assert bare_name(op) == name


def test_shapes():
    assert shape_text((2, 784)) == "2 × 784"
    assert shape_text(()) == "scalar"


def test_the_summary_says_what_is_not_drawn(graph):
    (line,) = summary(graph)
    assert line.startswith("forward 1,626,112 FLOP · backward 1,646,592 FLOP (1.013 × forward)")
    lost = replace(graph, outside=replace(graph.outside, update=7), note="folded")
    assert summary(lost)[1:] == [
        "not drawn, for no operator here is theirs: 7 FLOP, 0 B",
        "folded",
    ]


# -- from Python ----------------------------------------------------------------------------


def test_a_picture_from_python(tmp_path):
    picture = fr.graph("mlp", 2, depth=1)
    assert picture._repr_svg_() == picture.svg
    for suffix, text in ((".svg", picture.svg), (".dot", picture.dot), (".mmd", picture.mermaid)):
        picture.save(tmp_path / f"graph{suffix}")
        assert (tmp_path / f"graph{suffix}").read_text(encoding="utf-8") == text
    with pytest.raises(fr.UsageError, match="there already"):
        picture.save(tmp_path / "graph.svg")
