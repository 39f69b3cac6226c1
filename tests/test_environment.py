"""What a result was made with."""

import platform

import torch

from flopratio import environment
from flopratio.version import __version__


def test_versions():
    found = environment.versions()
    assert found["flopratio"] == __version__
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
