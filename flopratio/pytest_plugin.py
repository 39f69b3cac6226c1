"""The pytest plugin: what a training step costs, as a test.

::

    @pytest.mark.flopratio(model="torchvision:resnet18", batch=2, ratio=">= 1.9", peak="<= 2 GiB")
    def test_resnet18(): ...

    def test_my_step(flop_ledger, assert_ratio, assert_no_change):
        ledger = flop_ledger(MyModel(), torch.zeros(8, 3, 32, 32), optimizer="adamw")
        assert_ratio(ledger, 2, layers="blocks.*")
        assert_no_change(ledger)

``pytest --flopratio-update`` accepts what changed. Torch is only imported by the tests that count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flopratio.errors import UsageError

if TYPE_CHECKING:
    from flopratio.ledger import Ledger
    from flopratio.snapshot import Snapshot
    from flopratio.verbs.check.expectation import Expectation, Violation
    from flopratio.verbs.diff import Difference

MARKER = "flopratio"
UPDATE = "--flopratio-update"
DIRECTORY = "flopratio_snapshots"
"""Where the snapshots of a directory's tests lie."""

WRITTEN = "flopratio snapshot"
"""The property of a test that wrote a snapshot."""

MOST_LAYERS = 5
"""So many layers are told of a step that changed."""

MOST_APART = 3
"""So many layers are told of a ratio that is not as expected."""

_running: list[tuple[pytest.Item, list[str]]] = []
"""The test that runs, innermost last, and the names of the snapshots that it has asked for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("flopratio").addoption(
        UPDATE,
        action="store_true",
        help="Write the snapshots that tests compare their steps with.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(model, batch=..., ratio=..., peak=..., no_change=True, ...): count a training "
        "step before the test: a model spec or a factory, its KEYs, the step's options, and what "
        "is expected of it.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _running.append((item, []))
    try:
        return (yield)
    finally:
        _running.pop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    # The outermost first: of the module, of the class, of the function as they are written.
    for marker in reversed(list(item.iter_markers(MARKER))):
        try:
            failures = _judged(marker)
        except UsageError as error:
            failures = [str(error)]
        if failures:
            pytest.fail("\n".join(failures), pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    written = [
        path
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, path in report.user_properties
        if name == WRITTEN
    ]
    if written:
        number = f"{len(written)} snapshot{'' if len(written) == 1 else 's'}"
        terminalreporter.write_line(f"flopratio: {number} written")


# -- what tests call -------------------------------------------------------------------------------


def flop_ledger(model: Any, batch: Any = None, **options: Any) -> Ledger:
    """The ledger of one training step, as :func:`flopratio.count` gives it; the test fails where
    the step can't be counted.

    Args:
        model: a module, a spec (``torchvision:resnet18``), or a function that gives a module, or a
            module and its inputs.
        options: of the step, and the KEYs of a spec.
    """
    __tracebackhide__ = True
    try:
        return _counted(model, batch, options)
    except UsageError as error:
        sentence = str(error)
    pytest.fail(sentence)


def assert_ratio(
    ledger: Ledger, ratio: float | str | list[Any], *, layers: str | None = None
) -> None:
    """Fail unless the ratio of backward to forward is as expected.

    Args:
        ratio: exactly (``2``), a bound (``">= 1.9"``), near enough (``"1.998 +- 0.001"``), or a
            list of these.
        layers: a pattern: each layer that matches and has products has to have that ratio; without
            it, the whole step.
    """
    __tracebackhide__ = True
    name = "ratio" if layers is None else f"ratio[{layers}]"
    failures = _unmet({name: ratio}, _snapshot(ledger))
    if failures:
        pytest.fail("\n".join(failures))


def assert_no_change(ledger: Ledger, name: str = "") -> None:
    """Fail if any figure of the step is another than in the test's snapshot: a file beside the
    test, which ``pytest --flopratio-update`` writes.

    Args:
        name: tells several snapshots of one test apart; their number unless given.
    """
    __tracebackhide__ = True
    failure = _changed(_snapshot(ledger), name)
    if failure:
        pytest.fail(failure)


@pytest.fixture(name="flop_ledger", scope="session")
def _flop_ledger() -> Callable[..., Ledger]:
    """Counts a training step: ``flop_ledger(model, batch, **options)`` gives its ledger."""
    return flop_ledger


@pytest.fixture(name="assert_ratio", scope="session")
def _assert_ratio() -> Callable[..., None]:
    """``assert_ratio(ledger, 2, layers="layer4.*")``: fails unless backward is twice forward."""
    return assert_ratio


@pytest.fixture(name="assert_no_change", scope="session")
def _assert_no_change() -> Callable[..., None]:
    """``assert_no_change(ledger)``: fails if a figure is another than in the test's snapshot."""
    return assert_no_change


