"""What a result was made with."""

import json
import os
import platform

import torch

from flopratio import environment
from flopratio.version import __version__


def test_versions():
    found = environment.versions()
    assert found["flopratio"] == __version__
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()


def test_machine_and_precision_are_json_without_host_name_or_paths():
    text = json.dumps([environment.machine("cpu"), environment.precision("float32")])
    for private in (platform.node(), os.getcwd(), os.path.expanduser("~")):
        assert not private or private not in text


def test_machine():
    found = environment.machine("cpu")
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] == os.cpu_count()
    assert found["cpu"]
    assert "gpu" not in found


def test_precision():
    found = environment.precision("bfloat16")
    assert found["dtype"] == "bfloat16"
    assert found["tf32_matmul"] is torch.backends.cuda.matmul.allow_tf32
