"""What a result was made with."""

import platform

import torch

from flopratio.version import __version__, torch_release, versions


def test_versions():
    found = versions()
    assert found["flopratio"] == __version__
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # without +cpu
    assert found["python"] == platform.python_version()


def test_release_of_torch():
    assert torch_release() == tuple(int(part) for part in torch.__version__.split(".")[:2])
