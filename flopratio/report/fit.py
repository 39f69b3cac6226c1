"""What fits: the answer as a document, on a terminal, in Markdown and in CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flopratio.report.markdown import escape, pipe_table
from flopratio.report.summary import Remark
from flopratio.report.table import ruled
from flopratio.report.units import Kind, choose, quantity
from flopratio.text.grammar import format_value

if TYPE_CHECKING:
    from flopratio.verbs.fit import Combination, Fit, Lever, Tried

SCHEMA = "flopratio.fit/1"

FIGURES = {"peak": "needs", "peak_allocated": "allocates", "peak_reserved": "reserves"}
"""The verb of each figure that may have to fit."""

WORDS = 3
"""So many columns of the levers hold words."""


def _bytes(figure: int) -> str:
    return quantity(figure, Kind.BYTES)


def _beside_memory(fit: Fit, figure: int) -> str:
    """Bytes in the unit of the memory, to be held against it."""
    unit = choose([fit.memory], Kind.BYTES)
    return f"{unit.format(figure)} {unit.name}"


# -- in words -------------------------------------------------------------------------------------


def headline(fit: Fit) -> str:
    """The answer: ``hf:gpt2 seq=1024, adamw: batch=23 is the largest that fits 80.00 GiB``."""
    if not fit.largest:
        return f"{model_text(fit)}: no {fit.key} fits {limit_text(fit)}"
    ends = fit.refusal and not any(t.runs and t.size > fit.largest for t in fit.tried)
    verdict = "tried that the model takes, and fits" if ends else "that fits"
    sentence = (
        f"{model_text(fit)}: {fit.key}={fit.largest} is the largest {verdict} {limit_text(fit)}"
    )
    if fit.peak_reserved <= fit.limit or fit.figure == "peak_reserved":
        return sentence
    what = (
        "live tensors; the allocator"
        if fit.figure == "peak"
        else ("what the allocator hands out; it")
    )
    return (
        f"{sentence} by {what} would reserve "
        f"{_beside_memory(fit, fit.peak_reserved)}: --figure peak_reserved finds the {fit.key} "
        "that fits with it"
    )


def model_text(fit: Fit) -> str:
    """The model, its other sizes, and how the step is run where that is not as usual."""
    sizes = [
        f"{key}={format_value(tuple(value) if isinstance(value, list) else value)}"
        for key, value in fit.settings.items()
        if value is not None and key not in ("tokens", fit.key)
    ]
    given = {k: v for k, v in fit.options.items() if v not in (None, "none", False)}
    step = [
        str(given[name]) if name == "optimizer" else f"{name.replace('_', ' ')} {given[name]}"
        for name in (
            "optimizer",
            "weight_decay",
            "dtype",
            "amp",
            "checkpoint",
            "attention",
            "freeze",
        )
        if name in given
    ]
    if fit.options["accumulate"] > 1:
        step.append(f"{fit.options['accumulate']} micro-batches")
    if fit.options["inference"]:
        step.append("inference")
    return ", ".join([" ".join([fit.model, *sizes]), *step])


def limit_text(fit: Fit) -> str:
    less = f" less {_bytes(fit.reserve)}" if fit.reserve else ""
    return f"{_bytes(fit.memory)}{less}"


def _at(fit: Fit, size: int) -> Tried:
    return next(tried for tried in fit.tried if tried.size == size)


def needed(fit: Fit, size: int) -> int:
    """What has to fit, at a size that ran."""
    figure: int = _at(fit, size).memory[fit.figure]
    return figure


def _too_much(fit: Fit, size: int) -> str:
    needs = needed(fit, size)
    return (
        f"{fit.key}={size} {FIGURES[fit.figure]} {_beside_memory(fit, needs)}, "
        f"{_bytes(needs - fit.limit)} too much"
    )


def failure(fit: Fit) -> str:
    """Why nothing fits, and which lever would help, in a sentence."""
    sentence = f"{model_text(fit)} does not fit {limit_text(fit)}: {_too_much(fit, fit.next)}"
    if fit.help is None:
        return f"{sentence}, and no lever helps"
    combination, tried = fit.help
    needs = tried.memory[fit.figure]
    words = _options(combination, fit)
    if needs <= fit.limit:
        return f"{sentence}; with {words} it would fit, in {_beside_memory(fit, needs)}"
    return (
        f"{sentence}; even with {words} it {FIGURES[fit.figure]} {_beside_memory(fit, needs)}, "
        f"{_bytes(needs - fit.limit)} too much"
    )


def _options(combination: Combination, fit: Fit) -> str:
    """The options of the levers that are not as given: ``--checkpoint auto --amp bf16``."""
    moved = {
        name: value for name, value in combination._asdict().items() if value != fit.options[name]
    }
    return " ".join(
        f"--{name} {value}" if value is not None else f"no --{name}"
        for name, value in moved.items()
    )


def remarks(fit: Fit) -> list[Remark]:
    """The proof, what is alive at the peak, and the allocator's figures, one line each."""
    size = fit.largest or fit.next
    lines = []
    if fit.largest:
        left = fit.limit - needed(fit, size)
        needs = f"{fit.key}={size} {FIGURES[fit.figure]} {_beside_memory(fit, needed(fit, size))}"
        lines.append(Remark("fits", f"{needs}, {_bytes(left)} left", good=True))
    if fit.refusal:
        lines.append(Remark("next", f"the model refuses {fit.key}={fit.next}: {fit.refusal}"))
    else:
        lines.append(Remark("next" if fit.largest else "least", _too_much(fit, fit.next), False))
    alive = [f"{name.replace('_', ' ')} {_bytes(nbytes)}"
             for name, nbytes in sorted(fit.at_peak.items(), key=lambda item: -item[1])
             if nbytes]  # fmt: skip
    lines.append(Remark("at peak", f"in {fit.peak_phase}: {', '.join(alive)}"))
    lines.append(
        Remark(
            "allocator",
            f"hands out {_bytes(fit.peak_allocated)}, reserves {_bytes(fit.peak_reserved)}",
        )
    )
    return lines


