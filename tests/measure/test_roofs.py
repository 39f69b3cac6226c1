"""The roofs of machines that are made up: a clock that each operator turns by what it takes."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from flopratio.errors import UsageError
from flopratio.hardware import DeviceProfile, device_profile, write
from flopratio.measure import roofs
from flopratio.measure.precision import (
    float32_matmul_precision,
    float32_products,
    tf32_in_products,
)
from flopratio.measure.roofs import measured_roofs, roofs_of, roofs_path
from flopratio.measure.stopwatch import Stopwatch

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FLOPRATIO_CACHE", str(folder))
    return folder


class Machine(TorchDispatchMode):
    """Computes nothing, allocates nothing, and takes the time that its roofs say.

    Args:
        flops_per_s: by dtype, and ``tf32``.
        ramp_s: what each product takes in addition: small ones are slow.
    """

    def __init__(self, flops_per_s, bytes_per_s=10e9, launch_s=3e-6, ramp_s=0.0) -> None:
        super().__init__()
        self.flops_per_s = flops_per_s
        self.bytes_per_s = bytes_per_s
        self.launch_s = launch_s
        self.ramp_s = ramp_s
        self.now_s = 0.0
        self.sizes: list[int] = []
        self.calls: Counter[str] = Counter()

    def clock(self) -> float:
        return self.now_s

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.calls[str(func)] += 1
        if func is aten.mm.out:
            (rows, inner), (_, columns) = (operand.shape for operand in args)
            dtype = str(args[0].dtype).removeprefix("torch.")
            if dtype == "float32" and tf32_in_products():
                dtype = "tf32"
            self.now_s += self.ramp_s + 2 * rows * inner * columns / self.flops_per_s[dtype]
            self.sizes.append(rows)
            return kwargs["out"]
        if func is aten.copy_.default:
            self.now_s += 2 * args[0].nbytes / self.bytes_per_s
            return args[0]
        if func is aten.add.Tensor:
            self.now_s += self.launch_s
            return args[0]
        if func is aten.randn.generator:
            return torch.empty(args[0], dtype=kwargs["dtype"], device="meta")
        if "device" in kwargs:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


CPU = {"float32": 100e9, "bfloat16": 200e9, "float16": 1e9, "float64": 50e9}


def test_roofs_of_a_cpu():
    with Machine(CPU) as machine:
        found = measured_roofs("cpu", clock=machine.clock)
    assert found.device == "cpu"
    assert found.flops_per_s == pytest.approx(CPU)
    assert found.bytes_per_s == pytest.approx(10e9)
    assert found.launch_s == pytest.approx(3e-6)
    assert found.environment["torch"] == torch.__version__
    assert found.environment["threads"] == torch.get_num_threads()
    assert found.environment["measured"].endswith("+00:00")
    assert "float32_matmul_precision" not in found.environment  # measuring sets it itself
    assert found.datasheet == {}
    assert machine.now_s < 10


def test_products_grow_until_the_ramp_is_a_small_part():
    """At 100 GFLOP/s, 1 ms apart: 256 is at 25%, 512 at 73%, 1024 at 96%, 2048 at 99%."""
    with Machine(CPU, ramp_s=1e-3) as machine:
        found = measured_roofs("cpu", clock=machine.clock)
    assert found.flops_per_s["float32"] == pytest.approx(100e9, rel=0.01)
    assert max(machine.sizes) == 2048  # float64's takes 0.34 s: the next one would take too long


def test_a_product_that_takes_long_is_not_yet_large_while_a_larger_one_is_faster():
    """At 100 GFLOP/s, 50 ms apart: all take long; 1024 is at 30%, 2048 at 77%, 4096 at 96%."""
    with Machine(dict.fromkeys(CPU, 100e9), ramp_s=50e-3) as machine:
        found = measured_roofs("cpu", clock=machine.clock)
    assert max(machine.sizes) == 4096
    assert found.flops_per_s == pytest.approx(dict.fromkeys(CPU, 100e9), rel=0.04)


def test_a_dtype_without_instructions_of_its_own_takes_no_minutes():
    with Machine({**CPU, "float16": 0.2e9}) as machine:
        found = measured_roofs("cpu", clock=machine.clock)
    assert found.flops_per_s["float16"] == pytest.approx(0.2e9)  # 256: 0.17 s; 512 would take 1.3
    assert machine.now_s < 10


def test_medians_of_several_repeats():
    class Interrupted(Machine):
        """Every third product waits for another program."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = super().__torch_dispatch__(func, types, args, kwargs)
            if func is aten.mm.out and len(self.sizes) % 3 == 0:
                self.now_s += 1.0
            return result

    with Interrupted(CPU) as machine:
        found = measured_roofs("cpu", clock=machine.clock)
    assert found.flops_per_s == pytest.approx(CPU)


