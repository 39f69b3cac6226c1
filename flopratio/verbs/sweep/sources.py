"""What independent sources say of one step, held against its ledger: each comparison is true, or
false, or was not made, for a reason that is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from flopratio.errors import UsageError, message_of
from flopratio.ledger import Ledger, Mismatch, Row
from flopratio.networks.analytic import KERNELS_DIFFER
from flopratio.networks.description import Network
from flopratio.peers import (
    forward_by_fvcore,
    products_by_fvcore,
    saved_by_autograd,
    total_by_flop_counter,
    unknown_to_flop_counter,
)
from flopratio.step.losses import predictions
from flopratio.step.out_of_memory import is_out_of_memory
from flopratio.step.real import spec_step
from flopratio.step.run import PreparedStep, Step
from flopratio.torch_private import parameters
from flopratio.trace.recording import Recording
from flopratio.verbs.compare import has_formulas
from flopratio.verbs.sweep.file import BETWEEN

MOST_FLOPS = 20_000_000_000
"""A forward of more than these is not executed for fvcore's sake."""

MOST_PARAMETERS = 200_000_000
"""Nor is one of a model with more than these, which would have to be made."""

GROUPS = 9
"""The position of ``groups`` among the arguments of ``aten.convolution_backward``."""


class Sources:
    """The comparisons of one step.

    Args:
        step: on fake tensors.
        counted: its ledger, of formulas where there are such of the whole network.
        executed: the ledger of the operators that it ran.
    """

    def __init__(self, step: Step, counted: Ledger, executed: Ledger) -> None:
        self._step = step
        self._counted = counted
        self._executed = executed
        self._columns: dict[str, bool | None] = {}
        self._reasons: dict[str, str] = {}

    def columns(self) -> dict[str, Any]:
        """The comparisons, and why some were not made."""
        told = BETWEEN.join(
            f"{column}: {' '.join(why.replace(BETWEEN, ' ').split())}"
            for column, why in self._reasons.items()
        )
        return {**self._columns, "not_compared": told or None}

    def _leave_out(self, column: str, why: str) -> None:
        self._columns[column], self._reasons[column] = None, why

    def compare_executed(self, ran: Ledger, mismatches: Collection[Mismatch]) -> None:
        """The law, and with it the formulas, against the operators that ran.

        Args:
            ran: the ledger of the step on a device; or on fake tensors, where none was asked for.
            mismatches: between the formulas and these.
        """
        one, other = self._executed.totals, ran.totals
        same = (one.forward, one.grad_input, one.grad_weight) == (
            other.forward, other.grad_input, other.grad_weight
        )  # fmt: skip
        column = "executed_equal"
        if mismatches or ran.reconciled is False or not same:
            self._columns[column] = False
        elif ran.uncounted_ops:
            self._leave_out(column, f"there is no formula for {', '.join(ran.uncounted_ops)}")
        elif ran.reconciled is None:
            self._leave_out(column, ran.why_not_compared)
        else:
            self._columns[column] = True

    def compare_saved(self) -> None:
        """Saved bytes against those that autograd's own hooks see, of one forward."""
        column, options = "saved_equal", self._step.options
        if options.checkpoint is not None:
            self._leave_out(column, "a checkpoint keeps nothing by autograd's hooks")
            return
        if options.accumulate > 1:
            self._leave_out(column, "the hooks see one micro-batch")
            return
        formulas = self._counted is not self._executed
        differ = not {*KERNELS_DIFFER}.isdisjoint(self._counted.types.values())
        if formulas and differ and (options.target != "cpu" or not has_formulas(self._executed)):
            self._leave_out(column, "these kernels keep other tensors than the formulas say")
            return
        with self._step.prepared() as prepared:
            run = partial(saved_by_autograd, prepared.forward, parameters(self._step.module))
            saved = self._step.explained(run)
        counted, executed = self._counted.totals.saved_bytes, self._executed.totals.saved_bytes
        self._columns[column] = counted == saved == executed

    def compare_fvcore(
        self, network: Network | None, model: str, settings: Mapping[str, Any]
    ) -> None:
        """Forward against fvcore, which skips attention.

        Args:
            network: of a built-in one, of which fvcore executes a single example.
        """
        column = "fvcore_equal"
        if find_spec("fvcore") is None:
            self._leave_out(column, "fvcore is not installed")
            return
        counted = _without_attention(self._counted)
        if network is not None and self._step.options.accumulate == 1:
            self._columns[column] = counted == forward_by_fvcore(network)
            return
        total = self._counted.totals
        if total.forward > MOST_FLOPS or total.parameters > MOST_PARAMETERS:
            self._leave_out(
                column,
                "fvcore executes what it counts, and this is more than "
                f"{MOST_FLOPS:,} FLOP or {MOST_PARAMETERS:,} parameters",
            )
            return
        options = replace(self._step.options, checkpoint=None, amp=None)
        try:
            real = spec_step(model, settings, options, torch.device("cpu"))
            forward = _Forward(real)
            tensors = tuple(parameters(real.module))[:1]
            flops, skipped = products_by_fvcore(forward, tensors)
        except (Exception, SystemExit) as error:  # whatever tracing makes foreign code raise
            if is_out_of_memory(error):
                raise
            self._leave_out(column, f"fvcore can't trace it ({message_of(error)[:80]})")
            return
        flops *= options.accumulate
        if flops != counted and skipped:
            told = f"fvcore counts {flops:,} of {counted:,} FLOP: it skips {', '.join(skipped)}"
            self._leave_out(column, told)
        else:
            self._columns[column] = flops == counted

    def compare_flop_counter(self, recording: Recording) -> None:
        """Forward, backward and recompute against ``FlopCounterMode``'s. Of attention that counts
        the products alone: it knows no fused operator of the CPU's."""
        column, step = "flop_counter_equal", self._step
        products = replace(step, options=replace(step.options, attention="math"))

        def run(prepared: PreparedStep) -> None:
            for _ in range(step.options.accumulate):
                prepared.forward().backward()

        try:
            with products.prepared() as prepared:
                flops = step.explained(lambda: total_by_flop_counter(partial(run, prepared)))
        except UsageError as error:
            if isinstance(error, MemoryError):
                raise
            self._leave_out(column, f"FlopCounterMode fails: {error}")
            return
        counted = sum(row.flops for row in self._counted.rows if not _is_within_attention(row))
        if flops == counted:
            self._columns[column] = True
            return
        if why := _faults(recording, self._executed):
            self._leave_out(column, f"FlopCounterMode counts {flops:,} of {counted:,} FLOP: {why}")
        else:
            self._columns[column] = False