def notes(fit: Fit) -> list[str]:
    """What is to be known beside the answer, a sentence each, for who doesn't see the headline."""
    sentences = []
    if fit.largest and fit.peak_reserved > fit.limit and fit.figure != "peak_reserved":
        reserved = _beside_memory(fit, fit.peak_reserved)
        sentences.append(
            f"at {fit.key}={fit.largest} the allocator would reserve {reserved}, more than "
            f"{limit_text(fit)}: --figure peak_reserved finds the {fit.key} that fits with it"
        )
    return [*sentences, *notes_beside_headline(fit)]


def notes_beside_headline(fit: Fit) -> list[str]:
    """What is to be known beside the answer that its headline doesn't say."""
    key, sentences = fit.key, []
    for low, high in fit.falls:
        sentences.append(
            f"peaks do not rise with {key} alone: {_bytes(low.memory[fit.figure])} at "
            f"{key}={low.size}, {_bytes(high.memory[fit.figure])} at {key}={high.size}; values "
            "that were not tried may fit too"
        )
    if fit.step > 1:
        between = [tried for tried in fit.tried if tried.refusal and tried.size % fit.step]
        reason = f": {between[0].refusal}" if between else ""
        sentences.append(f"{key} goes in steps of {fit.step:,}; the model refuses others{reason}")
    if fit.gaps:
        sizes = ", ".join(str(gap.size) for gap in fit.gaps)
        sentences.append(
            f"the model refuses {key}={sizes}, and runs with larger: {fit.gaps[0].refusal}"
        )
    return sentences


# -- the levers -----------------------------------------------------------------------------------


def _precision(combination: Combination) -> str:
    parts = [combination.dtype or "", f"amp {combination.amp}" if combination.amp else ""]
    return " ".join(filter(None, parts)) or "default"


def lever_columns(fit: Fit) -> dict[str, list[str]]:
    """Heading -> texts, of the combinations that can be had."""
    levers = [lever for lever in fit.levers if not lever.refusal]
    unit = choose([lever.peak or 0 for lever in levers], Kind.BYTES)
    cost = [lever.flops_per_example for lever in levers]
    return {
        "checkpoint": [lever.combination.checkpoint or "none" for lever in levers],
        "optimizer": [lever.combination.optimizer for lever in levers],
        "precision": [_precision(lever.combination) for lever in levers],
        "micro-batches": [f"{lever.combination.accumulate:,}" for lever in levers],
        f"{unit.name} at {fit.key}={fit.base}": [unit.format(lever.peak or 0) for lever in levers],
        f"{unit.name} saved": [unit.format(lever.saved or 0) for lever in levers],
        "relative FLOP an example": ["" if ratio is None else f"{ratio:.3f}" for ratio in cost],
        f"largest {fit.key}": [f"{lever.largest:,}" for lever in levers],
    }