def test_the_load_of_a_cpu_is_that_after_measuring(monkeypatch):
    """What else ran at the time is in an average that ends with it."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(roofs, "usable_cores", lambda: 4)
    with Machine(CPU) as machine:
        monkeypatch.setattr(os, "getloadavg", lambda: (machine.now_s, 0.0, 0.0))
        found = measured_roofs("cpu", clock=machine.clock)
        assert found.environment["load"] == machine.now_s > 0
        assert measured_roofs("cpu").environment == found.environment  # kept with the figures
        monkeypatch.setattr(roofs, "usable_cores", lambda: 3)  # the load is of all four
        fresh = measured_roofs("cpu", fresh=True, clock=machine.clock)
    assert fresh.environment["load"] is None


def test_a_second_time_nothing_is_measured(cache):
    told: list[str] = []
    with Machine(CPU) as machine:
        first = measured_roofs("cpu", clock=machine.clock, progress=told.append)
        assert "a large product in bfloat16" in told
        assert told[-2:] == ["a large copy", "small operators in a row"]
        told.clear()
        machine.calls.clear()
        assert measured_roofs("cpu", progress=told.append) == first
        assert (told, machine.calls) == ([], {})
        machine.flops_per_s = {name: 2 * rate for name, rate in CPU.items()}
        fresh = measured_roofs("cpu", fresh=True, clock=machine.clock)
        assert fresh.flops_per_s["float32"] == pytest.approx(200e9)
        assert measured_roofs("cpu") == fresh  # what is fresh is kept
    path = roofs_path("cpu")
    assert path.parent == cache / "devices"
    assert device_profile(str(path)) == fresh


def test_kept_for_this_number_of_threads_alone(monkeypatch):
    with Machine(CPU) as machine:
        measured_roofs("cpu", clock=machine.clock)
        path = roofs_path("cpu")
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
        assert roofs_path("cpu") != path
        machine.calls.clear()
        assert measured_roofs("cpu", clock=machine.clock).environment["threads"] == 77
        assert machine.calls["aten.mm.out"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "flopratio.device/9"}', "\0\xff"])
def test_a_broken_cache_is_measured_again_and_mended(text):
    path = roofs_path("cpu")
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    with Machine(CPU) as machine:
        found = measured_roofs("cpu", clock=machine.clock)
        assert machine.calls["aten.mm.out"]
    assert device_profile(str(path)) == found


def test_an_unwritable_cache_is_no_error(cache):
    cache.write_text("a file where the folder should be")
    with Machine(CPU) as machine:
        assert measured_roofs("cpu", clock=machine.clock).flops_per_s == pytest.approx(CPU)
    assert cache.read_text() == "a file where the folder should be"


def test_really_measured_and_left_as_found(monkeypatch):
    """Small and short, on the real CPU: random state, grad mode and precision are untouched."""
    monkeypatch.setattr(roofs, "LONGEST_PRODUCT_S", 0.0)
    monkeypatch.setattr(roofs, "BUDGET_S", 0.0)
    monkeypatch.setitem(roofs.COPIED_BYTES, "cpu", 1 << 16)
    before = torch.get_rng_state()
    precision = torch.backends.mkldnn.matmul if hasattr(torch.backends.mkldnn, "matmul") else None
    settings = float32_matmul_precision(), precision and precision.fp32_precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measured_roofs("cpu")
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert settings == (float32_matmul_precision(), precision and precision.fp32_precision)
    assert set(found.flops_per_s) == {"float32", "bfloat16", "float16", "float64"}
    assert min(*found.flops_per_s.values(), found.bytes_per_s, found.launch_s) > 0


class OnMeta(TorchFunctionMode):
    """What is asked for on any device is a meta tensor: torch starts CUDA before it dispatches."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if "device" in kwargs:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


class FakeGPU:
    """As much of CUDA as measuring asks for. Its time is a :class:`Machine`'s."""

    def __init__(self, monkeypatch) -> None:
        self.capability = (9, 0)
        self.free = 140 << 30
        self.driver: str | None = "580.1"
        for name, stand_in in {
            "is_available": lambda: True,
            "device_count": lambda: 2,
            "device": lambda device: nullcontext(),
            "get_device_name": lambda device: "NVIDIA H200",
            "get_device_capability": lambda device: self.capability,
            "mem_get_info": lambda device: (self.free, self.free),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        generator = torch.Generator
        monkeypatch.setattr(torch, "Generator", lambda device: generator())
        monkeypatch.setattr(roofs, "DeviceStopwatch", Stopwatch)
        monkeypatch.setattr(
            roofs, "machine", lambda device, switches: {"device": "cuda", "cuda": "13.0"}
        )
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command, **_):
        assert command[0] == "nvidia-smi"
        if self.driver is None:
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 0, stdout=f"{self.driver}\n{self.driver}\n")


@pytest.fixture
def gpu(monkeypatch):
    with OnMeta():
        yield FakeGPU(monkeypatch)


GPU = {
    "float32": 50e12,
    "tf32": 400e12,
    "bfloat16": 800e12,
    "float16": 790e12,
    "float64": 60e12,
}


