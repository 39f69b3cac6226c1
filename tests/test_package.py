"""The public names, and what importing them costs."""

import subprocess
import sys

import pytest

import flopratio as fr
from flopratio.ledger import Ledger
from flopratio.version import __version__

HEAVY = {"torch", "numpy", "pandas", "matplotlib", "fvcore", "sympy"}


def heavy_after(code):
    """The heavy packages that a fresh interpreter has imported after running ``code``."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return HEAVY & set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import flopratio",
        "import flopratio as fr; fr.sweep, fr.Ledger, fr.__version__",
        "from flopratio.cli import main; main(['--help'])",
        "from flopratio.cli import main; main(['sweep', '--help'])",
        "from flopratio.cli import main; main(['profile', '--help'])",
        "from flopratio.cli import main; main(['--version'])",
        "from flopratio.cli import main; main(['sweep', 'mlp', 'depth=5..1'])",
    ],
)
def test_the_light_part_imports_nothing_heavy(code):
    assert heavy_after(code) == set()


def test_public_names():
    assert fr.__version__ == __version__
    assert fr.Ledger is Ledger
    assert set(fr.__all__) <= set(dir(fr))


@pytest.mark.parametrize("verb", ["count", "fit", "graph", "profile", "sweep"])
def test_a_verb_is_the_function_even_after_its_module_was_imported(verb):
    code = f"import flopratio.verbs.{verb}, flopratio; flopratio.{verb}.__call__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        _ = fr.bogus
