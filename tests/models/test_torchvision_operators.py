"""torchvision without its compiled operators: whoever imports it, and whatever has failed before.

Each test has a process of its own: torchvision is imported once.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flopratio.models.torchvision_operators import has_compiled_operators


def run(script: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "source",
    [
        "from torchvision.models import resnet18 as make",
        "def make():\n    from torchvision.models import resnet18\n    return resnet18()",
        "import timm\ndef make():\n    return timm.create_model('resnet18')",
        "import sibling\nmake = sibling.make",
    ],
)
def test_a_users_file_imports_it_as_a_spec_does(tmp_path: Path, source: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "sibling.py").write_text("from torchvision.models import resnet18 as make")
    run(
        "import sys\n"
        "from flopratio.models import load\n"
        "path = list(sys.meta_path)\n"
        "example = load('mine.py:make', {'image': 64})\n"
        "assert sum(p.numel() for p in example.module.parameters()) == 11_689_512\n"
        "assert sys.meta_path == path\n"
        "load('torchvision:fasterrcnn_mobilenet_v3_large_320_fpn', {})\n",
        tmp_path,
    )


def test_an_import_that_failed_halfway_is_made_good_by_the_next(tmp_path: Path) -> None:
    """Torch refuses an operator that is registered twice."""
    run(
        "import sys\n"
        "from flopratio.models import load\n"
        "errors = []  # and with each the frames that it came through\n"
        "for missing in ('PIL', 'torchvision', 'PIL'):\n"
        "    sys.modules[missing] = None\n"
        "    try:\n"
        "        load('torchvision:resnet18', {})\n"
        "    except Exception as error:\n"
        "        errors.append(error)\n"
        "    del sys.modules[missing]\n"
        "broken, missing, again = map(str, errors)\n"
        "assert broken == again, again\n"
        'assert broken.startswith("the package torchvision can\'t be imported: Module"), broken\n'
        "assert missing.startswith('the package torchvision is not installed'), missing\n"
        "load('torchvision:resnet18', {})\n"
        "load('timm:resnet18', {})\n",
        tmp_path,
    )


@pytest.mark.skipif(has_compiled_operators(), reason="such a file would end the process anyhow")
def test_a_file_that_defines_the_operators_itself_is_let_do_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "library = torch.library.Library('torchvision', 'FRAGMENT')\n"
        "try:\n"
        "    torch.ops.torchvision.nms\n"
        "except AttributeError:\n"
        "    library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from torchvision.models import resnet18\n"
    )
    run(
        "from flopratio.models import load\n"
        "load('mine.py:resnet18', {'image': 64})\n"
        "load('torchvision:resnet18', {'image': 64})\n"
        "load('mine.py:resnet18', {'image': 64})\n",
        tmp_path,
    )
