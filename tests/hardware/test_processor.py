"""The processor's name and cores."""

import os
import subprocess
import sys

import pytest

from flopratio.hardware.processor import processor, usable_cores


def test_it_has_a_name():
    assert processor().strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such call")
def test_cores_that_this_process_may_not_run_on_do_not_count():
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(own)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, own)
    assert usable_cores() == len(own)


def test_no_torch_is_needed():
    code = "import flopratio.hardware.processor, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
