"""``flopratio fit``: what it prints, writes and returns."""

import json
import subprocess
import sys

import pytest

import flopratio as fr
from flopratio.cli import main, progress
from flopratio.verbs import fit as fitting
from flopratio.verbs.fit import Progress
from tests.verbs.fit.small import nothing_fits, small_fit, small_levers, tried

MLP = ["fit", "mlp", "depth=2", "width=16", "input=8", "--memory", "100KiB"]


@pytest.fixture
def engine(monkeypatch):
    """A search that finds :attr:`found` and remembers what it was asked for."""

    class Engine:
        def __init__(self) -> None:
            self.found = small_fit()

        def fit(self, model, *, progress, **words):
            self.model, self.words = model, words
            progress(Progress(tried(4, 4_000), {}, 0, 1))
            return self.found

    engine = Engine()
    monkeypatch.setattr(fitting, "fit", engine.fit)
    return engine


# -- an answer that is really found ----------------------------------------------------------------


def test_json_is_confirmed_by_count(capsys):
    assert main([*MLP, "--optimizer", "adamw", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["key"] == "batch"
    assert found["memory"] == 100 * 1024
    for batch, peak in (
        (found["largest"], found["peak"]),
        (found["largest"] + 1, found["peak_at_next"]),
    ):
        main(["count", *MLP[1:5], f"batch={batch}", "--optimizer", "adamw", "--json"])
        assert json.loads(capsys.readouterr().out)["memory"]["peak"] == peak
        assert (peak <= found["memory"]) == (batch == found["largest"])


def test_python_and_the_command_line_find_the_same(capsys):
    main([*MLP, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert fr.fit("mlp", memory="100KiB", depth=2, width=16, input=8).largest == found["largest"]


# -- what is asked for -----------------------------------------------------------------------------


def test_options_reach_the_search(engine):
    words = (
        "--loss sum --optimizer adam --dtype float64 --amp bf16 --freeze a.* --checkpoint auto:4 "
        "--optimizer-implementation fused --weight-decay 0.1"
    )
    more = "--accumulate 4 --attention flash --causal half --input-grad --inference --target cpu"
    own = "--memory 80GiB --reserve 2GiB --key seq --figure peak_reserved --levers"
    sizes = ["batch=8", "seq=16"]
    assert main(["fit", "toy:net", *sizes, *words.split(), *more.split(), *own.split()]) == 0
    assert engine.model == "toy:net"
    assert engine.words == {
        "batch": 8,
        "seq": 16,
        "memory": "80GiB",
        "reserve": "2GiB",
        "key": "seq",
        "figure": "peak_reserved",
        "levers": True,
        "loss": "sum",
        "optimizer": "adam",
        "optimizer_implementation": "fused",
        "weight_decay": "0.1",
        "dtype": "float64",
        "amp": "bf16",
        "freeze": "a.*",
        "checkpoint": "auto:4",
        "accumulate": 4,
        "attention": "flash",
        "causal": "half",
        "input_grad": True,
        "inference": True,
        "target": "cpu",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "80GiB"], "fit what? name a MODEL"),
        (["toy"], "how much memory is there? give --memory"),
        (["toy", "--memory", "80"], "memory=80 has no unit: write 80GiB or 80GB"),
        (["toy", "--memory", "80GX"], "GX in memory=80GX is no unit"),
        (["toy", "--memory", "80GiB", "--reserve", "2"], "reserve=2 has no unit"),
        (["toy", "batch=1,8", "--memory", "80GiB"], "batch has 2 values and fit takes one"),
        (["toy", "memory=80GiB"], "memory is no KEY of a model: write --memory"),
        (["toy", "optimizer=sgd", "--memory", "80GiB"], "write --optimizer"),
        (["toy", "--memory", "80GiB", "-o", "fit.txt"], "should end in .json, .csv, .md"),
    ],
)
def test_a_slip_is_told_before_anything_is_traced(engine, capsys, arguments, said):
    assert main(["fit", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert not hasattr(engine, "model")


# -- what it says ----------------------------------------------------------------------------------


def test_the_answer_is_a_page(engine, capsys):
    engine.found = small_fit(levers=small_levers())
    assert main(["fit", "toy", "--memory", "4KiB"]) == 0
    printed = capsys.readouterr()
    assert "batch=4 is the largest that fits 4.000 KiB" in printed.out
    assert "largest batch" in printed.out
    assert printed.err == ""


def test_notes_go_to_stderr_unless_quiet(engine, capsys):
    engine.found = small_fit(peak_reserved=4_200)
    assert main(["fit", "toy", "--memory", "4KiB", "--json"]) == 0
    printed = capsys.readouterr()
    assert "would reserve" in printed.err
    assert json.loads(printed.out)["peak_reserved"] == 4_200
    main(["fit", "toy", "--memory", "4KiB", "--json", "-q"])
    assert capsys.readouterr().err == ""


def test_a_log_has_a_line_where_it_takes_long(engine, capsys, monkeypatch):
    monkeypatch.setattr(progress, "BETWEEN_LINES_S", 0.0)
    assert main(["fit", "toy", "--memory", "4KiB"]) == 0
    assert capsys.readouterr().err == "flopratio: fitting toy: batch=4: 3.906 KiB\n"
    assert main(["fit", "toy", "--memory", "4KiB", "-v"]) == 0
    assert capsys.readouterr().err == "batch=4: 3.906 KiB\n"
    assert main(["fit", "toy", "--memory", "4KiB", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_the_allocator_is_told_of_once(engine, capsys, tmp_path):
    engine.found = small_fit(peak_reserved=4_200)
    assert main(["fit", "toy", "--memory", "4KiB"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("would reserve") == 1
    assert printed.err == ""
    for name in ("fit.md", "fit.html"):
        assert main(["fit", "toy", "--memory", "4KiB", "-q", "-o", str(tmp_path / name)]) == 0
        read, _, _ = (tmp_path / name).read_text().partition("<script")
        assert read.count("would reserve") == 1


def test_what_does_not_fit_fails(engine, capsys):
    engine.found = nothing_fits()
    assert main(["fit", "toy", "--memory", "512B", "--json", "-q"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["largest"] == 0
    assert printed.err.count("\n") == 1
    assert "does not fit 512 B: batch=1 needs 1,000 B" in printed.err


def test_verbose_names_each_trace(engine, capsys):
    main(["fit", "toy", "--memory", "4KiB", "-v"])
    assert "batch=4: 3.906 KiB" in capsys.readouterr().err


@pytest.mark.parametrize("extension", [".json", ".csv", ".md"])
def test_a_file_by_its_extension(engine, tmp_path, capsys, extension):
    path = tmp_path / f"fit{extension}"
    arguments = ["fit", "toy", "--memory", "4KiB", "-o", str(path)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == ""
    written = path.read_text()
    assert "toy" in written
    assert main(arguments) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert path.read_text() == written


def test_help_and_slips_come_without_torch():
    script = (
        "import sys; from flopratio.cli import main; main(['fit', '--help']);"
        "main(['fit', 'mlp', '--memory', '80']);"
        "sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