# -- counting --------------------------------------------------------------------------------------


def _counted(model: Any, batch: Any, options: Mapping[str, Any]) -> Ledger:
    import torch

    from flopratio.verbs.count import count

    if callable(model) and not isinstance(model, torch.nn.Module):
        made = model()
        model, batch = made if isinstance(made, tuple) and batch is None else (made, batch)
    ledger: Ledger = count(model, batch, **options)
    return ledger


def _snapshot(ledger: Ledger) -> Snapshot:
    from flopratio.snapshot import Snapshot

    return Snapshot.of(ledger)


def _judged(marker: pytest.Mark) -> list[str]:
    """What a marker expects and the step does not keep to, a line each."""
    from flopratio.verbs.check.expectation import QUANTITIES

    words = dict(marker.kwargs)
    if len(marker.args) > 1 or (marker.args and "model" in words):
        raise UsageError(f'mark one model: @pytest.mark.{MARKER}(model="hf:gpt2", ratio=2)')
    model = marker.args[0] if marker.args else words.pop("model", None)
    if model is None:
        raise UsageError(f'the marker {MARKER} has no model: give model="hf:gpt2" or a factory')
    batch, no_change = words.pop("batch", None), words.pop("no_change", False)
    expected = {name: words.pop(name) for name in [*words] if _quantity(name) in QUANTITIES}
    if not expected and not no_change:
        raise UsageError(
            f'the marker {MARKER} expects nothing: give it ratio=2, peak="2 GiB" or no_change=True'
            f"{_meant(words)}"
        )
    try:
        snapshot = _snapshot(_counted(model, batch, words))
    except UsageError as error:
        raise UsageError(f"{error}{_meant(words)}") from error
    failures = _unmet(expected, snapshot)
    if no_change and (changed := _changed(snapshot)):
        failures.append(changed)
    return failures


def _quantity(name: str) -> str:
    """``ratio`` of ``ratio[layer4.*]``."""
    return name.partition("[")[0]


def _meant(words: Mapping[str, Any]) -> str:
    """What may have been meant for an expectation."""
    from flopratio.step.options import DEFAULTS
    from flopratio.text.suggestions import nearest
    from flopratio.verbs.check.expectation import QUANTITIES

    unknown = (word for word in words if word not in DEFAULTS)
    near = next((close for word in unknown if (close := nearest(word, QUANTITIES))), [])
    return f"; or did you mean the expectation {near[0]!r}?" if near else ""


def _unmet(expected: Mapping[str, Any], snapshot: Snapshot) -> list[str]:
    """What is expected and does not hold, a sentence each."""
    from flopratio.report.check.sentences import violation_sentence
    from flopratio.verbs.check.expectation import read_expectation

    sentences = []
    for name, written in expected.items():
        expectation = read_expectation(name, written, ())
        for violation in expectation.violations(snapshot, {}):
            apart = _apart(expectation, violation, snapshot)
            sentences.append(f"{snapshot.model}: {violation_sentence(violation)}{apart}")
    return sentences