def refused(fit: Fit) -> list[str]:
    return [
        f"not to be had: {_options(lever.combination, fit)} ({lever.refusal})"
        for lever in fit.levers
        if lever.refusal
    ]


# -- documents ------------------------------------------------------------------------------------


def document(fit: Fit) -> dict[str, Any]:
    """What ``--json`` prints: plain ints, floats, strings, lists and dicts."""
    loss = fit.options["loss"]
    return {
        "schema": SCHEMA,
        "model": fit.model,
        "settings": fit.settings,
        "key": fit.key,
        "largest": fit.largest,
        "peak": fit.peak,
        "next": fit.next,
        "peak_at_next": fit.peak_at_next,
        "refusal": fit.refusal,
        "peak_allocated": fit.peak_allocated,
        "peak_reserved": fit.peak_reserved,
        "peak_phase": fit.peak_phase,
        "at_peak": fit.at_peak,
        "memory": fit.memory,
        "reserve": fit.reserve,
        "figure": fit.figure,
        "options": {
            **fit.options,
            "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "a function"),
        },
        "versions": fit.versions,
        "step": fit.step,
        "tried": [_tried(tried) for tried in fit.tried],
        "notes": notes(fit),
        "help": fit.help
        and {**fit.help[0]._asdict(), fit.key: fit.help[1].size, "peak": fit.help[1].peak},
        "base": fit.base,
        "levers": [_lever(lever) for lever in fit.levers],
    }


def _tried(tried: Tried) -> dict[str, Any]:
    figures = {name: tried.memory.get(name) for name in FIGURES}
    return {"size": tried.size, **figures, "refusal": tried.refusal}


def _lever(lever: Lever) -> dict[str, Any]:
    figures = {k: v for k, v in vars(lever).items() if k != "combination"}
    return {**lever.combination._asdict(), **figures}


def to_json(fit: Fit) -> str:
    return json.dumps(document(fit), indent=1)


def to_csv(fit: Fit) -> str:
    """A line for each combination of levers if they were asked for, else for each size tried."""
    rows = [_lever(lever) for lever in fit.levers] or [_tried(tried) for tried in fit.tried]
    rows = [
        {"model": fit.model, "key": fit.key, **row, "torch": fit.versions.get("torch", "")}
        for row in rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(fit: Fit) -> str:
    """The document, ending in a newline."""
    lines = [f"- {remark.about}: {remark.text}" for remark in remarks(fit)]
    lines += [f"- note: {note}" for note in notes_beside_headline(fit)]
    parts = [f"**{escape(headline(fit))}**", "\n".join(map(escape, lines))]
    if fit.levers:
        columns = lever_columns(fit)
        parts.append(pipe_table([*columns], WORDS, zip(*columns.values(), strict=True)))
        parts += map(escape, refused(fit))
    return "\n\n".join(parts) + "\n"


def page(fit: Fit) -> Group:
    """All that is printed on a terminal."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True, style="bold")
    lines.add_column()
    for remark in remarks(fit):
        lines.add_row(remark.about, Text(remark.text))
    parts: list[RenderableType] = [Text(headline(fit), "bold"), "", lines]
    if fit.levers:
        parts += ["", _table(lever_columns(fit)), *map(Text, refused(fit))]
    return Group(*parts)


def _table(columns: Mapping[str, list[str]]) -> Table:
    result = ruled()
    for number, heading in enumerate(columns):
        right = number >= WORDS
        result.add_column(heading, justify="right" if right else "left", vertical="bottom")
    for line in zip(*columns.values(), strict=True):
        result.add_row(*map(Text, line))
    return result


def _html(fit: Fit) -> str:
    from flopratio.report.page.fit import fit_page

    return fit_page(fit)


FORMATS: dict[str, Callable[[Fit], str]] = {
    ".json": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": _html,
}
"""Extension -> the text of what fits."""
