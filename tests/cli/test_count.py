"""``flopratio count``: what it prints, writes and returns."""

import csv
import json
import subprocess
import sys

import pytest

from flopratio.cli import main
from flopratio.hardware import DeviceProfile
from flopratio.ledger import Ledger, Mismatch
from flopratio.verbs import count as counting
from tests.report.small import small_ledger

MLP = ["count", "mlp", "depth=2", "width=4", "input=3", "classes=2", "batch=8"]
"""Products of [8, 3] by [3, 4], [8, 4] by [4, 4], [8, 4] by [4, 2]: 192, 256, 128 FLOP."""


@pytest.fixture
def engine(monkeypatch):
    """A counter that gives :attr:`ledger` and remembers what it was asked for."""

    class Engine:
        def __init__(self) -> None:
            self.ledger = small_ledger()

        def count(self, model, batch, settings, options):
            self.model, self.words = model, {**settings, **options.as_dict()}
            return self.ledger

    engine = Engine()
    monkeypatch.setattr(counting, "count_step", engine.count)
    return engine


# -- a network that is really counted --------------------------------------------------------------


def test_json_is_the_ledgers_document(capsys):
    assert main([*MLP, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flopratio.ledger/1"
    assert document["settings"]["depth"] == 2
    assert document["reconciled"] is True
    assert document["flops"]["forward"] == 192 + 256 + 128
    assert document["flops"]["backward"] == 192 + 2 * (256 + 128)
    assert "rows" not in document


def test_a_table_by_layer(capsys):
    assert main(MLP) == 0
    printed = capsys.readouterr().out
    first = next(line for line in printed.splitlines() if line.startswith("first.linear"))
    assert first.split()[:6] == ["first.linear", "Linear", "192", "0", "192", "1"]
    assert "reconciled  analytic = executed in all" in printed


def test_autograd_shows_the_two_products_of_a_linear_layer(capsys):
    assert main([*MLP, "--by", "autograd"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    names = [words[0] for words in lines if words]
    start = names.index("AddmmBackward0")
    end = names.index("TBackward0")
    products = next(words for words in lines if words and words[0] == "aten.mm")
    assert "aten.mm" in names[start:end]
    assert products == ["aten.mm", "5", "384", "576", "0", *products[5:]]


def test_an_update_is_shown_where_there_is_one(capsys):
    assert main([*MLP, "--optimizer", "sgd"]) == 0
    printed = capsys.readouterr().out
    parameters = 16 + 20 + 10
    assert "update" in printed.splitlines()[3]
    update = next(line.split() for line in printed.splitlines() if line.startswith("update "))
    assert update[:3] == ["update", "0", str(2 * parameters)]


def test_inference_has_no_backward(capsys):
    assert main([*MLP, "--inference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["flops"]["backward"] == 0


def test_a_loss_may_be_given_as_a_key(capsys):
    assert main([*MLP, "loss=mse", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["loss"] == "mse"


FACTORY = """
from torch import nn
def net(freeze=False, loss="none", width=4):
    return nn.Linear(8, 2 * width if freeze else width)
def plain(width=4):
    return nn.Linear(8, width)
"""


def test_arguments_of_a_factory_may_be_called_as_options_are(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    words = ["freeze=true", "loss=mine", "batch=2", "--freeze", "weight", "--json"]
    assert main(["count", f"{path}:net", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["flops"]["forward"] == 2 * 2 * 8 * (2 * 4)
    assert document["flops"]["grad_weight"] == 0
    assert (document["settings"]["freeze"], document["settings"]["loss"]) == (True, "mine")
    assert (document["convention"]["freeze"], document["convention"]["loss"]) == ("weight", "auto")
    assert main(["count", f"{path}:plain", "freeze=true"]) == 2
    assert "freeze is no KEY of a model: write --freeze" in capsys.readouterr().err
    assert main(["count", f"{path}:plane", "freeze=true"]) == 2
    assert "has no 'plane': did you mean 'plain'" in capsys.readouterr().err


# -- what is asked for -----------------------------------------------------------------------------


def test_options_reach_the_engine(engine, capsys):
    words = "--loss sum --optimizer adam --dtype float64 --amp bf16 --freeze a.* --checkpoint b.*"
    more = "--accumulate 4 --attention flash --causal half --input-grad --target cpu"
    more += " --optimizer-implementation fused --weight-decay 0.1"
    sizes = ["batch=8", "image=3x8x8", "shared=true"]
    assert main(["count", "toy:net", *sizes, *words.split(), *more.split()]) == 0
    assert engine.model == "toy:net"
    assert engine.words == {
        "batch": 8,
        "image": (3, 8, 8),
        "shared": True,
        "loss": "sum",
        "optimizer": "adam",
        "optimizer_implementation": "fused",
        "weight_decay": 0.1,
        "dtype": "float64",
        "amp": "bf16",
        "freeze": "a.*",
        "checkpoint": "b.*",
        "accumulate": 4,
        "attention": "flash",
        "causal": "half",
        "input_grad": True,
        "inference": False,
        "target": "cpu",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "count what? name a MODEL"),
        (["batch=8"], "count what? name a MODEL"),
        (["toy", "batch=1,8"], "batch has 2 values and count takes one: flopratio sweep"),
        (["toy", "optimizer=sgd"], "optimizer is no KEY of a model: write --optimizer"),
        (["toy", "input_grad=true"], "write --input-grad"),
        (["toy", "model=toy"], "model is no KEY of a model"),
        (["toy", "loss=mse", "--loss", "sum"], "the loss is given twice"),
        (["toy", "--by", "lair"], "did you mean 'layer'?"),
        (["toy", "--sort", "forwrd"], "did you mean 'forward'?"),
        (["toy", "--top", "-1"], "--top"),
        (["toy", "--depth", "-1"], "--depth"),
        (["toy", "--accumulate", "0"], "--accumulate"),
        (["toy", "-o", "ledger.txt"], "should end in .json, .csv, .md"),
    ],
)
def test_a_slip_is_told_before_anything_is_counted(engine, capsys, arguments, said):
    assert main(["count", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert not hasattr(engine, "model")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mpl"], "did you mean 'mlp'?"),
        (["mlp", "dept=3"], "did you mean 'depth'?"),
        (["mlp", "batch=0"], "batch"),
        (["mlp", "--optimizer", "sdg"], "sgd"),
        (["mlp", "--amp", "bf61"], "bf16"),
        (["mlp", "--attention", "flush"], "flash"),
        (["mlp", "--freeze", "nothing"], "matches no module or parameter"),
    ],
)
def test_a_slip_that_the_engine_finds_is_one_sentence_too(capsys, arguments, said):
    assert main(["count", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


# -- what is shown ---------------------------------------------------------------------------------


def names(printed):
    """The first words of the table's lines."""
    lines = printed.splitlines()
    rules = [n for n, line in enumerate(lines) if line.startswith("──")]
    return [line.split()[0] for line in lines[rules[0] + 1 : rules[1]]]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], ["stem.conv", "stem.relu", "head"]),
        (["--sort", "saved_bytes"], ["stem.relu", "head", "stem.conv"]),
        (["--depth", "1"], ["stem", "head"]),
        (["--top", "2"], ["stem.conv", "stem.relu"]),
        (["--by", "type", "--top", "1"], ["Conv2d"]),
        (["--by", "phase"], ["forward", "grad_input", "grad_weight"]),
    ],
)
def test_views(engine, capsys, arguments, shown):
    assert main(["count", "toy", *arguments]) == 0
    assert names(capsys.readouterr().out) == shown


def test_forty_lines_are_enough_unless_all_are_asked_for(engine, capsys):
    (row, *_) = engine.ledger.rows
    engine.ledger = Ledger([row._replace(layer=f"layer{n}") for n in range(45)])
    main(["count", "toy"])
    printed = capsys.readouterr().out
    assert len(names(printed)) == 40
    assert "… and 5 more layers (--top 0 for all)" in printed
    main(["count", "toy", "--top", "0"])
    assert len(names(capsys.readouterr().out)) == 45


def test_macs_halve_the_table(engine, capsys):
    main(["count", "toy", "--macs"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["phase", "MMAC", "kFLOP"] in [words[:3] for words in lines]
    assert ["forward", "2.750", "3.010"] in [words[:3] for words in lines]


def test_macs_do_not_change_documents(engine, capsys):
    main(["count", "toy", "--macs", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["flops"]["forward"] == 5_500_000
    assert "these are FLOP" in printed.err


def test_exact_figures(engine, capsys):
    main(["count", "toy", "--exact"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["forward", "5,500,000", "3,010"] in [words[:3] for words in lines]


def test_a_pipe_gets_whole_lines_without_colour(engine, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "transformer.layers.11.attention.self.query.projection"
    row = engine.ledger.rows[0]
    engine.ledger = Ledger([row._replace(layer=name)] * 2)
    main(["count", "toy"])
    printed = capsys.readouterr().out
    assert names(printed) == [name]
    assert "\x1b" not in printed


def test_a_terminal_is_not_overrun(engine, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    main(["count", "toy"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


# -- files -----------------------------------------------------------------------------------------


def test_a_file_takes_the_place_of_the_table(engine, capsys, tmp_path):
    path = tmp_path / "ledger.csv"
    assert main(["count", "toy", "-o", str(path)]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"{path}\n")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == len(engine.ledger.rows)


def test_a_file_gets_all_lines(engine, tmp_path):
    (row, *_) = engine.ledger.rows
    engine.ledger = Ledger([row._replace(layer=f"layer{n}") for n in range(45)])
    main(["count", "toy", "-o", str(tmp_path / "ledger.md")])
    assert "layer44" in (tmp_path / "ledger.md").read_text()


def test_a_file_and_json(engine, capsys, tmp_path):
    path = tmp_path / "ledger.json"
    assert main(["count", "toy", "--json", "-o", str(path)]) == 0
    assert "rows" not in json.loads(capsys.readouterr().out)
    assert "rows" in json.loads(path.read_text())


def test_what_is_there_stays(engine, capsys, tmp_path):
    path = tmp_path / "ledger.json"
    path.write_text("mine")
    assert main(["count", "toy", "-o", str(path)]) == 2
    assert path.read_text() == "mine"
    assert not hasattr(engine, "model")
    assert main(["count", "toy", "-o", str(path), "--force"]) == 0
    assert Ledger.from_json(path.read_text()).rows == engine.ledger.rows


def test_an_error_writes_nothing(tmp_path, capsys):
    assert main(["count", "mlp", "batch=0", "-o", str(tmp_path / "ledger.json")]) == 2
    assert list(tmp_path.iterdir()) == []


# -- exit codes and notes --------------------------------------------------------------------------


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_an_operator_without_formula_fails_a_strict_count(engine, capsys, strict, code):
    engine.ledger.uncounted_ops = {"aten.foo": 2}
    assert main(["count", "toy", *strict]) == code
    assert "no formula for aten.foo (2 calls)" in capsys.readouterr().out
    assert main(["count", "toy", "--json", *strict]) == code
    printed = capsys.readouterr()
    assert json.loads(printed.out)["uncounted_ops"] == ["aten.foo"]
    assert "there is no formula for aten.foo" in printed.err


def test_strict_without_such_an_operator_is_fine(engine):
    assert main(["count", "toy", "--strict"]) == 0


def test_a_disagreement_fails(engine, capsys):
    engine.ledger.mismatches = [Mismatch("head", "grad_input", 1, 2, ("MmBackward0",))]
    assert main(["count", "toy"]) == 1
    printed = capsys.readouterr()
    assert "head grad_input: 1 by the law, 2 executed in MmBackward0" in printed.out
    assert "counts differ in 1 layer" in printed.err


def test_quiet_says_what_fails_and_no_more(engine, capsys):
    engine.ledger.uncounted_ops = {"aten.foo": 2}
    main(["count", "toy", "--json", "-q"])
    assert capsys.readouterr().err == ""
    main(["count", "toy", "--json", "-q", "--strict"])
    assert "aten.foo" in capsys.readouterr().err


def test_verbose_says_how_many_operators_there_were(engine, capsys):
    main(["count", "toy", "-v"])
    assert "10 rows" in capsys.readouterr().err


def test_help_and_slips_come_without_torch():
    script = (
        "import sys; from flopratio.cli import main; main(['count', '--help']);"
        "main(['count', 'mlp', '--by', 'lair']);"
        "sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


# -- memory ----------------------------------------------------------------------------------------


def test_timeline_and_memory_trace_are_written_and_named(tmp_path, capsys):
    files = [tmp_path / name for name in ("t.svg", "m.json")]
    assert main([*MLP, "--timeline", str(files[0]), "--memory-trace", str(files[1]), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["memory"]["peak"] > 0
    assert [line for line in err.splitlines() if line.startswith(str(tmp_path))] == [
        str(path) for path in files
    ]
    assert "of the peak are" in files[0].read_text()
    assert json.loads(files[1].read_text())["traceEvents"]


@pytest.mark.parametrize("option", ["--timeline", "--memory-trace"])
def test_memory_files_are_checked_before_anything_is_counted(option, engine, tmp_path, capsys):
    there = tmp_path / {"--timeline": "t.png", "--memory-trace": "m.json"}[option]
    there.write_text("kept")
    assert main(["count", "toy:net", option, str(there)]) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert main(["count", "toy:net", option, str(tmp_path / "t.gif")]) == 2
    assert "ends in .gif: it should end in " in capsys.readouterr().err
    assert there.read_text() == "kept"
    assert not hasattr(engine, "model")


# -- predicted times -------------------------------------------------------------------------------


@pytest.fixture
def roofs(tmp_path):
    """A device's measured roofs, in a file; its processor's, unless told otherwise."""

    def written(device: str = "cpu"):
        path = tmp_path / f"{device}.json"
        rates = {"float32": 1e9, "bfloat16": 2e9}
        path.write_text(DeviceProfile("a device", device, rates, 1e9, 1e-6).to_json())
        return str(path)

    return written


def test_roofline_predicts_and_explains(roofs, capsys):
    assert main([*MLP, "--optimizer", "adamw", "--roofline", roofs()]) == 0
    printed = capsys.readouterr().out
    assert "predicted on a device (cpu)" in printed
    assert "why the predicted ratio is not that of FLOPs" in printed


def test_roofline_is_in_the_document(roofs, capsys):
    assert main([*MLP, "--roofline", roofs(), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    predicted = document["predicted"]
    assert predicted["device"] == "a device"
    assert predicted["explanation"]["flop_ratio"] == document["ratio"]["backward_to_forward"]
    parts = sum(reason["contribution"] for reason in predicted["explanation"]["reasons"])
    difference = predicted["time_ratio"] - predicted["explanation"]["flop_ratio"]
    assert parts == pytest.approx(difference, rel=1e-9)
    assert "rows" not in document


@pytest.mark.parametrize("extension", ["json", "csv", "md", "html"])
def test_roofline_is_in_every_file(roofs, tmp_path, extension):
    path = tmp_path / f"ledger.{extension}"
    assert main([*MLP, "--roofline", roofs(), "-o", str(path)]) == 0
    assert "predicted" in path.read_text()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_roofline_takes_the_kernels_of_its_device(roofs, engine, device):
    assert main(["count", "toy:net", "--roofline", roofs(device), "-q"]) == 0
    assert engine.words["target"] == device
    assert main(["count", "toy:net", "--roofline", roofs(device), "--target", "H100-80GB"]) == 0
    assert engine.words["target"] == "H100-80GB"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("tpu", "no device 'tpu' is known; cpu and cuda"),
        ("no/such.json", "no/such.json: No such file or directory"),
        ("cuda:99", "the roofs of cuda:99 can't be measured"),
    ],
)
def test_roofline_of_no_device_is_one_sentence_before_anything_is_counted(
    engine, capsys, device, said
):
    assert main(["count", "toy:net", "--roofline", device]) == 2
    assert said in capsys.readouterr().err
    assert not hasattr(engine, "words")


def test_roofline_of_inference_has_times_and_no_ratio(roofs, capsys):
    assert main([*MLP, "--inference", "--roofline", roofs(), "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)["predicted"]
    assert predicted["time_ms"]["forward"] > 0
    assert (predicted["time_ratio"], predicted["explanation"]) == (None, None)
