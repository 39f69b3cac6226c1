"""The user's own files: imported as from a script, and out of the way afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.models import ModelError, load
from flopratio.models.importing import importing_from

MODEL = """
from torch import nn
import parts

class Net(nn.Linear):
    def forward(self, x):
        import late
        return super().forward(x) * late.FACTOR

def make():
    return Net(parts.WIDTH, 3)
"""


def write(directory: Path, width: int) -> Path:
    """A file of a model and, beside it, what it imports: when it is read, and in forward."""
    directory.mkdir()
    (directory / "parts.py").write_text(f"WIDTH = {width}")
    (directory / "late.py").write_text("FACTOR = 2")
    path = directory / "model.py"
    path.write_text(MODEL)
    return path


def test_files_of_one_name_in_two_directories_find_what_lies_beside_them(tmp_path: Path) -> None:
    first, second = write(tmp_path / "first", 4), write(tmp_path / "second", 5)
    before, path = set(sys.modules), list(sys.path)
    for _ in range(2):
        for file, width in ((first, 4), (second, 5)):
            assert fr.count(f"{file}:make", 2).totals.forward == 2 * 2 * width * 3
    assert sys.path == path
    assert not {"model", "parts", "late"} & (set(sys.modules) - before)


def test_a_file_with_the_name_of_a_package_does_not_stand_in_its_way(tmp_path: Path) -> None:
    path = tmp_path / "timm.py"
    path.write_text("from torch import nn\ndef make():\n    return nn.Linear(4, 3)")
    assert load(f"{path}:make", {}).args[0].shape == (2, 4)
    assert load("timm:resnet18", {"image": 64}).kind == "classifier"
    assert load(f"{path}:make", {}).args[0].shape == (2, 4)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    source = "from torch import nn\ndef make():\n    return nn.Linear({}, 3)"
    for width in (4, 5):
        path.write_text(source.format(width) + "\n" * width)
        assert load(f"{path}:make", {}).args[0].shape == (2, width)


def test_dataclasses_find_their_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(  # there is a module of that name already
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from torch import nn\n"
        "@dataclass\n"
        "class Sizes:\n"
        "    many: ClassVar[int] = 4\n"
        "    width: int = 4\n"
        "def make():\n"
        "    return nn.Linear(Sizes().width, 3)\n"
    )
    assert load(f"{tmp_path / 'json.py'}:make", {}).args[0].shape == (2, 4)


def test_what_the_user_imported_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine_already.py").write_text("VALUE = 1")
    sys.path.insert(0, str(tmp_path))
    try:
        import mine_already  # type: ignore[import-not-found]

        sys.path.remove(str(tmp_path))
        with importing_from(tmp_path):
            pass
        assert sys.modules.pop("mine_already") is mine_already
    finally:
        sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def test_a_file_of_a_package_says_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "nets" / "small"
    package.mkdir(parents=True)
    for directory in (package.parent, package):
        (directory / "__init__.py").touch()
    (package / "sizes.py").write_text("WIDTH = 4")
    (package / "net.py").write_text(
        "from torch import nn\nfrom .sizes import WIDTH\n"
        "def make():\n    return nn.Linear(WIDTH, 2)"
    )
    with pytest.raises(ModelError, match=rf"write nets\.small\.net:NAME, in .*{tmp_path.name}$"):
        load(f"{package / 'net.py'}:make", {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"; write nets\.small\.net:NAME$"):
        load("nets/small/net.py:make", {})
    assert load("nets.small.net:make", {}).args[0].shape == (2, 4)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import sys\nsys.exit(3)",
            r"can't be imported: it ends the process, by sys.exit\(3\) at ends.py:2 .*"
            r"put what it runs under if __name__ == '__main__'",
        ),
        (
            "import sys\ndef make():\n    sys.exit('no such file')",
            r"can't be built: it ends the process, by sys.exit\('no such file'\) at ends.py:3",
        ),
        (
            "import sys\nfrom torch import nn\nclass Net(nn.Linear):\n"
            "    def forward(self, x):\n        sys.exit()\ndef make():\n    return Net(2, 2)",
            r"the model failed on .* 2x2: it ends the process, by sys.exit\(\) at ends.py:5",
        ),
    ],
)
def test_code_that_ends_the_process_is_a_sentence(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "ends.py"
    path.write_text(source)
    with pytest.raises(ModelError, match=said):
        load(f"{path}:make", {})


def test_a_loss_that_ends_the_process_is_a_sentence() -> None:
    def ends(output: object) -> None:
        sys.exit(1)

    with pytest.raises(fr.UsageError, match=r"the loss ends failed: it ends the process"):
        fr.count(nn.Linear(2, 2), torch.empty(2, 2), loss=ends)


def test_the_inputs_of_a_factory_are_in_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(
        "import torch\n"
        "class Picked(torch.nn.Linear):\n"
        "    def forward(self, x, rows):\n"
        "        return super().forward(x)[rows]\n"
        "def make():\n"
        "    return Picked(4, 2), (torch.ones(3, 4), torch.arange(3))\n"
    )
    for real in (False, True):
        floats, integers = load(f"{path}:make", {}, dtype="bf16", real=real).args
        assert (floats.dtype, integers.dtype) == (torch.bfloat16, torch.int64)
    (floats, _) = load(f"{path}:make", {}, real=True).args
    assert floats.dtype == torch.float32
