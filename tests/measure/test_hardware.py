"""What environment.json says of the machine."""

from __future__ import annotations

import json
import platform
import types

import torch

from flopratio.measure import machine


def test_cpu_is_described_without_naming_the_machine():
    found = machine("cpu")
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["processor"]
    assert found["cores"] >= 1
    assert not any(key.startswith(("gpu", "cuda")) for key in found)
    assert platform.node() not in found.values()
    assert json.loads(json.dumps(found)) == found


def test_gpu_is_described_with_its_cache_and_its_precision(monkeypatch):
    properties = types.SimpleNamespace(
        name="A GPU",
        total_memory=8 << 30,
        L2_cache_size=4 << 20,
        multi_processor_count=10,
        major=9,
        minor=0,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    found = machine("cuda")
    assert found["gpu"] == "A GPU"
    assert found["gpu_memory_bytes"] == 8_589_934_592
    assert found["gpu_l2_bytes"] == 4_194_304
    assert found["compute_capability"] == "9.0"
    assert found["tf32_matmul"] is torch.backends.cuda.matmul.allow_tf32
    assert json.loads(json.dumps(found)) == found
