"""The lock: the exact integers of every case, as they were last accepted.

A case may have several counts: where its operators differ by the version of torch, one for each
that is known. Elsewhere one count holds under every version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from flopratio import snapshot as snapshots
from flopratio.errors import UsageError
from flopratio.snapshot import Snapshot
from flopratio.step.written import WrittenStep
from flopratio.text.files import write_text
from flopratio.verbs.diff import difference
from flopratio.version import __version__, release_of

NAME, VERSION = "flopratio.lock", 1
SCHEMA = f"{NAME}/{VERSION}"

PACKAGES = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers"}
"""How a MODEL begins -> the package that it comes from."""

ONE_LINE = ("layers", "versions", "settings", "convention", "times", "uncounted_ops")
"""What has each of its entries on a line of its own, or, of plain values, all on one."""

UPDATE = "flopratio check --update"


@dataclass(frozen=True)
class Locked:
    """What is known of a case.

    Args:
        step: as it was written when it was accepted.
        counts: the first is the one that was accepted first; each of another version of torch.
        times: measured ratios of backward to forward by machine: low, median, high.
    """

    step: str
    counts: tuple[Snapshot, ...]
    times: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    def nearest(self, snapshot: Snapshot) -> Snapshot:
        """The count to compare another with: the equal one; else that of the same torch, else of
        the nearest."""
        for known in self.counts:
            if same(known, snapshot):
                return known
        return min(self.counts, key=lambda known: _distance(known, snapshot))

    def accepting(self, step: str, snapshot: Snapshot) -> Locked:
        """With another count. One that is of a torch of which none was known is a further one;
        any other says that the model has changed, and what was known of it is past."""
        if step == self.step and any(same(known, snapshot) for known in self.counts):
            return self
        releases = {_release(known) for known in self.counts}
        if step != self.step or _release(snapshot) in releases:
            return Locked(step, (snapshot,))
        counts = sorted((*self.counts, snapshot), key=_release)
        return replace(self, counts=tuple(counts))


def same(one: Snapshot, other: Snapshot) -> bool:
    """Whether two are equal in every layer and figure."""
    return difference(one, other).equal


def _release(snapshot: Snapshot) -> tuple[int, int]:
    return release_of(snapshot.versions["torch"])


def _distance(known: Snapshot, snapshot: Snapshot) -> int:
    (major, minor), (other_major, other_minor) = _release(known), _release(snapshot)
    return abs(1000 * (major - other_major) + minor - other_minor)


def package_of(step: WrittenStep) -> str | None:
    """The package that a MODEL comes from: its code is what the package's version says it is. None
    of the built-in networks, which come with this one."""
    prefix, colon, _ = step.model.partition(":")
    if not colon or prefix.endswith(".py"):
        return None
    return PACKAGES.get(prefix, prefix.partition(".")[0])


def is_packaged(step: WrittenStep) -> bool:
    """Whether the versions say all about the code of the model; not of a user's own."""
    prefix, colon, name = step.model.partition(":")
    return not prefix.endswith(".py") and (not colon or (prefix in PACKAGES and "/" not in name))


def locked_form(step: WrittenStep, snapshot: Snapshot) -> Snapshot:
    """A count as a lock holds it: with the versions of this package, of
    torch and of the model's package alone; without what a build or a machine adds to these."""
    versions = {"flopratio": __version__, "torch": snapshot.versions["torch"]}
    if package := package_of(step):
        with suppress(metadata.PackageNotFoundError):  # of code that was never installed
            versions[package] = metadata.version(package)
    plain = {name: version.partition("+")[0] for name, version in versions.items()}
    return replace(snapshot, versions=plain)


# -- the file --------------------------------------------------------------------------------------


class ConflictError(UsageError):
    """A lock with merge-conflict markers: counted anew, it needs neither side."""


def read_lock(path: Path) -> dict[str, Locked] | None:
    """What a lock file holds, by case; None if there is none.

    Raises:
        ConflictError: it has merge-conflict markers.
        UsageError: it is damaged, or of a newer version of this package.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {path}: {error}") from None
    if (line := _conflict_in(text)) is not None:
        raise ConflictError(
            f"{path} has merge-conflict markers at line {line}: take either side whole, or remove "
            f"the file, and run {UPDATE}"
        )
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path} is damaged: {error.msg} at line {error.lineno}, column {error.colno}; restore "
            f"it, or remove it and run {UPDATE}"
        ) from None
    schema = document.get("schema") if isinstance(document, dict) else None
    name, _, version = str(schema).partition("/")
    if name != NAME:
        raise UsageError(f"{path} is no lock of flopratio: its schema should be {SCHEMA}")
    if not version.isdecimal() or int(version) > VERSION:
        raise UsageError(
            f"{path} was written by a newer flopratio ({schema}, and this one reads {SCHEMA}): "
            "upgrade flopratio"
        )
    try:
        return {case: _locked(entry) for case, entry in document["cases"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{path} is damaged: {type(error).__name__} {error}; restore it, or remove it and run "
            f"{UPDATE}"
        ) from None


def _conflict_in(text: str) -> int | None:
    """The line, from 1, of the first merge-conflict marker."""
    marker = re.search(r"^(<{7}|={7}|>{7})( |$)", text, re.MULTILINE)
    return None if marker is None else text.count("\n", 0, marker.start()) + 1


def _locked(entry: Mapping[str, Any]) -> Locked:
    return Locked(
        entry["step"],
        tuple(
            Snapshot.from_document({"schema": snapshots.SCHEMA, **count})
            for count in entry["counts"]
        ),
        {machine: (low, mid, high) for machine, (low, mid, high) in entry.get("times", {}).items()},
    )


def lock_text(cases: Mapping[str, Locked]) -> str:
    """A lock file: the same for the same cases, in an order that does not depend on theirs, and
    with a line for each layer, so that a difference of two can be read."""
    document = {"schema": SCHEMA, "cases": {name: _entry(cases[name]) for name in sorted(cases)}}
    return _written(document) + "\n"


def _entry(locked: Locked) -> dict[str, Any]:
    entry: dict[str, Any] = {"step": locked.step, "counts": []}
    for count in locked.counts:
        document = count.to_document()
        del document["schema"]
        entry["counts"].append(document)
    if locked.times:
        entry["times"] = {name: list(locked.times[name]) for name in sorted(locked.times)}
    return entry


def _written(value: Any, key: str = "", depth: int = 0) -> str:
    """JSON, indented by 1; what is named in :data:`ONE_LINE` on a line each."""
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict) and value and not (key in ONE_LINE and _is_flat(value)):
        deeper = [
            f"{json.dumps(name)}: "
            + (json.dumps(item) if key in ONE_LINE else _written(item, name, depth + 1))
            for name, item in value.items()
        ]
        return "{" + inner + f",{inner}".join(deeper) + outer + "}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [_written(item, key, depth + 1) for item in value]
        return "[" + inner + f",{inner}".join(items) + outer + "]"
    return json.dumps(value)


def _is_flat(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(item, dict | list) for item in value.values())


def write_lock(path: Path, cases: Mapping[str, Locked]) -> bool:
    """Write a lock file, all of it or nothing; one that says the same already is left alone.

    Returns:
        Whether it was written.

    Raises:
        UsageError: the disk refuses.
    """
    text = lock_text(cases)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)
    return True