def test_roofs_of_a_gpu(gpu):
    with Machine(GPU, 4e12, 2e-6, ramp_s=5e-6) as machine:
        found = measured_roofs("cuda", clock=machine.clock)
    assert (found.name, found.device) == ("NVIDIA H200", "cuda")
    assert found.flops_per_s == pytest.approx(GPU, rel=0.01)
    assert found.bytes_per_s == pytest.approx(4e12)
    assert found.launch_s == pytest.approx(2e-6)
    assert found.environment["driver"] == "580.1"
    assert found.datasheet["bfloat16"] == 989.5e12
    assert max(machine.sizes) == 8192  # 1.4 ms in 16 bits
    assert roofs_of("CUDA") == found  # kept
    assert device_profile(str(roofs_path("cuda:1"))) == found  # the same device, twice


def test_a_gpu_without_tensor_cores_for_them_has_no_tf32_and_no_bfloat16(gpu):
    gpu.capability = (7, 5)
    with Machine(GPU) as machine:
        found = measured_roofs("cuda", clock=machine.clock)
    assert set(found.flops_per_s) == {"float32", "float16", "float64"}
    assert found.roof("bfloat16") is None
    assert found.roof("float32", tf32=True) == found.roof("float32")


def test_a_gpu_that_is_nearly_full_is_measured_with_what_it_has(gpu):
    gpu.free = 100 << 20
    with Machine(GPU) as machine:
        found = measured_roofs("cuda", clock=machine.clock)
    assert max(machine.sizes) == 2048  # 3 * 2048² * 2 bytes are 24 MiB, a quarter is 25
    assert found.flops_per_s == pytest.approx(GPU)


def test_another_driver_is_measured_again(gpu):
    path = roofs_path("cuda")
    gpu.driver = "590.0"
    assert roofs_path("cuda") != path
    gpu.driver = None
    assert roofs_path("cuda") != path


def test_the_datasheet_is_this_versions_own(gpu):
    with Machine(GPU) as machine:
        found = measured_roofs("cuda", clock=machine.clock)
    path = roofs_path("cuda")
    write(replace(found, datasheet={"bfloat16": 1.0}), path)
    assert measured_roofs("cuda") == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "the roofs of cuda can't be measured, for there is no CUDA device here: name cpu"),
        ("cuda:3", "the roofs of cuda:3 can't be measured, for there is no CUDA device here"),
        ("mps", "no device 'mps' is known; cpu and cuda"),
        ("nowhere.json", r"nowhere.json: No such file or directory"),
    ],
)
def test_devices_that_are_not_here(name, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        roofs_of(name)


@pytest.mark.parametrize("device", ["mps", "meta", "a fridge"])
def test_only_cpus_and_gpus_are_measured(device):
    with pytest.raises(UsageError, match="cpu"):
        measured_roofs(device)


def test_a_gpu_too_few(gpu):
    with pytest.raises(UsageError, match="for there is 2 of them here"):
        measured_roofs("cuda:2")


def test_roofs_of_a_file(tmp_path):
    profile = DeviceProfile("A device", "cuda", {"float32": 1e12}, 1e12, 1e-6)
    write(profile, tmp_path / "mine.json")
    assert roofs_of(str(tmp_path / "mine.json")) == profile


class TestPrecision:
    def test_of_float32_products(self):
        assert not tf32_in_products()
        with float32_products(tf32=True):
            assert tf32_in_products()
            with float32_products(tf32=False):
                assert not tf32_in_products()
            assert tf32_in_products()
        assert not tf32_in_products()

    def test_after_an_error_too(self):
        with pytest.raises(KeyError), float32_products(tf32=True):
            raise KeyError
        assert not tf32_in_products()

    def test_set_in_the_newer_way(self, monkeypatch):
        matmul = torch.backends.cuda.matmul
        if not hasattr(matmul, "fp32_precision"):
            pytest.skip("this torch has one way only")
        found = matmul.fp32_precision
        matmul.fp32_precision = "tf32"
        try:
            assert tf32_in_products()
            assert float32_matmul_precision() is None  # torch itself refuses to say
            with float32_products(tf32=False):
                assert not tf32_in_products()
            assert matmul.fp32_precision == "tf32"
        finally:
            matmul.fp32_precision = found

    def test_set_in_the_older_way(self):
        torch.set_float32_matmul_precision("high")
        try:
            assert tf32_in_products()
            assert float32_matmul_precision() == "high"
            with float32_products(tf32=False):
                assert not tf32_in_products()
            assert float32_matmul_precision() == "high"
        finally:
            torch.set_float32_matmul_precision("highest")

    def test_of_torch_before_the_newer_way(self, monkeypatch):
        monkeypatch.setattr("flopratio.measure.precision._has_precision", lambda backend: False)
        with float32_products(tf32=True):
            assert torch.get_float32_matmul_precision() == "high"
            assert tf32_in_products()
        assert torch.get_float32_matmul_precision() == "highest"
