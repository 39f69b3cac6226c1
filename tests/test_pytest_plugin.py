"""The pytest plugin, in tests that pytest's own ``pytester`` runs."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import flopratio as fr
import flopratio.pytest_plugin as plugin
import flopratio.report.check.sentences
import flopratio.report.difference
import flopratio.text.files
import flopratio.verbs.check.expectation

PLUGIN = ("-p", plugin.__name__, "-p", "no:cacheprovider")
"""By name, and no other: an installation from before it was there does not name it."""

FAST = ("-p", "no:unraisableexception", "-p", "no:threadexception")
"""Without what collects the garbage of this whole process."""

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.inner = nn.Linear(4, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        return self.last(self.inner(self.first(x)))
"""


@pytest.fixture(scope="module", autouse=True)
def everything_is_imported():
    """A run in this process forgets the modules that it was the first to import."""
    fr.count(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    fr.count("mlp", batch=2)


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def run(pytester):
    """Runs tests of the model above, in this process."""

    def run(tests, *arguments, model=MODEL):
        pytester.makepyfile(test_step=f"{model}\nimport pytest\n\n{tests}")
        return pytester.runpytest_inprocess(*PLUGIN, *FAST, "--strict-markers", *arguments)

    return run


def failed(result, *parts, number=1):
    """The text of a run that failed, without a traceback of the plugin's code."""
    text = result.stdout.str()
    result.assert_outcomes(failed=number)
    assert "pytest_plugin.py:" not in text
    assert "Traceback" not in text
    for part in parts:
        assert part in text
    return text


# -- the marker ------------------------------------------------------------------------------------


def test_a_marked_test_needs_no_body(run):
    result = run("""
@pytest.mark.flopratio(model="mlp", batch=2, depth=1, ratio=["> 1", "< 2"], peak="10 MiB")
def test_mlp(): ...

@pytest.mark.flopratio(Net, batch=torch.zeros(3, 4), **{"ratio[inner]": 2, "ratio[first]": 1},
                       first_layer_ratio=1, parameters=130, uncounted_ops=0, optimizer="sgd")
class TestNet:
    def test_one(self): ...
    def test_two(self): ...

@pytest.mark.flopratio(lambda: (Net(), torch.zeros(3, 4)), input_grad=True, ratio=2)
def test_made_with_its_inputs():
    print("and its body runs too")
""", "-s")  # fmt: skip
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*and its body runs too*"])


def test_what_does_not_hold_is_a_sentence(run):
    result = run("""
@pytest.mark.flopratio(model=Net, batch=torch.zeros(3, 4), ratio=2, peak="1 KiB")
def test_net():
    raise RuntimeError("the body does not run then")
""")
    text = failed(
        result,
        "Net: ratio is 1.714285714, expected = 2; farthest from it: first (1)",
        "Net: peak is ",
        "expected <= 1 KiB",
    )
    assert "the body does not run" not in text.partition("FAILURES")[2]


MEANINGLESS = {
    "": "the marker flopratio has no model",
    "Net, 3": "mark one model",
    "Net, batch=torch.zeros(3, 4)": "the marker flopratio expects nothing: give it ratio=2",
    "'mlp', raito=2": "or no_change=True; or did you mean the expectation 'ratio'?",
    "'mlp', ratio=2, bacth=2": "mlp has no KEY 'bacth': did you mean 'batch'?",
    "'mlp', ratio=2, paek=2": "or did you mean the expectation 'peak'?",
    "'mpl', ratio=2": "there is no model 'mpl'",
    "'mlp', ratio='two'": "ratio = 'two' is neither",
    "'mlp', ratio=2, optimizer='adma'": "did you mean 'adam' or 'adamw'?",
    "Net, batch=torch.zeros(3, 5), ratio=2": "the model failed on input 0 of 3x5",
}


def test_a_marker_that_means_nothing(run):
    tests = [
        f"@pytest.mark.flopratio({marker})\ndef test_{number}(): ..."
        for number, marker in enumerate(MEANINGLESS)
    ]
    text = failed(run("\n".join(tests)), number=len(tests))
    for number, sentence in enumerate(MEANINGLESS.values()):
        of_it = text.partition(f" test_{number} ___")[2].partition("\n___")[0]
        assert sentence in of_it


def test_each_marker_is_a_check(run):
    result = run("""
@pytest.mark.flopratio(Net, batch=torch.zeros(3, 4), ratio=2)
class TestNet:
    @pytest.mark.flopratio("mlp", batch=2, peak="1 B")
    def test_one(self): ...
""")
    failed(result, "Net: ratio is")


# -- fixtures and functions ------------------------------------------------------------------------


def test_a_ledger_and_its_ratios(run):
    result = run("""
from flopratio.pytest_plugin import assert_ratio as imported

def test_net(flop_ledger, assert_ratio):
    ledger = flop_ledger(Net(), torch.zeros(3, 4), optimizer="adamw")
    assert ledger.totals.update > 0
    assert_ratio(ledger, "1.714 +- 0.001")
    assert_ratio(ledger, 2, layers="inner")
    imported(ledger, 1, layers="first")
    assert flop_ledger("mlp", batch=2).ratio.backward_to_forward < 2
""")
    result.assert_outcomes(passed=1)


def test_a_ratio_that_is_another(run):
    result = run("""
def test_net(flop_ledger, assert_ratio):
    assert_ratio(flop_ledger(Net(), torch.zeros(3, 4)), 2, layers="*i*")
""")
    failed(
        result,
        'assert_ratio(flop_ledger(Net(), torch.zeros(3, 4)), 2, layers="*i*")',
        "E       Failed: Net: ratio[*i*] is 1 in first, expected = 2",
    )


def test_a_step_that_can_not_be_counted(run):
    failed(
        run("def test_net(flop_ledger):\n    flop_ledger(Net(), torch.zeros(3, 5))"),
        "E       Failed: the model failed on input 0 of 3x5",
    )


# -- snapshots -------------------------------------------------------------------------------------

UNCHANGED = """
def test_net(flop_ledger, assert_no_change):
    assert_no_change(flop_ledger(Net(), torch.zeros(3, 4)))
"""
WIDER = MODEL.replace("nn.Linear(width, 2)", "nn.Linear(width, 3)")


def test_the_life_of_a_snapshot(run, pytester):
    path = pytester.path / "flopratio_snapshots/test_step.py/test_net.json"
    shown = path.relative_to(pytester.path)
    failed(run(UNCHANGED), f"there is no snapshot {shown} yet: pytest --flopratio-update writes it")
    assert not path.exists()

    result = run(UNCHANGED, plugin.UPDATE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["flopratio: 1 snapshot written"])
    accepted = path.read_bytes()
    assert set(json.loads(accepted)["layers"]) == {"first", "inner", "last", "loss", "(step)"}
    assert [each.name for each in path.parent.iterdir()] == [path.name]

    run(UNCHANGED).assert_outcomes(passed=1)
    result = run(UNCHANGED, plugin.UPDATE)
    assert "snapshot written" not in result.stdout.str()
    assert path.read_bytes() == accepted

    text = failed(
        run(UNCHANGED, model=WIDER),
        "Net CHANGED: 2 of 5 layers; forward +",
        "  last: forward 96 FLOP → 144 FLOP (+50%), grad input 96 FLOP → 144 FLOP (+50%)",
        f"the snapshot is {shown}; pytest --flopratio-update accepts the change",
    )
    assert "inner" not in text.partition("CHANGED")[2]
    assert path.read_bytes() == accepted

    run(UNCHANGED, plugin.UPDATE, model=WIDER).assert_outcomes(passed=1)
    run(UNCHANGED, model=WIDER).assert_outcomes(passed=1)
    assert path.read_bytes() != accepted


def test_another_torch_alone_is_no_change(run, pytester):
    run(UNCHANGED, plugin.UPDATE)
    path = pytester.path / "flopratio_snapshots/test_step.py/test_net.json"
    document = json.loads(path.read_text())
    document["versions"]["torch"] = "2.0.1"
    path.write_text(json.dumps(document))
    run(UNCHANGED).assert_outcomes(passed=1)
    run(UNCHANGED, plugin.UPDATE).assert_outcomes(passed=1)
    assert json.loads(path.read_text())["versions"]["torch"] == "2.0.1"
    failed(run(UNCHANGED, model=WIDER), "versions: torch 2.0.1 → ")


def test_a_marker_may_compare_too(run, pytester):
    marked = """
@pytest.mark.flopratio(Net, batch=torch.zeros(3, 4), no_change=True, ratio="< 2")
def test_net(): ...
"""
    run(marked, plugin.UPDATE).assert_outcomes(passed=1)
    run(marked).assert_outcomes(passed=1)
    failed(run(marked, model=WIDER), "Net CHANGED", "  last: forward 96 FLOP → 144 FLOP")


def test_each_test_has_files_of_its_own(run, pytester):
    result = run(
        """
@pytest.mark.parametrize("what", ["a/b", "a b", "x" * 300, "ok"])
class TestNet:
    def test_net(self, flop_ledger, assert_no_change, what):
        ledger = flop_ledger(Net(), torch.zeros(3, 4))
        assert_no_change(ledger)
        assert_no_change(ledger)
        assert_no_change(ledger, "named")
""",
        plugin.UPDATE,
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["flopratio: 12 snapshots written"])
    names = [each.name for each in (pytester.path / "flopratio_snapshots/test_step.py").iterdir()]
    assert len(names) == 12
    ok = {f"TestNet.test_net[ok]{further}.json" for further in ("", ".2", ".named")}
    assert ok < set(names)


def test_one_name_twice(run):
    result = run(
        """
def test_net(flop_ledger, assert_no_change):
    ledger = flop_ledger(Net(), torch.zeros(3, 4))
    assert_no_change(ledger, "a")
    assert_no_change(ledger, "a")
""",
        plugin.UPDATE,
    )
    failed(result, "two snapshots of test_step.py::test_net are called 'a'")


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", '{"schema": "flopratio.snapshot/9"}'])
def test_a_damaged_snapshot(run, pytester, text):
    path = pytester.path / "flopratio_snapshots/test_step.py/test_net.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    failed(run(UNCHANGED), "can't read the snapshot", "pytest --flopratio-update writes it anew")
    run(UNCHANGED, plugin.UPDATE).assert_outcomes(passed=1)
    run(UNCHANGED).assert_outcomes(passed=1)


def test_outside_of_a_test(monkeypatch):
    monkeypatch.setattr(plugin, "_running", [])
    ledger = fr.count(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(pytest.fail.Exception, match="for a test that pytest runs"):
        plugin.assert_no_change(ledger)


# -- with other plugins, and without torch ---------------------------------------------------------


def test_many_processes(run, pytester):
    tests = "".join(UNCHANGED.replace("test_net", f"test_{number}") for number in range(3))
    expecting = (
        "@pytest.mark.flopratio(Net, batch=torch.zeros(3, 4), ratio=2)\ndef test_ratio(): ..."
    )
    pytester.makepyfile(test_step=f"{MODEL}\nimport pytest\n\n{tests}\n\n{expecting}")
    result = pytester.runpytest_subprocess(*PLUGIN, "-p", "xdist.plugin", "-n", "2", plugin.UPDATE)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["Net: ratio is 1.714285714, *", "flopratio: 3 snapshots written"])
    run(tests).assert_outcomes(passed=3)
    failed(run(tests, model=WIDER), "  last: forward", number=3)


def test_pytest_starts_without_torch():
    code = (
        "import sys, pytest; "
        f"code = pytest.main([*{PLUGIN!r}, '--markers']); "
        "sys.exit(code or 'torch' in sys.modules or 'numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "@pytest.mark.flopratio(model, batch=..." in result.stdout


def test_pytest_finds_it():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"flopratio": plugin.__name__}
