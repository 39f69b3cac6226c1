"""A device's profile as a document: read, refused, found by name, kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flopratio.errors import UsageError
from flopratio.hardware import (
    DeviceProfile,
    cached_path,
    datasheet,
    device_profile,
    keep,
    library,
    read,
    shipped_profiles,
    write,
)
from flopratio.hardware.folder import cache_folder
from flopratio.measure.roofs import roofs_of

PROFILE = DeviceProfile(
    name="NVIDIA Made-Up 100",
    device="cuda",
    flops_per_s={"float32": 50e12, "tf32": 400e12, "bfloat16": 800e12},
    bytes_per_s=4e12,
    launch_s=2e-6,
    environment={"torch": "2.13.0", "driver": "580.1"},
    datasheet={"bfloat16": 900e12},
)


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.setattr(library, "shipped_profiles", lambda: {"madeup100": PROFILE})


def without(name):
    document = json.loads(PROFILE.to_json())
    del document[name]
    return json.dumps(document)


def changed(**figures):
    return json.dumps(json.loads(PROFILE.to_json()) | figures)


def test_roofs():
    assert PROFILE.roof("bfloat16") == 800e12
    assert PROFILE.roof("float32") == 50e12
    assert PROFILE.roof("float32", tf32=True) == 400e12
    assert PROFILE.roof("bfloat16", tf32=True) == 800e12
    assert PROFILE.roof("float64") is None


def test_a_document_is_read_back():
    assert DeviceProfile.from_json(PROFILE.to_json()) == PROFILE
    assert json.loads(PROFILE.to_json())["schema"] == "flopratio.device/1"


def test_keys_of_later_versions_are_skipped_and_optional_ones_may_be_missing():
    document = json.loads(changed(reduce_s=1.0))
    del document["environment"], document["datasheet"]
    found = DeviceProfile.from_json(json.dumps(document))
    assert (found.name, found.environment, found.datasheet) == (PROFILE.name, {}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a device profile: Expecting value"),
        ("{", "not a device profile: "),
        ("[1]", "not a device profile: its schema should be flopratio.device/1"),
        ('{"schema": "flopratio.ledger/1"}', "its schema should be flopratio.device/1"),
        ('{"schema": "flopratio.device/x"}', "its schema should be flopratio.device/1"),
        ('{"schema": ["flopratio.device/2"]}', "its schema should be flopratio.device/1"),
        (
            '{"schema": "flopratio.device/2"}',
            "a device profile of a newer flopratio (flopratio.device/2; this one reads "
            "flopratio.device/1): update flopratio, or measure the device again",
        ),
        (without("launch_s"), "without launch_s: it should have a number of seconds, 0 or more"),
        (without("name"), "without name: it should have the device's name"),
        (changed(name=" "), "a device profile's name should be the device's name"),
        (changed(device="tpu"), "a device profile's device should be cpu or cuda"),
        (changed(device=["cpu"]), "a device profile's device should be cpu or cuda"),
        (changed(flops_per_s={}), "flops_per_s should be a positive FLOP/s for each dtype"),
        (changed(flops_per_s={"float32": 0}), "flops_per_s should be a positive FLOP/s"),
        (changed(flops_per_s={"float32": True}), "flops_per_s should be a positive FLOP/s"),
        (changed(flops_per_s={"float32": "50 T"}), "flops_per_s should be a positive FLOP/s"),
        (changed(bytes_per_s=float("nan")), "bytes_per_s should be a positive number"),
        (changed(bytes_per_s=float("inf")), "bytes_per_s should be a positive number"),
        (changed(bytes_per_s=10**400), "bytes_per_s should be a positive number"),
        (changed(launch_s=-1e-6), "launch_s should be a number of seconds, 0 or more"),
        (changed(launch_s=None), "launch_s should be a number of seconds, 0 or more"),
        (changed(environment=[]), "environment should be what was measured on, by name"),
        (changed(datasheet={"bfloat16": "990"}), "datasheet should be a positive figure for"),
        ("[" * 100_000, "not a device profile: "),
    ],
)
def test_what_is_no_profile_is_refused_in_one_sentence(text, message):
    with pytest.raises(UsageError) as error:
        DeviceProfile.from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_shipped_profile_was_measured():
    for name, profile in shipped_profiles().items():
        assert name == name.casefold()
        assert profile.environment["measured"]
        assert profile.environment["torch"]


@pytest.mark.parametrize("name", ["madeup100", "MadeUp100", "nvidia made-up 100", " madeup100 "])
def test_a_shipped_device_by_name(shipped, name):
    assert device_profile(name) is PROFILE


def test_an_unknown_device_is_never_guessed(shipped):
    with pytest.raises(UsageError) as error:
        device_profile("madeup10")
    message = str(error.value)
    assert message.startswith("no device 'madeup10' is known: did you mean 'madeup100'? cpu and cu")
    assert "flopratio profile MODEL --device cuda -o FILE.json" in message


def test_a_gpu_that_exists_and_was_not_measured_is_told_from_an_unknown_word(shipped, monkeypatch):
    monkeypatch.setenv("FLOPRATIO_CACHE", "/kept")
    with pytest.raises(UsageError) as error:
        device_profile("h100-80gb", unmeasured=["H100-80GB", "NVIDIA H100 80GB HBM3"])
    assert str(error.value) == (
        "of h100-80gb no measured profile is shipped: flopratio profile MODEL --device cuda -o "
        "FILE.json measures one where such a GPU is, and that FILE.json is taken here (so is the "
        f"one that it keeps there, in {Path('/kept/devices')})"
    )
    with pytest.raises(UsageError, match="no device 'nope' is known; cpu and cuda"):
        device_profile("nope", unmeasured=["H100-80GB"])
    with pytest.raises(UsageError, match="of H100-80GB no measured profile is shipped"):
        roofs_of("H100-80GB")


def test_the_document_of_a_measured_step_has_a_profile(tmp_path):
    document = {"schema": "flopratio.ledger/1", "roofs": json.loads(PROFILE.to_json())}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    assert device_profile(str(path)) == PROFILE
    path.write_text(json.dumps({"schema": "flopratio.ledger/1"}))
    with pytest.raises(UsageError, match="not a device profile"):
        device_profile(str(path))


def test_a_device_that_is_not_measured_yet(monkeypatch):
    monkeypatch.setattr(library, "shipped_profiles", dict)
    with pytest.raises(UsageError) as error:
        device_profile("h200")
    assert str(error.value).startswith("no device 'h200' is known; cpu and cuda are this machine's")
    with pytest.raises(UsageError, match="of h200 no measured profile is shipped"):
        device_profile("h200", unmeasured=["H200-141GB"])


def test_a_file(tmp_path):
    path = tmp_path / "mine.json"
    write(PROFILE, path)
    assert device_profile(str(path)) == read(path) == PROFILE
    assert path.read_text().endswith("}\n")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_this_folder_without_an_ending(tmp_path):
    path = tmp_path / "profile"
    write(PROFILE, path)
    assert device_profile(str(path)) == PROFILE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; a device profile is a FILE.json"),
        (b"\xff\xfe", "not a text; a device profile is a FILE.json"),
        (b"{}", "not a device profile: its schema should be flopratio.device/1"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, content, message):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        device_profile(str(path))
    assert str(error.value) == f"{path}: {message}"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="Is a directory"):
        device_profile(f"{tmp_path}/")


def test_writing_leaves_nothing_half_done(tmp_path):
    (tmp_path / "mine.json").mkdir()
    with pytest.raises(OSError, match=r"mine\.json"):
        write(PROFILE, tmp_path / "mine.json")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


class TestCache:
    @pytest.mark.parametrize(
        ("platform", "environment", "folder"),
        [
            ("linux", {}, "HOME/.cache/flopratio"),
            ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/flopratio"),
            ("linux", {"XDG_CACHE_HOME": "relative"}, "HOME/.cache/flopratio"),
            ("linux", {"XDG_CACHE_HOME": ""}, "HOME/.cache/flopratio"),
            ("darwin", {"XDG_CACHE_HOME": "/caches"}, "HOME/Library/Caches/flopratio"),
            ("win32", {"LOCALAPPDATA": "/local"}, "/local/flopratio"),
            ("win32", {}, "HOME/AppData/Local/flopratio"),
            ("linux", {"FLOPRATIO_CACHE": "/mine"}, "/mine"),
            ("win32", {"FLOPRATIO_CACHE": "mine"}, "mine"),
        ],
    )
    def test_folder(self, platform, environment, folder, monkeypatch):
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "FLOPRATIO_CACHE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(Path, "home", lambda: Path("HOME"))
        assert cache_folder() == Path(folder)

    def test_without_a_home_nothing_is_kept(self, monkeypatch):
        def home():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("FLOPRATIO_CACHE", raising=False)
        monkeypatch.setattr(Path, "home", home)
        path = cached_path("a", {})
        assert path is None
        keep(PROFILE, path)

    def test_the_file_is_the_devices_and_the_keys(self, monkeypatch, tmp_path):
        monkeypatch.setenv("FLOPRATIO_CACHE", str(tmp_path))
        path = cached_path("NVIDIA Made-Up (100)", {"torch": "2.13", "threads": 2})
        assert path.name.startswith("nvidia-made-up-100-")
        assert path == cached_path("NVIDIA Made-Up (100)", {"threads": 2, "torch": "2.13"})
        assert path != cached_path("NVIDIA Made-Up (100)", {"threads": 3, "torch": "2.13"})


def test_a_datasheet_is_the_named_devices_alone():
    assert datasheet("nvidia h200")["bytes_per_s"] == 4.8e12
    assert datasheet("NVIDIA H200 NVL") == {}
    assert datasheet("AMD EPYC") == {}


def test_every_datasheet_names_its_source():
    folder = Path(library.__file__).parent / "datasheets"
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        assert document["source"].startswith("https://")
        assert all(figure > 0 for figure in document["figures"].values())
