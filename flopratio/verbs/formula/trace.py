"""The step of a model at the points that a closed form is fitted to, each traced once, and kept on
disk from one run to the next."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from flopratio.errors import UsageError
from flopratio.hardware.folder import cache_folder
from flopratio.models.load import load, own_defaults
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.network import network_step
from flopratio.step.options import StepOptions
from flopratio.step.random_state import own_random_state
from flopratio.step.run import Step
from flopratio.text.grammar import Value
from flopratio.trace.attribution import attribute
from flopratio.trace.reconcile import reconcile
from flopratio.verbs.formula.entries import Entry, Sampled, entries_of
from flopratio.verbs.traced import trace_step
from flopratio.version import versions

PACKAGES = ("torchvision", "timm", "transformers")
"""What models come from, beside what every count depends on."""


class Tracer:
    """Traces the step of a model at points.

    Args:
        model: a spec.
        settings: the KEYs that stay as they are.
        cached: whether what was traced before is read, and what is traced is kept.

    Attributes:
        traces: how many steps were traced, not read.
        announce: called with that number after each.
        sampled: what was found, by point; a sentence where the model refuses.
    """

    def __init__(
        self, model: str, settings: Mapping[str, Value], options: StepOptions, *, cached: bool
    ) -> None:
        self.model, self.settings, self.options = model, dict(settings), options
        self.traces = 0
        self.announce: Callable[[int], None] = lambda traces: None
        self.sampled: dict[tuple[tuple[str, Value], ...], Sampled | str] = {}
        folder = cache_folder() if cached and _is_cacheable(model, options) else None
        self._folder = None if folder is None else folder / "formula"

    def within(self, settings: Mapping[str, Value]) -> Tracer:
        """A tracer of the same model where more KEYs stay as they are; what one of the two has
        sampled, both know."""
        narrowed = copy(self)
        narrowed.settings, narrowed.traces = {**self.settings, **settings}, 0
        return narrowed

    def sample(self, point: Mapping[str, Value]) -> Sampled:
        """The step at a point.

        Raises:
            UsageError: the model refuses it, or its count is not certain.
        """
        settings = {**self.settings, **point}
        name = tuple(sorted(settings.items()))
        if name not in self.sampled:
            try:
                self.sampled[name] = self._read(settings) or self._trace(settings)
            except UncertainError:
                raise
            except UsageError as error:
                self.sampled[name] = str(error)
        found = self.sampled[name]
        if isinstance(found, str):
            raise UsageError(found)
        return found

    @property
    def found(self) -> list[Sampled]:
        """What was sampled with its settings."""
        own = set(self.settings.items())
        return [
            found
            for point, found in self.sampled.items()
            if not isinstance(found, str) and own <= set(point)
        ]

    def trace_again(self, point: Mapping[str, Value]) -> Sampled:
        """The step at a point, traced whatever is known of it."""
        return self._trace({**self.settings, **point})

    def _trace(self, settings: dict[str, Any]) -> Sampled:
        with own_random_state():
            step = step_of(self.model, settings, self.options)
            recording = trace_step(step).recording
        self.traces += 1
        self.announce(self.traces)
        attribution = attribute(recording)
        ledger = reconcile(recording, attribution=attribution)
        at = " ".join(f"{key}={value}" for key, value in settings.items())
        if ledger.uncounted_ops:
            raise UncertainError(
                f"{self.model} has no closed form: its step has operators without a formula "
                f"({', '.join(sorted(ledger.uncounted_ops))})"
            )
        if ledger.mismatches:
            raise UncertainError(
                f"{self.model} has no closed form: at {at or 'its defaults'} the executed step is "
                f"not what the law says ({ledger.mismatches[0]})"
            )
        used = dict(step.example.settings)
        entries = entries_of(ledger, recording, attribution)
        sampled = Sampled(entries, dict(ledger.types), used, step.dtype)
        config = getattr(step.module, "config", None)
        sampled.settings = {**_sizes(config), **own_defaults(self.model), **used}
        self._keep(settings, sampled)
        return sampled

    # -- on disk ----------------------------------------------------------------------------

    def _path(self, settings: Mapping[str, Any]) -> Path | None:
        if self._folder is None:
            return None
        key = [self.model, sorted(settings.items()), sorted(self.options.as_dict().items())]
        text = json.dumps([key, _made_by()], sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def _read(self, settings: Mapping[str, Any]) -> Sampled | None:
        path = self._path(settings)
        if path is None:
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            entries = {Entry(*entry): value for *entry, value in document["entries"]}
            return Sampled(entries, document["types"], document["settings"], document["dtype"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _keep(self, settings: Mapping[str, Any], sampled: Sampled) -> None:
        path = self._path(settings)
        if path is None:
            return
        document = {
            "entries": [[*entry, value] for entry, value in sampled.entries.items()],
            "types": sampled.types,
            "dtype": sampled.dtype,
            "settings": {key: value for key, value in sampled.settings.items() if _plain(value)},
        }
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps(document), encoding="utf-8")
            beside.replace(path)


class UncertainError(UsageError):
    """A step whose count isn't certain: it is not of one size, but of the model."""


def step_of(model: str, settings: Mapping[str, Any], options: StepOptions) -> Step:
    """The step of a spec."""
    if model in NETWORKS:
        loss = options.loss
        if isinstance(loss, str) and loss != "auto":
            settings = {**settings, "loss": loss}
        return network_step(describe(model, **settings), options)
    dtype = None if options.dtype is None else str(options.dtype)
    return Step(load(model, settings, dtype=dtype), options)


def _sizes(config: object) -> dict[str, object]:
    """The whole numbers of a configuration."""
    values: dict[str, object] = getattr(config, "to_dict", dict)()
    return {key: value for key, value in values.items() if type(value) is int}


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)


def _is_cacheable(model: str, options: StepOptions) -> bool:
    """Whether the model is the same tomorrow: not if it is somebody's own code, or a file."""
    prefix, _, name = model.partition(":")
    known = model in NETWORKS or prefix in ("torchvision", "timm")
    return (known or (prefix == "hf" and name.isidentifier())) and isinstance(options.loss, str)


@cache
def _made_by() -> dict[str, Any]:
    """All that a trace depends on, beside its model and options."""
    found = versions()
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    code = hashlib.sha256()
    folder = Path(__file__).parents[2]  # of the package
    for path in sorted(folder.rglob("*.py")):
        status = path.stat()
        code.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns};".encode())
    return {**found, "code": code.hexdigest()}
