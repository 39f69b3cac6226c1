"""Stage 1: small steps, really executed under the Profiler and predicted on fake tensors,
compared operator by operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, NamedTuple

from experiments.gpu.cases import Case, sizes
from experiments.gpu.rows import Run, run_rows
from flopratio.formulas.attention import backend
from flopratio.ledger import Ledger
from flopratio.text.dtypes import dtype_name
from flopratio.trace.attribution import attribute
from flopratio.trace.recording import LIST, TENSOR, Record, Recording
from flopratio.verbs.traced import trace_step

OWN = "experiments.gpu.networks"
GPT = {"batch": 2, "seq": 64}
HF = {"batch": 2, "seq": 64, "vocab_size": 1000}
BERT = {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2}
VIT = "timm:vit_tiny_patch16_224"

CASES = (
    Case("mlp", "mlp", {"batch": 8}, {"optimizer": "sgd"}),
    Case("cnn", "cnn", {"batch": 4}, {"optimizer": "momentum"}),
    Case("resnet", "torchvision:resnet18", {"batch": 4, "image": 64}, {"optimizer": "sgd"}),
    Case("vit", VIT, {"batch": 2, "depth": 2}, {"optimizer": "adamw"}),
    Case("gpt", f"{OWN}:gpt", GPT, {"optimizer": "adam", "dtype": "bfloat16"}),
    Case("llama", f"{OWN}:llama", GPT, {"optimizer": "adamw", "dtype": "bfloat16"}),
    Case("llama float32", f"{OWN}:llama", GPT, {"optimizer": "adamw"}),
    Case("bert", "hf:bert", {**HF, **BERT}, {"optimizer": "adamw"}),
    Case("lstm", f"{OWN}:lstm", {}, {"optimizer": "adam"}),
    Case("unet autocast", f"{OWN}:unet", {}, {"optimizer": "sgd", "amp": "bf16"}),
    Case("gpt autocast", f"{OWN}:gpt", GPT, {"optimizer": "adamw", "amp": "bf16"}),
    Case("gpt2 autocast", "hf:gpt2", {**HF, "n_layer": 2}, {"optimizer": "adamw", "amp": "bf16"}),
    Case("bert autocast", "hf:bert", {**HF, **BERT}, {"optimizer": "adamw", "amp": "bf16"}),
    Case("lstm autocast", f"{OWN}:lstm", {}, {"optimizer": "adam", "amp": "bf16"}),
    Case("gpt checkpointed", f"{OWN}:gpt", GPT, {"checkpoint": "auto", "amp": "bf16"}),
    *(
        Case(f"{name} {how}", "mlp", {"batch": 8}, {"optimizer": name, **implementation})
        for name, how, implementation in (
            ("adam", "foreach", {"optimizer_implementation": "foreach"}),
            ("adam", "fused", {"optimizer_implementation": "fused"}),
            ("sgd", "fused", {"optimizer_implementation": "fused"}),
            ("rmsprop", "foreach", {"optimizer_implementation": "foreach"}),
        )
    ),
)
SMALL = ("mlp", "gpt autocast", "lstm", "adam fused")
"""Of these, what the rehearsal runs."""

COLUMNS = (
    *("what", "layer", "phase", "position", "predicted", "executed"),
    *("operators", "flops_equal", "saved_equal", "reconciled", "uncounted", "attention", "model"),
)
"""``what`` is ``operator`` in the row of a difference, and ``step`` in that of the whole step, the
last: how many operators there are on either side and how many differ, and the figures."""

PLACES = ("device", "layout", "pin_memory", "non_blocking")
"""Keywords that differ for fake tensors of the CPU."""


class Call(NamedTuple):
    """A dispatched operator, by all that can be compared."""

    layer: str
    phase: str
    text: str


def run(run: Run) -> bool:
    """``smoke.csv``."""
    targets = dict.fromkeys(("cuda", run.target) if run.on_cuda else (run.target,))
    cases = [case for case in CASES if not run.small or case.name in SMALL]
    return run_rows(
        run,
        "smoke",
        ("step", "target"),
        COLUMNS,
        (
            ((case.name, target), lambda case=case, target=target: compared(run, case, target))
            for case in cases
            for target in targets
        ),
    )


def compared(run: Run, case: Case, target: str) -> Iterator[dict[str, Any]]:
    """A row for each operator that the prediction has otherwise, and the step's."""
    predicted = trace_step(case.predicted(target))
    executed = trace_step(case.real(run.device, target))
    here, there = calls(predicted.recording), calls(executed.recording)
    found = list(differences(here, there))
    yield from found
    yield {
        "what": "step",
        "predicted": len(here),
        "executed": len(there),
        "operators": len(found),
        **_figures(predicted.ledger, executed.ledger),
        "model": f"{case.model} {sizes({**case.settings, **case.options})}",
    }


def calls(recording: Recording) -> list[Call]:
    """The operators in the order in which they ran, each with what it is attributed to."""
    rows = attribute(recording).row_of_each_record()
    return [
        Call(row.layer, row.phase, f"{record.op}({', '.join(_arguments(record))})")
        for row, record in zip(rows, recording.records, strict=True)
    ]


def _arguments(record: Record) -> Iterator[str]:
    yield from map(_written, record.arguments)
    for name, value in record.keywords:
        if value is not None and name not in PLACES:
            yield f"{name}={_written(value)}"


def _written(argument: Any) -> str:
    """``float32[8, 4]`` for a tensor."""
    if not isinstance(argument, tuple) or not argument:
        return str(argument)
    kind, *rest = argument
    if kind == TENSOR:
        return f"{dtype_name(rest[1])}{list(rest[0])}"
    if kind == LIST:
        return f"[{', '.join(map(_written, rest))}]"
    return str(argument)


def differences(predicted: list[Call], executed: list[Call]) -> Iterator[dict[str, Any]]:
    """Where two runs part ways, operator by operator."""
    matcher = SequenceMatcher(None, predicted, executed, autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        pairs = zip_longest(predicted[start:end], executed[other_start:other_end])
        for position, (mine, theirs) in enumerate(pairs, start):
            place = mine or theirs
            assert place is not None
            yield {
                "what": "operator",
                "layer": place.layer,
                "phase": place.phase,
                "position": position,
                "predicted": _beside(mine, place),
                "executed": _beside(theirs, place),
            }


def _beside(call: Call | None, place: Call) -> str:
    """A call's text; with its place, where that is another."""
    if call is None:
        return ""
    if call[:2] == place[:2]:
        return call.text
    return f"{call.text} in {call.layer} {call.phase}"


def _figures(predicted: Ledger, executed: Ledger) -> dict[str, Any]:
    flops = ("forward", "grad_input", "grad_weight", "recompute", "update")
    mine, theirs = predicted.totals, executed.totals
    return {
        "flops_equal": all(getattr(mine, name) == getattr(theirs, name) for name in flops),
        "saved_equal": mine.saved_bytes == theirs.saved_bytes,
        "reconciled": executed.reconciled,
        "uncounted": " ".join(executed.uncounted_ops),
        "attention": f"{_attention(predicted.rows)}; {_attention(executed.rows)}",
    }


def _attention(rows: Iterable[Any]) -> str:
    ops = [row.op for row in rows]
    named = dict.fromkeys(op for op in ops if "attention" in op and "backward" not in op)
    return " ".join(named) or backend(ops)