def _apart(expectation: Expectation, violation: Violation, snapshot: Snapshot) -> str:
    """The layers whose backward is farthest from what a ratio of the whole step asks for."""
    if expectation.name != "ratio" or violation.problem:
        return ""
    from flopratio.ledger import ROOT

    limit = next(each.limit for each in expectation.conditions if each.text == violation.expected)
    apart: dict[str, tuple[Fraction, Fraction]] = {}
    for path, layer in snapshot.layers.items():
        forward = layer.counts["forward"]
        backward = layer.counts["grad_input"] + layer.counts["grad_weight"]
        if backward != limit * forward:
            ratio = Fraction(backward, forward) if forward else Fraction(0)
            apart[path] = abs(backward - limit * forward), ratio
    farthest = sorted(apart, key=lambda path: -apart[path][0])[:MOST_APART]
    told = [f"{path or ROOT} ({float(apart[path][1]):.4g})" for path in farthest]
    return f"; farthest from it: {', '.join(told)}" if told else ""


# -- snapshots -------------------------------------------------------------------------------------


def _changed(snapshot: Snapshot, name: str = "") -> str:
    """How a step differs from its snapshot; empty if it does not, or if that was accepted."""
    if not _running:
        return "assert_no_change is for a test that pytest runs with the plugin flopratio"
    item, names = _running[-1]
    name = name or (str(len(names) + 1) if names else "")
    if name in names:
        return f"two snapshots of {item.nodeid} are called {name!r}: give each a name of its own"
    names.append(name)
    path = snapshot_path(item, name)
    known, failure = _read(path)
    if item.config.getoption(UPDATE):
        if known is None or _differs(known, snapshot):
            _write(path, snapshot)
            item.user_properties.append((WRITTEN, str(path)))
        return ""
    shown = _shown(path, item)
    if failure:
        return f"{failure}: pytest {UPDATE} writes it anew"
    if known is None:
        return f"there is no snapshot {shown} yet: pytest {UPDATE} writes it; commit it"
    from flopratio.verbs.diff import difference

    found = difference(known, snapshot)
    return "" if found.equal else _told(found, shown)


def _told(found: Difference, shown: str) -> str:
    from flopratio.report.difference import headline, sentences

    lines = [f"{found.after.model} {headline(found)}"]
    lines += [f"  {sentence}" for sentence in sentences(found, MOST_LAYERS)]
    return "\n".join([*lines, f"the snapshot is {shown}; pytest {UPDATE} accepts the change"])


def _differs(known: Snapshot, snapshot: Snapshot) -> bool:
    """Whether a snapshot has to be written anew: not for other versions alone."""
    before, after = known.to_document(), snapshot.to_document()
    return {**before, "versions": {}} != {**after, "versions": {}} or (
        list(known.layers) != list(snapshot.layers)
    )


def snapshot_path(item: pytest.Item, name: str = "") -> Path:
    """Where a test's snapshot lies: ``flopratio_snapshots/test_model.py/test_step.json``."""
    _, _, test = item.nodeid.partition("::")
    return item.path.parent / DIRECTORY / item.path.name / f"{_file_name(test, name)}.json"


def _file_name(*parts: str) -> str:
    """A name that any file system takes, and that no other test has."""
    wanted = " ".join(filter(None, parts))
    safe = re.sub(r"[^\w\[\]=,.-]+", ".", wanted, flags=re.ASCII)[:100]
    if safe == wanted.replace("::", ".").replace(" ", "."):
        return safe
    return f"{safe}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def _shown(path: Path, item: pytest.Item) -> str:
    root = item.config.rootpath
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _read(path: Path) -> tuple[Snapshot | None, str]:
    """A snapshot; None if there is none, and why it can't be read."""
    from flopratio.snapshot import Snapshot

    try:
        return Snapshot.from_document(json.loads(path.read_text(encoding="utf-8"))), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:  # not JSON, or no snapshot
        return None, f"can't read the snapshot {path}: {error}"


def _write(path: Path, snapshot: Snapshot) -> None:
    from flopratio.text.files import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(snapshot.to_document(), indent=1) + "\n")
