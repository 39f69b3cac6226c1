"""Counters of executed instructions, as Nsight Compute writes them, turned into FLOP."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from flopratio.errors import UsageError
from flopratio.measure import counters
from flopratio.measure.counters import executed, parse, why_not

THREAD = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
BF16 = "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
GMMA = "sm__inst_executed_pipe_tensor_op_gmma.sum"
HEADER = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size",'
    '"Grid Size","Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"'
)


def line(launch, kernel, metric, value, process=7):
    return (
        f'"{launch}","{process}","python3.12","127.0.0.1","{kernel}","1","7","(384, 1, 1)",'
        f'"(132, 1, 1)","0","9.0","Command line profiler metrics","{metric}","inst","{value}"'
    )


def report(*lines):
    """What ends in the log of ``ncu --csv``: its remarks, then the table."""
    begin = ["==PROF== Connected to process 7", "==PROF== Profiling: 0%....50%....100% - 4 passes"]
    return "\n".join([*begin, HEADER, *lines, "==PROF== Disconnected from process 7", ""])


def test_an_fma_is_two_flop_and_threads_are_counted_one_by_one():
    """C[128, 128] = A[128, 64] B[64, 128] in float32: 128 * 128 * 64 FMA, each result scaled."""
    found = parse(
        report(
            line(0, "ampere_sgemm_128x64_nn", THREAD.format("ffma"), "1,048,576"),
            line(0, "ampere_sgemm_128x64_nn", THREAD.format("fmul"), "16,384"),
            line(0, "ampere_sgemm_128x64_nn", THREAD.format("fadd"), "0"),
            line(0, "ampere_sgemm_128x64_nn", BF16, "0"),
        )
    )
    (kernel,) = found.kernels
    assert kernel.name == "ampere_sgemm_128x64_nn"
    assert kernel.flops == {"float32": 2 * 1_048_576 + 16_384}
    assert found.flops == 2 * 128 * 128 * 64 + 128 * 128
    assert (kernel.not_converted, kernel.unread) == ({}, ())


def test_operations_of_tensor_cores_are_flop_already():
    """1024³ in bfloat16; the counted instructions are of any size, and add nothing."""
    found = parse(
        report(
            line(0, "nvjet_sm90_tst_128x128_64x5", BF16, "2,147,483,648"),
            line(0, "nvjet_sm90_tst_128x128_64x5", GMMA, "8,192"),
            line(0, "nvjet_sm90_tst_128x128_64x5", THREAD.format("fmul"), "1,048,576"),
        )
    )
    assert found.kernels[0].flops == {"tensor bf16": 2 * 1024**3, "float32": 1024**2}
    assert found.not_converted == {}


def test_doubles_and_pairs():
    found = parse(
        report(
            line(0, "k", THREAD.format("dfma"), "10"),
            line(0, "k", THREAD.format("dadd"), "3"),
            line(0, "k", THREAD.format("ffma2"), "10"),
            line(0, "k", THREAD.format("fadd2"), "1"),
            line(0, "k", "sm__ops_path_tensor_src_fp64.sum", "100"),
            line(0, "k", "sm__ops_path_tensor_src_tf32_dst_fp32.sum", "200"),
            line(0, "k", "sm__ops_path_tensor_src_fp16.sum", "400"),
        )
    )
    assert found.by_unit == {
        "float64": 2 * 10 + 3,
        "float32": 4 * 10 + 2 * 1,
        "tensor fp64": 100,
        "tensor tf32": 200,
        "tensor fp16": 400,
    }


def test_what_cannot_be_converted_is_named():
    half = THREAD.format("hfma")
    found = parse(
        report(
            line(0, "gelu", half, "512"),
            line(0, "gelu", THREAD.format("hadd"), "0"),
            line(1, "wmma", "sm__inst_executed_pipe_tensor_op_hmma.sum", "64"),
            line(1, "wmma", BF16, "0"),
            line(2, "gelu", half, "8"),
        )
    )
    assert found.flops == 0
    assert found.not_converted == {
        half.removesuffix(".sum"): 520,
        "sm__inst_executed_pipe_tensor_op_hmma": 64,
    }


@pytest.mark.parametrize("nothing", ["n/a", "no data", ""])
def test_a_counter_without_a_value_is_named(nothing):
    found = parse(report(line(0, "k", BF16, nothing), line(0, "k", THREAD.format("ffma"), "2")))
    assert found.unread == [BF16.removesuffix(".sum")]
    assert found.flops == 4


def test_launches_of_several_processes_are_apart():
    found = parse(
        report(
            line(0, "a(int, int)", THREAD.format("fadd"), "1"),
            line(0, "b", THREAD.format("fadd"), "2", process=8),
            line(1, "a(int, int)", THREAD.format("fadd"), "3"),
        )
    )
    assert [(kernel.name, kernel.flops) for kernel in found.kernels] == [
        ("a(int, int)", {"float32": 1}),
        ("b", {"float32": 2}),
        ("a(int, int)", {"float32": 3}),
    ]


def test_no_kernel():
    assert parse("==PROF== Connected\n==WARNING== No kernels were profiled.\n").kernels == []


@pytest.mark.parametrize("value", ["1.5", "many", "1e3e"])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(UsageError, match="Nsight Compute counted"):
        parse(report(line(0, "k", BF16, value)))


LISTING = """
Device NVIDIA H200 (GH100)
-------------------------------------------------------- ------------ ---------- -------------
Metric Name                                              Metric Type  Unit       Description
-------------------------------------------------------- ------------ ---------- -------------
dram__bytes                                              Counter      byte       # of bytes
sm__inst_executed_pipe_tensor_op_gmma                    Counter      inst       # of warp
sm__ops_path_tensor_op_hgmma_src_bf16_dst_fp32_sparsity_off Counter              # of math ops
sm__ops_path_tensor_src_bf16_dst_fp32                    Counter                 # of math ops
sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_off       Counter                 # of math ops
sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_on        Counter                 # of math ops
sm__ops_path_tensor_src_fp16                             Counter                 # of math ops
sm__ops_path_tensor_src_fp16_dst_fp16                    Counter                 # of math ops
sm__ops_path_tensor_src_fp16_dst_fp32_sparsity_on        Counter                 # of math ops
sm__ops_path_tensor_src_fp8_sparsity_off                 Counter                 # of math ops
sm__ops_path_tensor_src_fp8_sparsity_on                  Counter                 # of math ops
sm__ops_path_tensor_src_int8                             Counter                 # of math ops
smsp__sass_thread_inst_executed_op_ffma_pred_on          Counter      inst       # of FFMA
"""

ON_SM90 = [
    "sm__inst_executed_pipe_tensor_op_gmma",
    "sm__ops_path_tensor_src_bf16_dst_fp32",
    "sm__ops_path_tensor_src_fp16",
    "sm__ops_path_tensor_src_fp8_sparsity_off",
    "sm__ops_path_tensor_src_fp8_sparsity_on",
    *(f"smsp__sass_thread_inst_executed_op_{name}_pred_on" for name in ("dadd", "dfma", "dmul")),
    *(f"smsp__sass_thread_inst_executed_op_{name}_pred_on" for name in ("fadd", "ffma", "fmul")),
    *(f"smsp__sass_thread_inst_executed_op_{name}_pred_on" for name in ("hadd", "hfma", "hmul")),
]


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    """An Nsight Compute that says what the test wants, and keeps what it was asked for."""

    def install(csv="", exit_code=0, stdout="", listing=LISTING, sleep_s=0):
        script = tmp_path / "ncu"
        script.write_text(
            f"#!{sys.executable}\n"
            "import json, pathlib, sys, time\n"
            "asked = sys.argv[1:]\n"
            "if asked == ['--query-metrics']:\n"
            f"    print({listing!r})\n"
            "    sys.exit()\n"
            f"time.sleep({sleep_s})\n"
            f"pathlib.Path({str(tmp_path / 'asked.json')!r}).write_text(json.dumps(asked))\n"
            "log = pathlib.Path(asked[asked.index('--log-file') + 1])\n"
            f"log.write_text({csv!r})\n"
            f"print({stdout!r})\n"
            f"sys.exit({exit_code})\n"
        )
        script.chmod(0o755)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(counters, "_ncu", lambda: str(script))
        return tmp_path / "asked.json"

    return install


def test_a_program_is_run_under_nsight_compute(ncu):
    asked = ncu(report(line(0, "k", THREAD.format("ffma"), "21")))
    assert executed(["python", "-c", "pass"]).flops == 42
    options = json.loads(asked.read_text())
    assert options[-3:] == ["python", "-c", "pass"]
    metrics = options[options.index("--metrics") + 1].split(",")
    assert metrics == [f"{name}.sum" for name in ON_SM90]
    assert options[options.index("--profile-from-start") + 1] == "off"
    assert options[options.index("--clock-control") + 1] == "none"
    assert options[options.index("--print-units") + 1] == "base"


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            {"csv": "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission"},
            r"may not read this GPU's counters \(ERR_NVGPUCTRPERM\): run it as root",
        ),
        (
            {
                "csv": "==ERROR== Failed to initialize the profiler: LibraryNotLoaded",
                "exit_code": 1,
            },
            "failed with exit code 1: Failed to initialize the profiler: LibraryNotLoaded",
        ),
        ({"stdout": "ModuleNotFoundError: torch", "exit_code": 9}, "9: ModuleNotFoundError: torch"),
        ({"exit_code": 3}, "failed with exit code 3: it said nothing"),
        ({"csv": report()}, "saw no kernel: the program should run some between"),
        ({"listing": "dram__bytes  Counter"}, "lists no counter of tensor cores' operations"),
        ({"listing": ""}, "lists no counter of tensor cores' operations"),
    ],
)
def test_what_goes_wrong_is_one_sentence(ncu, says, message):
    ncu(**says)
    with pytest.raises(UsageError, match=message) as error:
        executed(["python"])
    assert "\n" not in str(error.value)


def test_a_program_that_does_not_end(ncu):
    ncu(sleep_s=60)
    with pytest.raises(UsageError, match="took longer than 2 s"):
        executed(["python"], timeout_s=2)


def test_an_nsight_compute_that_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(counters, "_ncu", lambda: "/nowhere/ncu")
    with pytest.raises(UsageError, match="can't be started: No such file or directory"):
        executed(["python"])


def test_without_a_gpu_it_says_that_it_can_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert why_not() == "hardware counters can't be read here, for there is no CUDA device"
    with pytest.raises(UsageError, match="there is no CUDA device"):
        executed(["python"])


def test_without_nsight_compute_it_says_that_it_can_not(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(counters.shutil, "which", lambda name: None)
    monkeypatch.setattr(counters, "INSTALLED", tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert "Nsight Compute is not installed" in why_not()
    with pytest.raises(UsageError, match="Nsight Compute is not installed"):
        executed(["python"])


def test_the_newest_nsight_compute_of_its_own_installer(monkeypatch, tmp_path):
    for version in ("2024.1.0", "2025.3.1"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "ncu").write_text("#!/bin/sh\n")
        (tmp_path / version / "ncu").chmod(0o755)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(counters.shutil, "which", lambda name: None)
    monkeypatch.setattr(counters, "INSTALLED", tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert counters._ncu() == str(tmp_path / "2025.3.1" / "ncu")
    assert why_not() is None
