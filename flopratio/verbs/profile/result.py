"""A profile: what a training step did and how long it took, beside what the roofs of the device let
one expect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError
from flopratio.hardware import DeviceProfile
from flopratio.ledger import Ledger
from flopratio.measure import Interval, MeasuredMemory, Profiled, Timing
from flopratio.memory import STEP_PHASES
from flopratio.roofline import Explanation, Prediction, explain, predict
from flopratio.roofline.prediction import Tf32
from flopratio.verbs.profile.groups import UNDIVIDED, Group, Work, entries, group_of, grouped
from flopratio.verbs.profile.operators import OperatorDifference

if TYPE_CHECKING:
    import pandas as pd

WALL = ("forward", "backward", "update", "step")
"""The phases that are timed without the profiler."""

MEASURED = "measured_"
"""How the names of the measured figures begin that stand beside the predicted ones."""


@dataclass(frozen=True)
class Profile:
    """A measured training step.

    Args:
        ledger: of the step as it was executed, with ``time_us``; its memory is the predicted one.
        timing: of the phases, without the profiler; its :attr:`profiled` has the rest.
        roofs: of the device, as measured.
        measured_memory: peaks of the step; None if they were not measured.
        differences: operators that ran otherwise than in the trace on shapes alone.
        not_traced: why there is no such trace to compare with; empty if there is.
        machine: what the times depend on, see :func:`flopratio.measure.machine`.
        notes: what else to know of the figures, a sentence each.
        interrupted: whether the user ended it before everything was measured.
        examples: of a step, all its micro-batches together; None where its inputs don't say.
    """

    ledger: Ledger
    timing: Timing
    roofs: DeviceProfile
    measured_memory: MeasuredMemory | None = None
    differences: list[OperatorDifference] = field(default_factory=list)
    not_traced: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    examples: int | None = None

    @property
    def profiled(self) -> Profiled:
        """The repeats under torch's profiler; none of them where the user ended it before."""
        return self.timing.profiled or _not_profiled(self.ledger)

    @property
    def tf32(self) -> Tf32:
        """Which float32 products could be rounded to TF32 where it was measured."""
        if self.machine.get("tf32_matmul"):
            return "all"
        return "convolutions" if self.machine.get("tf32_cudnn") else "none"

    @cached_property
    def prediction(self) -> Prediction:
        """The expected time of every row of the ledger."""
        return predict(self.ledger.rows, self.roofs, tf32=self.tf32)

    @cached_property
    def explanation(self) -> Explanation | None:
        """Why the ratio of times is not that of the FLOP; None where there is no ratio, see
        :attr:`not_explained`."""
        return self._explained[0]

    @property
    def not_explained(self) -> str:
        """Why there is no explanation; empty if there is one."""
        return self._explained[1]

    @cached_property
    def _explained(self) -> tuple[Explanation | None, str]:
        try:
            return explain(self.profiled.times(), self.roofs, tf32=self.tf32), ""
        except UsageError as error:
            return None, str(error)

    # -- the step -----------------------------------------------------------------------------

    @property
    def flop_ratio(self) -> float | None:
        """Backward over forward in FLOP of contractions; None where forward has none."""
        return self.ledger.ratio.backward_to_forward

    @property
    def predicted_time_ratio(self) -> float | None:
        """Backward over forward in time, by the roofs alone."""
        return self.prediction.time_ratio

    @property
    def time_ratio(self) -> Interval:
        """Backward over forward in time, as measured without the profiler. What backward computes
        again is in it."""
        return self.timing.time_ratio

    @property
    def examples_per_s(self) -> float | None:
        """Examples of a step over its median time; None where it is not known how many they are."""
        return self._per_s(self.examples)

    @property
    def tokens_per_s(self) -> float | None:
        """As :attr:`examples_per_s`; None where the examples have no tokens."""
        tokens = self.ledger.settings.get("tokens")  # of a micro-batch
        if not isinstance(tokens, int):
            return None
        return self._per_s(tokens * self.ledger.convention.get("accumulate", 1))

    def _per_s(self, number: int | None) -> float | None:
        return None if number is None else number / self.timing.step_ms.median * 1e3

    @property
    def achieved_flops_per_s(self) -> float:
        """All contractions of a step, over its time without the profiler."""
        return self.total.total.flops / self.timing.step_ms.median * 1e3

    @property
    def mfu(self) -> float | None:
        """Model FLOP utilisation: the time that the contractions of forward and backward would take
        at the measured roof of their dtype, over the time of the step. (Of one dtype that is
        achieved over possible FLOP/s.) None where a roof is not known."""
        return self._utilisation("forward", "grad_input", "grad_weight")

    @property
    def hfu(self) -> float | None:
        """Hardware FLOP utilisation: as :attr:`mfu`, with what is computed again."""
        return self._utilisation("forward", "grad_input", "grad_weight", "recompute")

    def _utilisation(self, *phases: str) -> float | None:
        needed = self.total.at_roof_ms(*phases)
        return None if self.prediction.without_roof else needed / self.timing.step_ms.median

    @property
    def idle_ms(self) -> float:
        """Time of a step in no kernel (on the CPU: in no operator)."""
        return sum(idle.median for idle in self.profiled.idle_ms.values())

    # -- groups -------------------------------------------------------------------------------

    @cached_property
    def total(self) -> Group:
        """The whole step."""
        return group_of("", self.ledger.model, list(entries(self)))

    def layers(self) -> list[Group]:
        """What each layer did and how long it took, in the order in which they first ran."""
        return self.grouped("layer")

    def grouped(self, by: str, fold: Callable[[str], str] = str) -> list[Group]:
        """As :meth:`layers`, by ``layer``, ``type``, ``op`` or ``phase``.

        Args:
            fold: layer -> the module that it is counted with.
        """
        return grouped(self, by, fold)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The ledger's table, with ``predicted_us`` and ``bound``."""
        frame = self.ledger.frame.copy()
        frame["predicted_us"] = [each.seconds * 1e6 for each in self.prediction.expected]
        frame["bound"] = [each.bound for each in self.prediction.expected]
        return frame

    def __repr__(self) -> str:
        flops = "none" if self.flop_ratio is None else f"{self.flop_ratio:.3f}"
        return (
            f"Profile({self.ledger.model or 'step'} on {self.roofs.name}: "
            f"{self.timing.step_ms.median:.3f} ms a step, backward : forward = {flops} in FLOP, "
            f"{self.time_ratio.median:.3f} in time)"
        )

    # -- documents ----------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints: the ledger's document, with times beside the counts."""
        document = self.ledger.document()
        timing, profiled, explanation = self.timing, self.profiled, self.explanation
        rows = document.pop("rows")
        by_name = {group.name: group for group in self.layers()}
        for entry in document["layers"]:
            entry.update(self._layer(by_name.pop(entry["name"])))
        if self.measured_memory is not None:
            document["memory"] |= {
                f"{MEASURED}{name}": value for name, value in asdict(self.measured_memory).items()
            }
        return {
            **document,
            "device": self.roofs.device,
            "machine": dict(self.machine),
            "repeats": timing.repeats,
            "time_ms": {
                **{name: asdict(getattr(timing, f"{name}_ms")) for name in WALL},
                **{
                    name: asdict(profiled.phases_ms[name])
                    for name in ("grad_input", "grad_weight", "recompute")
                    if name in profiled.phases_ms
                },
            },
            "time_ratio": self.time_ratio.median,
            "time_ratio_interval": asdict(self.time_ratio),
            "predicted_time_ratio": self.predicted_time_ratio,
            "examples": self.examples,
            "examples_per_s": self.examples_per_s,
            "tokens_per_s": self.tokens_per_s,
            "achieved_flops_per_s": self.achieved_flops_per_s,
            "mfu": self.mfu,
            "hfu": self.hfu,
            "profiler_overhead": profiled.overhead,
            "profiled": {
                "repeats": profiled.repeats,
                "phases_ms": {name: asdict(each) for name, each in profiled.phases_ms.items()},
                "kernels_ms": asdict(profiled.kernels_ms),
                "wall_ms": asdict(profiled.wall_ms),
                "idle_ms": {name: asdict(each) for name, each in profiled.idle_ms.items()},
                "rest_us": [[*place, us] for place, us in profiled.rest.items()],
                "undivided_us": dict(profiled.undivided),
            },
            "unmatched": dict(profiled.unmatched),
            "untraced": dict(profiled.untraced),
            "unattributed": dict(profiled.unattributed),
            "roofs": json.loads(self.roofs.to_json()),
            "predicted": {
                name: value
                for name, value in self.prediction.document().items()
                if name not in ("roofs", "layers")
            },
            "explanation": None if explanation is None else explanation.document(),
            "not_explained": self.not_explained,
            "operator_differences": [each._asdict() for each in self.differences],
            "not_traced": self.not_traced,
            "profile_notes": self.notes,
            "interrupted": self.interrupted,
            "rows": rows,
        }

    def _layer(self, group: Group) -> dict[str, Any]:
        """A layer's times, as a document tells them."""
        divided = not group.ms(UNDIVIDED)
        needed = group.at_roof_ms("forward", "grad_input", "grad_weight")
        is_known = group.total.ms and not self.prediction.without_roof
        return {
            "forward_ms": group.ms("forward"),
            "grad_input_ms": group.ms("grad_input") if divided else None,
            "grad_weight_ms": group.ms("grad_weight") if divided else None,
            "backward_ms": group.backward_ms,
            "recompute_ms": group.ms("recompute"),
            "update_ms": group.ms("update"),
            "time_ratio": group.time_ratio,
            "mfu": needed / group.total.ms if is_known else None,
            **_work(group.total),
            "phases": {phase: _work(work) for phase, work in group.phases.items()},
        }

    def to_json(self, *, rows: bool = True) -> str:
        """The document as JSON; ``rows=False`` leaves the operators out, which :meth:`from_json`
        needs."""
        document = self.document()
        return json.dumps(document if rows else self.ledger.without_rows(document), indent=1)

    def to_csv(self) -> str:
        """As :meth:`flopratio.Ledger.to_csv`, with ``predicted_us`` and ``bound``."""
        frame = self.frame
        return self.ledger.to_csv(
            predicted_us=list(frame["predicted_us"]), bound=list(frame["bound"])
        )

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile that :meth:`to_json` wrote.

        Raises:
            UsageError: the text is no ledger, has no rows, or has no times.
        """
        return cls._of(Ledger.from_json(text), json.loads(text))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Profile:
        """The profile that :meth:`document` told.

        Raises:
            UsageError: it has no rows, or no times.
        """
        return cls._of(Ledger.from_document(document), document)

    @classmethod
    def _of(cls, ledger: Ledger, document: Mapping[str, Any]) -> Profile:
        if "time_ms" not in document:
            raise UsageError(
                "this ledger was counted and not measured: flopratio profile measures one"
            )
        memory = ledger.memory
        names = [name for name in memory if name.startswith(MEASURED)]
        measured = {name.removeprefix(MEASURED): memory.pop(name) for name in names}
        own = document["profiled"]
        profiled = Profiled(
            ledger=ledger,
            rest={(layer, phase): us for layer, phase, us in own["rest_us"]},
            undivided=own["undivided_us"],
            unmatched=Counter(document["unmatched"]),
            untraced=Counter(document["untraced"]),
            unattributed=document["unattributed"],
            phases_ms={name: Interval(**each) for name, each in own["phases_ms"].items()},
            kernels_ms=Interval(**own["kernels_ms"]),
            idle_ms={name: Interval(**each) for name, each in own["idle_ms"].items()},
            wall_ms=Interval(**own["wall_ms"]),
            overhead=document["profiler_overhead"],
            time_ratio=document["time_ratio"],
            forward_ms=document["time_ms"]["forward"]["median"],
            backward_ms=document["time_ms"]["backward"]["median"],
            repeats=own["repeats"],
        )
        wall = {name: Interval(**document["time_ms"][name]) for name in WALL}
        timing = Timing(
            forward_ms=wall["forward"],
            backward_ms=wall["backward"],
            update_ms=wall["update"],
            step_ms=wall["step"],
            time_ratio=Interval(**document["time_ratio_interval"]),
            repeats=document["repeats"],
            profiled=profiled,
        )
        return cls(
            ledger,
            timing,
            DeviceProfile.from_json(json.dumps(document["roofs"])),
            measured_memory=MeasuredMemory(**measured) if measured else None,
            differences=[OperatorDifference(**each) for each in document["operator_differences"]],
            not_traced=document["not_traced"],
            machine=document["machine"],
            notes=document["profile_notes"],
            interrupted=document["interrupted"],
            examples=document["examples"],
        )


def _not_profiled(ledger: Ledger) -> Profiled:
    """No step under the profiler at all."""
    none = Interval(0.0, 0.0, 0.0)
    idle = dict.fromkeys(STEP_PHASES, none)
    return Profiled(ledger, {}, {}, Counter(), Counter(), {}, {}, none, idle, none, 0.0)


def _work(work: Work) -> dict[str, Any]:
    return {
        "ms": work.ms,
        "predicted_ms": work.predicted_ms,
        "flops": work.flops,
        "bytes": work.nbytes,
        "achieved_flops_per_s": work.flops_per_s,
        "achieved_bytes_per_s": work.bytes_per_s,
        "intensity": work.intensity,
        "bound": work.bound,
    }
