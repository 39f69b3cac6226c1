"""The command line as a whole: exit codes, and errors in one sentence."""

import signal
import subprocess
import sys

import pytest

from flopratio import cli
from flopratio.cli import main
from flopratio.version import __version__


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flopratio {__version__}\n"


def test_no_arguments_ask_for_help(capsys):
    assert main([]) == 0
    assert "sweep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["swep"], "No such command 'swep'. Did you mean 'sweep'?"),
        (["mlp"], "No such command 'mlp'. Did you mean flopratio count mlp?"),
        (["hf:gpt2", "batch=8"], "Did you mean flopratio count hf:gpt2?"),
        (["model.py:make"], "Did you mean flopratio count model.py:make?"),
        (
            ["resnet"],
            "No such command 'resnet'. There are check, count, diff, fit, formula, graph, "
            "profile, report, sweep.",
        ),
        (["count", "mlp", "--sort", "foo"], "'foo' is no column: there are backward, bytes_read,"),
        (["count", "mlp", "--inference", "--optimizer", "adamw"], "inference has no update"),
        (["count", "mlp", "--inference", "--input-grad"], "inference has no gradients"),
        (["sweep", "--bogus"], "No such option: --bogus"),
        (["--bogus"], "No such option: --bogus"),
        (["sweep", "--dtype"], "requires an argument"),
        (["sweep", "--optimizer", "sdg"], "did you mean 'sgd'?"),
        (["sweep", "mlp", "depth=5..1"], "write depth=1..5"),
        (["sweep", "mlp", "bathc=8"], "mlp has no KEY 'bathc': did you mean 'batch'?"),
        (["sweep", "mlp", "optimiser=sgd"], "; did you mean the option --optimizer?"),
        (["sweep", "mlp", "batch"], "'batch' is not KEY=VALUE"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_2(capsys, arguments, said):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.startswith("flopratio: ")
    assert printed.err.count("\n") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="no SIGPIPE here")
def test_a_reader_that_goes_away_ends_it_quietly():
    command = [sys.executable, "-m", "flopratio", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


def broken(*arguments, **options):
    raise RuntimeError("a bug,\nover two lines")


def test_a_bug_is_one_sentence_too(capsys, monkeypatch):
    monkeypatch.setattr(cli, "app", broken)
    assert main(["sweep"]) == 2
    assert capsys.readouterr().err == (
        "flopratio: RuntimeError: a bug, over two lines (--debug shows where)\n"
    )


@pytest.mark.parametrize("size", [f"width={2**63}", f"width={2**63 - 1}", f"batch={2**62}"])
def test_sizes_that_torch_can_not_tell_are_a_sentence(size, capsys):
    assert main(["count", "mlp", "depth=1", size]) == 2
    assert capsys.readouterr().err == (
        "flopratio: a tensor would be larger than torch can tell: make the sizes smaller\n"
    )


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setattr(cli, "app", broken)
    assert main(["sweep", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_no_traceback(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert main(["sweep"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["", "count", "fit", "graph", "profile", "report", "sweep"])
def test_no_flag_has_a_value_beside_it_in_help(capsys, verb):
    assert main([*filter(None, [verb]), "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--help" in printed
    assert "<bool>" not in printed
