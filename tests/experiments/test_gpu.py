"""``make gpu``, rehearsed on the CPU: its stages end, their files are there, they resume, and are
drawn; a CPU's rows are kept out of results/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.gpu import counters, environment, results, roofs, smoke, sweep, zoo
from experiments.gpu.__main__ import STAGES, main
from experiments.gpu.cases import Case
from experiments.gpu.kernels import KERNELS
from experiments.gpu.rows import Renew, Run, read_rows, run_rows
from flopratio.errors import UsageError
from flopratio.hardware import DeviceProfile
from flopratio.verbs.traced import trace_step

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of rehearsed stages, with roofs that nobody measured."""
    folder = tmp_path_factory.mktemp("gpu")
    environment.keep(folder, environment.surroundings(CPU, small=True))
    flops = {"float32": 1e11, "bfloat16": 2e11}
    made_up = DeviceProfile("a processor", "cpu", flops, 1e10, 1e-6)
    (folder / roofs.NAME).write_text(made_up.to_json())
    run = Run(folder, CPU, small=True)
    for stage in (smoke, sweep, zoo, counters):
        assert stage.run(run)
    return folder


def test_every_row_of_the_rehearsal_is_there(brought: Path) -> None:
    smoked = read_rows(brought / "smoke.csv")
    assert [row["step"] for row in smoked] == [c.name for c in smoke.CASES if c.name in smoke.SMALL]
    for row in smoked:
        assert (row["operators"], row["flops_equal"], row["saved_equal"]) == ("0", "True", "True")
        assert row["predicted"] == row["executed"] != "0"
    swept = read_rows(brought / "sweep.csv")
    assert len(swept) == sum(
        len(sweep.plan_of(d, device="none", small=True).points) for d in sweep.DTYPES
    )
    assert all(row["executed_equal"] == "True" and float(row["forward_ms"]) > 0 for row in swept)
    timed = read_rows(brought / "zoo.csv")
    assert len(timed) == len(zoo.SMALL) * len(zoo.PRECISIONS)
    for row in timed:
        assert row["reconciled"] == "True"
        for column in ("attributed", "forward_ms", "kernels_ms", "predicted_step_ms"):
            assert float(row[column]) > 0
        assert json.loads(row["explanation"])["flop_ratio"] == float(row["flop_ratio"])
    assert {row["status"] for row in (*smoked, *swept, *timed)} == {"ok"}
    assert {row["device"] for row in (*smoked, *swept, *timed)} == {"cpu"}


def test_the_cpu_has_no_counters_and_says_so(brought: Path) -> None:
    rows = {row["kernel"]: row for row in read_rows(brought / "counters.csv")}
    assert rows.keys() == KERNELS.keys()
    assert {row["status"] for row in rows.values()} == {"left out"}
    assert all("GPU" in row["reason"] and not row["counted"] for row in rows.values())
    product = 2 * 512**3
    assert int(rows["product bfloat16"]["ledger"]) == product
    assert int(rows["product float32, backward"]["ledger"]) == 3 * product
    attention = 2 * 2 * 4 * 8 * 512 * 512 * 64
    assert int(rows["attention bfloat16, backward"]["ledger"]) == 7 * attention // 2


def test_a_second_run_has_nothing_to_do(brought: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in brought.iterdir()}

    def never(*_: object) -> Any:
        raise AssertionError

    for module, name in ((smoke, "compared"), (sweep, "_row"), (zoo, "timed"), (counters, "_row")):
        monkeypatch.setattr(module, name, never)
        assert module.run(Run(brought, CPU, small=True))
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == before


def test_results_are_drawn_and_judged(brought: Path, tmp_path: Path) -> None:
    judged = results.collect(brought, tmp_path)
    assert json.loads((tmp_path / "claims.json").read_text()) == judged
    names = {claim["claim"].partition(":")[0] for claim in judged}
    assert {"sweep in float32", "sweep in bfloat16"} < names
    assert {"zoo.png", "zoo.svg", "claims.md", "smoke.csv"} <= {p.name for p in tmp_path.iterdir()}
    for dtype in sweep.DTYPES:
        assert (tmp_path / dtype / "share_of_step.png").exists()
    held = {claim["claim"]: claim["holds"] for claim in judged}
    assert held["executed operators are those of the fake trace, in its order"]
    assert "times of the layers sum to the profiler's time in kernels" in held
    assert "without TF32" in (tmp_path / "claims.md").read_text()


@pytest.mark.parametrize("folder", ["h200", "cpu", "elsewhere"])
def test_rows_of_a_cpu_are_kept_out_of_the_results(brought: Path, folder: str) -> None:
    target = results.RESULTS / folder
    had = sorted(target.rglob("*"))
    with pytest.raises(UsageError, match="these are of cpu: choose another folder"):
        results.collect(brought, target)
    assert sorted(target.rglob("*")) == had


def test_rows_of_a_cpu_are_kept_out_of_a_folder_named_after_a_gpu(
    brought: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="takes rows of a GPU of that name"):
        results.collect(brought, tmp_path / "H200")


def test_the_results_of_a_gpu_go_into_its_folder() -> None:
    rows = {"zoo": [{"device": "NVIDIA H200"}]}
    results.check_target(results.RESULTS / "h200", {"gpu": "NVIDIA H200"}, rows)
    with pytest.raises(UsageError, match="NVIDIA H200"):
        results.check_target(results.RESULTS / "a100", {"gpu": "NVIDIA H200"}, rows)
    with pytest.raises(UsageError, match="these are of cpu"):
        results.check_target(
            results.RESULTS / "h200", {"gpu": "NVIDIA H200"}, {"zoo": [{"device": "cpu"}]}
        )


