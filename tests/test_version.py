"""What a result was made with."""

import platform

import torch

from flopratio.version import __version__, versions


def test_versions():
    found = versions()
    assert found["flopratio"] == __version__
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