class _Forward(torch.nn.Module):
    """A model's forward with its inputs at hand: fvcore can't hand over keywords, and reads tensors
    only."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.module = step.module
        self._inputs = step.inputs

    def forward(self, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.module(*self._inputs.args, **self._inputs.kwargs)
        with torch.enable_grad():
            return tuple(predictions(output)) if not isinstance(output, torch.Tensor) else (output,)


def _without_attention(ledger: Ledger) -> int:
    """Forward FLOP but those of attention."""
    return sum(
        row.flops
        for row in ledger.rows
        if row.phase == "forward" and row.type != "Attention" and "attention" not in row.op
    )


def _is_within_attention(row: Row) -> bool:
    """Whether a row is of what a fused attention's backward computes again, which one of products
    doesn't."""
    return row.phase == "recompute" and "attention_" in row.op and row.op.endswith("_backward")


def _faults(recording: Recording, ledger: Ledger) -> str:
    """Why ``FlopCounterMode`` is known to be wrong of a step; empty if it isn't."""
    backward = (r for r in recording.records if r.op.name == "aten.convolution_backward")
    if any(record.arguments[GROUPS] > 1 for record in backward):
        return "it multiplies the weight gradient of a grouped convolution by the groups"
    products = (row.op for row in ledger.rows if row.flops and "attention" not in row.op)
    if unknown := unknown_to_flop_counter(products):
        return f"it has no formula for {', '.join(unknown)}"
    return ""
