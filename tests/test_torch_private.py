"""Private names of torch stand in ``torch_private.py`` alone; a torch that the suite is not run
with is warned of."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import flopratio
from flopratio import cli, torch_private
from flopratio.errors import UntestedTorch

PACKAGE = Path(flopratio.__file__).parent

OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}

OF_OTHERS = {"_attn_implementation", "_from_config", "_meta_registrations", "_model_mapping", "_roi_align"}
"""Of torchvision and transformers, where the models of these are built."""

BY_NAME = {"attrgetter", "delattr", "getattr", "hasattr", "methodcaller", "setattr"}


def is_private(name: str) -> bool:
    return re.fullmatch(r"_(?!_)\w+", name) is not None


def is_private_path(path: str) -> bool:
    """Whether a dotted name goes through a private one. Operators are no names of torch's."""
    parts = path.split(".")
    return parts[0] == "torch" and parts[1:2] != ["ops"] and any(map(is_private, parts))


def dotted(node: ast.expr) -> str:
    """``torch.nn.Module`` of such an expression; empty before what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def own_names(trees: list[ast.Module]) -> set[str]:
    """Private names that the package gives: to functions, classes, variables and attributes."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if dotted(node.value) == "self" else set()
    return {name for name in names if is_private(name)}


def private_uses(tree: ast.Module, own: set[str]) -> Iterator[tuple[int, str]]:
    """The lines of a module that use a private name of somebody else's, and which."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    operators = {  # aten = torch.ops.aten
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and dotted(node.value).startswith("torch.ops.")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names if is_private_path(name.name)]
        elif isinstance(node, ast.ImportFrom):
            paths = (f"{node.module}.{name.name}" for name in node.names)
            names = [path for path in paths if is_private_path(path)]
        elif isinstance(node, ast.Attribute):
            foreign = is_private(node.attr) and node.attr not in own | OF_NAMED_TUPLES
            of_operators = dotted(node.value).startswith("torch.ops.") or (
                dotted(node.value).partition(".")[0] in operators
            )
            names = [dotted(node)] if foreign and not of_operators else []
        elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in BY_NAME:
            given = [
                constants.get(argument.id) if isinstance(argument, ast.Name) else argument.value
                for argument in node.args
                if isinstance(argument, ast.Name | ast.Constant)
            ]
            names = [name for name in given if isinstance(name, str) and is_private(name)]
            names = [name for name in names if name not in own | OF_NAMED_TUPLES]
            if node.args and dotted(node.args[0]).partition(".")[0] in operators:
                names = []
        elif isinstance(node, ast.Constant) and node not in docstrings:
            path = node.value if isinstance(node.value, str) else ""
            names = [path] if is_private_path(path) and " " not in path else []
        else:
            names = []
        for name in names:
            yield node.lineno, name


def test_private_names_stand_in_one_place() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    own = own_names(list(trees.values())) | OF_OTHERS
    found = []
    for path, tree in sorted(trees.items()):
        place = path.relative_to(PACKAGE).as_posix()
        if place == "torch_private.py":
            continue
        found += [f"flopratio/{place}:{line}: {name}" for line, name in private_uses(tree, own)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import torch._dynamo", "torch._dynamo"),
        ("from torch._ops import OpOverload", "torch._ops.OpOverload"),
        ("from torch.utils import _pytree", "torch.utils._pytree"),
        ("from torch.utils._pytree import tree_map", "torch.utils._pytree.tree_map"),
        ("torch._C._current_autograd_node()", "torch._C._current_autograd_node"),
        ("module.weight._version", "module.weight._version"),
        ("f(x)._version", "._version"),
        ("getattr(torch.autograd, '_engine')", "_engine"),
        ("ENGINE = '_engine'\nsetattr(torch.autograd, ENGINE, run)", "_engine"),
        ("logging.getLogger('torch._dynamo')", "torch._dynamo"),
    ],
)
def test_what_is_a_private_use(line: str, name: str) -> None:
    assert name in [found for _, found in private_uses(ast.parse(line), {"_own"})]


@pytest.mark.parametrize(
    "line",
    [
        "torch.ops.aten._softmax.default",
        "aten = torch.ops.aten\naten._softmax(x); getattr(aten, '_softmax')",
        "from torch.utils.checkpoint import checkpoint",
        "tensor.__class__; self._own; row._replace(x=1)",
        "def f():\n    '''torch._dynamo'''",
        "formula('aten._softmax')",
    ],
)
def test_what_is_none(line: str) -> None:
    assert list(private_uses(ast.parse(line), {"_own"})) == []


# -- probes ---------------------------------------------------------------------------------------


def test_every_probe_tells_of_its_name() -> None:
    assert torch_private.PROBES
    for probe in torch_private.PROBES:
        assert probe.name.startswith("torch.")
        assert any(map(is_private, probe.name.split("."))), probe.name
        assert probe.without
        assert probe.without[0].islower()  # it goes on after the name
        assert probe.without[-1] != "."
    names = [probe.name for probe in torch_private.PROBES]
    assert len(set(names)) == len(names)


def test_what_this_torch_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out anew each time; of the pinned torch, nothing."""
    before = {probe.name for probe in torch_private.missing()}
    if torch.__version__.startswith("2.13."):
        assert not before
    monkeypatch.setattr(torch_private, "PROBES", [*torch_private.PROBES])
    assert torch_private.optional("torch.nn._absent", "nothing works") is None
    assert torch_private.optional("torch._absent.name", "nothing works") is None
    assert torch_private.optional("torch.nn.Module", "nothing works") is torch.nn.Module
    found = [probe for probe in torch_private.missing() if probe.name not in before]
    assert [tuple(probe) for probe in found] == [
        ("torch.nn._absent", "nothing works"),
        ("torch._absent.name", "nothing works"),
    ]


# -- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", ["2.8.0", "2.9.1+cu128", "2.11.0", "2.13.0+cpu", "2.15.0", "2.15.1", "2.15.0a0+git1"]
)
def test_tested_versions(version: str) -> None:
    assert torch_private.untested(version) is None


@pytest.mark.parametrize("version", ["1.13.1", "2.7.1", "2.16.0", "2.16.0.dev20270101", "3.0.0"])
def test_untested_versions(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_private, "PROBES", [*torch_private.PROBES])
    torch_private.optional("torch._absent", "nobody is greeted")
    message = torch_private.untested(version)
    assert message is not None
    assert message.startswith(f"flopratio is tested with torch 2.8 to 2.15; this is {version}: ")
    assert "it has no torch._absent: nobody is greeted" in message
    assert "\n" not in message


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As in a process that has not looked at torch's version."""
    torch_private.check_version.cache_clear()
    yield
    torch_private.check_version.cache_clear()


@pytest.mark.usefixtures("unchecked")
def test_one_warning_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.16.0")
    with pytest.warns(UntestedTorch, match="this is 2.16.0"):
        torch_private.check_version()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch_private.check_version()


@pytest.mark.usefixtures("unchecked")
def test_no_warning_of_this_torch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch_private.check_version()


@pytest.mark.usefixtures("unchecked")
def test_one_line_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.16.0")
    monkeypatch.setattr(cli, "app", lambda *args, **kwargs: torch_private.check_version())
    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["count"]) == 0
    assert warnings.showwarning is shown
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.startswith("flopratio is tested with torch 2.8 to 2.15; this is 2.16.0: ")
    assert lines.count("\n") == 1


def test_the_import_looks_at_no_version() -> None:
    code = "import torch; torch.__version__ = '1.0'; import flopratio.torch_private"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
