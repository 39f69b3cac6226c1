"""CONTRIBUTING.md: its plan of the house is whole."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_folder_of_the_house_is_in_its_plan() -> None:
    plan = TEXT.split("## The house")[1].split("## Style")[0]
    package = ROOT / "flopratio"
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    assert {name for name in folders if f"{name}/" not in plan} == set()