# -- a difference ---------------------------------------------------------------------------------


def test_operators_that_a_prediction_has_otherwise_are_rows() -> None:
    case = Case("gpt", "experiments.gpu.networks:gpt", {"depth": 1}, {"amp": "bf16"})
    same = smoke.calls(trace_step(case.predicted("cpu")).recording)
    assert list(smoke.differences(same, list(same))) == []
    on_cuda = smoke.calls(trace_step(case.predicted("cuda")).recording)
    rows = list(smoke.differences(on_cuda, same))
    attention = [row for row in rows if "attention_for_cpu" in row["executed"]]
    assert [row["phase"] for row in attention] == ["forward", "grad_input"]
    assert all(row["layer"] == "blocks.0.attention" for row in attention)
    # A call that one side has more, and one of another dtype.
    more = [*same[:3], smoke.Call("loss", "forward", "aten.tanh.default()"), *same[3:]]
    (row,) = smoke.differences(same, more)
    assert (row["position"], row["predicted"], row["executed"]) == (3, "", "aten.tanh.default()")
    other = [call._replace(text=call.text.replace("bfloat16", "float32")) for call in same]
    changed = sum("bfloat16" in call.text for call in same)
    assert len(list(smoke.differences(same, other))) >= changed > 0


# -- rows -----------------------------------------------------------------------------------------


def work(log: list[str], **outcomes: Exception | int) -> Iterator[Any]:
    for name, outcome in outcomes.items():

        def measure(name: str = name, outcome: Exception | int = outcome) -> Any:
            log.append(name)
            if isinstance(outcome, Exception):
                raise outcome
            return [{"figure": outcome}]

        yield (name,), measure


def test_a_row_that_fails_is_written_and_the_rest_goes_on(tmp_path: Path) -> None:
    log: list[str] = []
    failure = RuntimeError("no such file: /home/somebody/model.py\nand more")
    assert run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=failure, c=3))
    rows = read_rows(tmp_path / "t.csv")
    assert [(row["k"], row["figure"], row["status"]) for row in rows] == [
        ("a", "1", "ok"),
        ("b", "", "failed"),
        ("c", "3", "ok"),
    ]
    assert rows[1]["reason"] == "RuntimeError: no such file: model.py"
    # None of them runs again; on demand the one that failed does.
    assert run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=2, c=3, d=4))
    assert log == ["a", "b", "c", "d"]
    again = Run(tmp_path, CPU, again=True)
    assert run_rows(again, "t", ("k",), ("figure",), work(log, a=1, b=2, c=3, d=4))
    assert log[4:] == ["b"]
    assert {row["k"]: row["status"] for row in read_rows(tmp_path / "t.csv")} == dict.fromkeys(
        "abcd", "ok"
    )
    assert not (tmp_path / "running.json").exists()


def test_a_line_that_was_cut_off_runs_again(tmp_path: Path) -> None:
    log: list[str] = []
    run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=2))
    path = tmp_path / "t.csv"
    path.write_text(path.read_text()[:-5])
    run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=2))
    assert log == ["a", "b", "b"]
    assert [row["k"] for row in read_rows(path)] == ["a", "b"]


def test_a_row_that_ended_the_process_is_not_run_again(tmp_path: Path) -> None:
    log: list[str] = []
    (tmp_path / "running.json").write_text('["t", "b"]')
    assert run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=2, c=3))
    assert log == ["a", "c"]
    (row,) = (row for row in read_rows(tmp_path / "t.csv") if row["k"] == "b")
    assert row["status"] == "failed"
    assert "the process ended in the midst of it" in row["reason"]


def test_a_kernel_that_fails_leaves_the_rest_to_another_process(tmp_path: Path) -> None:
    log: list[str] = []
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(Renew):
        run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=broken, b=2))
    assert run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=2))
    assert log == ["a", "b"]


def test_no_row_is_begun_that_has_no_time(tmp_path: Path) -> None:
    now = iter(range(0, 1000, 10))  # every look at the clock is ten seconds later
    log: list[str] = []
    run = Run(tmp_path, CPU, seconds=75, clock=lambda: next(now))
    assert not run_rows(run, "t", ("k",), ("figure",), work(log, a=1, b=2, c=3, d=4))
    assert log == ["a", "b"]
    assert run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work(log, a=1, b=2, c=3, d=4))
    assert log == ["a", "b", "c", "d"]


def test_a_folder_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    found = {"device": "cuda", "gpu": "NVIDIA H200", "torch": "2.11.0"}
    environment.keep(tmp_path, found)
    environment.keep(tmp_path, found)
    with pytest.raises(UsageError, match=r"of gpu=NVIDIA H200, not NVIDIA A100: choose another"):
        environment.keep(tmp_path, {**found, "gpu": "NVIDIA A100"})
    (tmp_path / "t.csv").write_text("other\n1\n")
    with pytest.raises(UsageError, match="other columns"):
        run_rows(Run(tmp_path, CPU), "t", ("k",), ("figure",), work([], a=1))


def test_every_stage_is_there_and_a_wrong_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(STAGES) == {"smoke", "memory", "sweep", "roofs", "zoo", "counters"}
    assert main(["--stage", "smoke,zooo"]) == 2
    assert "not zooo" in capsys.readouterr().err
    assert len(zoo.ZOO) >= 25
    assert len(smoke.CASES) >= 10
