"""A profile in a file of each format."""

from __future__ import annotations

from pathlib import Path

import pytest

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.report.files import FORMATS
from flopratio.report.profile.files import PROFILE_FORMATS, write_profile
from flopratio.report.profile.view import profile_view
from tests.verbs.profile.small import small_profile

PARTS = {
    ".json": '"time_ratio": 1.5',
    ".csv": "predicted_us",
    ".md": "| why the measured ratio is not that of FLOPs | forward ms | backward ms |",
    ".html": "why the measured ratio is not that of FLOPs",
}


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_of_a_ledger(extension: str, tmp_path: Path) -> None:
    profile, path = small_profile(), tmp_path / f"profile{extension}"
    write_profile(profile, profile_view(profile), path)
    assert PARTS[extension] in path.read_text(encoding="utf-8")
    assert PROFILE_FORMATS.keys() == FORMATS.keys()


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text("mine")
    profile = small_profile()
    with pytest.raises(UsageError, match="--force overwrites it"):
        write_profile(profile, profile_view(profile), path)
    assert path.read_text() == "mine"
    write_profile(profile, profile_view(profile), path, force=True)
    assert fr.Profile.from_json(path.read_text()).to_json() == profile.to_json()
