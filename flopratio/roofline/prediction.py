"""The time that each operator should take on a device: the longer of its arithmetic at the roof of
its dtype and of its bytes at the bandwidth, and a launch.

    expected = max(FLOP / roof, elementwise FLOP / roof, bytes / bandwidth) + launch

Nothing in here is fitted: the roofs and the launch are the device's as measured, FLOP and bytes the
ledger's (which bytes, is said in :mod:`flopratio.roofline.traffic`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from math import fsum
from typing import Any, Literal, NamedTuple

from flopratio.hardware import DeviceProfile
from flopratio.ledger import PHASES, Row
from flopratio.roofline.families import formula_file
from flopratio.roofline.times import StepTimes
from flopratio.roofline.traffic import NO_KERNEL, moved

BACKWARD = ("grad_input", "grad_weight", "recompute")
"""The phases that run inside of ``backward()``."""

REAL_PART = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
"""Complex numbers are counted, and computed, as the real arithmetic of their parts."""

ON_LISTS = ("aten._foreach_", "aten._fused_", "aten._amp_foreach_")
"""How operators on lists of tensors begin. Their ledger has a row for each layer."""

BOUNDS = ("compute", "memory", "launch")
"""What can bind an operator."""

Tf32 = Literal["none", "convolutions", "all"]
"""Which float32 products may be rounded to TF32, on a device that has it."""


class Expected(NamedTuple):
    """What the operator of a row should take; of one with several rows, this row's share."""

    seconds: float
    bound: str
    """What most of it is: one of :data:`BOUNDS`, or ``none`` for what takes no time."""
    at_roof: float = 0.0
    """Seconds of its products at the roof of their dtype."""
    launch: float = 0.0
    """Seconds of its launch."""


class ExpectedLayer(NamedTuple):
    """A layer's rows, summed: expected milliseconds."""

    name: str
    type: str
    forward_ms: float
    grad_input_ms: float
    grad_weight_ms: float
    recompute_ms: float
    update_ms: float
    bound: str
    """What binds the largest part of it."""

    @property
    def backward_ms(self) -> float:
        """With what it computes again."""
        return self.grad_input_ms + self.grad_weight_ms + self.recompute_ms

    @property
    def time_ratio(self) -> float | None:
        """Backward over forward; None where one of both takes no time."""
        forward, backward = self.forward_ms, self.backward_ms
        return backward / forward if forward and backward else None


@dataclass(frozen=True)
class Prediction:
    """What a step should take.

    Args:
        hardware: the device.
        rows: of the step's ledger.
        expected: of each row.
        without_roof: dtype -> FLOP of products in it, of which the device's roof was not measured:
            their time here is that of their bytes and launches alone, and so at least as long.
        tf32: which float32 products were taken to be rounded.
    """

    hardware: DeviceProfile
    rows: list[Row]
    expected: list[Expected]
    without_roof: dict[str, int]
    tf32: Tf32 = "convolutions"

    @cached_property
    def _seconds(self) -> dict[str, float]:
        return self.summed(lambda row, _: row.phase)

    def summed(self, key: Callable[[Row, Expected], str]) -> dict[str, float]:
        """Seconds by whatever a row's key is."""
        groups: defaultdict[str, list[float]] = defaultdict(list)
        for row, expected in zip(self.rows, self.expected, strict=True):
            groups[key(row, expected)].append(expected.seconds)
        return {name: fsum(seconds) for name, seconds in groups.items()}

    def seconds(self, *phases: str) -> float:
        """Of some phases; of the whole step if none is named."""
        return fsum(self._seconds.get(phase, 0.0) for phase in phases or PHASES)

    @property
    def step_seconds(self) -> float:
        """Forward, backward and update."""
        return self.seconds()

    @property
    def time_ratio(self) -> float | None:
        """Backward over forward, recomputation within backward, without the update; None where no
        forward or no backward takes time."""
        forward, backward = self.seconds("forward"), self.seconds(*BACKWARD)
        return backward / forward if forward and backward else None

    @property
    def bounds(self) -> dict[str, float]:
        """What binds -> seconds of the operators that it binds."""
        seconds = self.summed(lambda _, expected: expected.bound)
        return {bound: seconds.get(bound, 0.0) for bound in BOUNDS}

    def layers(self) -> list[ExpectedLayer]:
        """The rows summed by layer, in the order in which the layers first ran."""
        return self.lines(lambda row: row.layer)

    def lines(self, key: Callable[[Row], str | None]) -> list[ExpectedLayer]:
        """The rows summed by whatever their key is, in the order in which the keys first come;
        those without one are left out. The type of a line is that of its first row."""
        groups: dict[str, list[tuple[Row, Expected]]] = {}
        for row, expected in zip(self.rows, self.expected, strict=True):
            name = key(row)
            if name is not None:
                groups.setdefault(name, []).append((row, expected))
        return [_line(name, group) for name, group in groups.items()]

    def times(self) -> StepTimes:
        """As if they had been measured."""
        pairs = zip(self.rows, self.expected, strict=True)
        return StepTimes([row._replace(time_us=1e6 * each.seconds) for row, each in pairs])

    def document(self) -> dict[str, Any]:
        """For ``--json``: plain values; milliseconds."""
        phases = {phase: 1e3 * self.seconds(phase) for phase in PHASES}
        return {
            "device": self.hardware.name,
            "roofs": asdict(self.hardware),
            "tf32": self.tf32,
            "time_ms": {
                **phases,
                "backward": 1e3 * self.seconds(*BACKWARD),
                "step": 1e3 * self.step_seconds,
            },
            "time_ratio": self.time_ratio,
            "bound_ms": {bound: 1e3 * seconds for bound, seconds in self.bounds.items()},
            "without_roof": self.without_roof,
            "layers": [
                {
                    **layer._asdict(),
                    "backward_ms": layer.backward_ms,
                    "time_ratio": layer.time_ratio,
                }
                for layer in self.layers()
            ],
        }


def predict(
    rows: Sequence[Row], hardware: DeviceProfile, *, tf32: Tf32 = "convolutions"
) -> Prediction:
    """What a step should take on a device.

    Args:
        rows: of the step's ledger, in order.
        hardware: the device as it was measured.
        tf32: which float32 products may be rounded to TF32 on a device that has it. Torch's own
            settings are ``convolutions``; ``torch.set_float32_matmul_precision("high")`` makes it
            ``all``.
    """
    rows = list(rows)
    expected: list[Expected] = []
    without_roof: defaultdict[str, int] = defaultdict(int)
    for operator in _operators(rows, hardware.device):
        roofs = [_roof(row, hardware, tf32) if row.flops else None for row in operator]
        for row, roof in zip(operator, roofs, strict=True):
            if row.flops and roof is None:
                without_roof[row.dtype or "an unknown dtype"] += row.flops
        expected += _expected(operator, roofs, hardware)
    return Prediction(hardware, rows, expected, dict(without_roof), tf32)


def _operators(rows: list[Row], device: str) -> Iterator[list[Row]]:
    """The rows, operator by operator: most have one row."""
    operator: list[Row] = rows[:1]
    layers = {row.layer for row in operator}
    for before, row in pairwise(rows):
        if is_more_of(before, row) or (
            _takes_a_list_at_once(row, device)
            and (row.op, row.phase) == (before.op, before.phase)
            and row.layer not in layers  # else it is called once more
        ):
            operator.append(row)
            layers.add(row.layer)
        else:
            yield operator
            operator, layers = [row], {row.layer}
    if operator:
        yield operator


def is_more_of(before: Row, row: Row) -> bool:
    """Whether a row is one more of the fused backward operator before it: what that reads and
    writes stands in its first row."""
    same = (row.op, row.autograd) == (before.op, before.autograd) and row.autograd != ""
    return same and not row.bytes_read and not row.bytes_written and _works(row)


def _works(row: Row) -> bool:
    return bool(row.flops or row.elementwise)


def _takes_a_list_at_once(row: Row, device: str) -> bool:
    """Whether an operator on lists is one kernel. On the processor, those that aren't fused take
    the tensors one after another."""
    is_fused = row.op.startswith("aten._fused_")
    return row.op.startswith(ON_LISTS) and (is_fused or device != "cpu") and row.phase == "update"


def _roof(row: Row, hardware: DeviceProfile, tf32: Tf32) -> float | None:
    """FLOP/s of the products of a row."""
    is_rounded = tf32 == "all" or (
        tf32 == "convolutions" and formula_file(row.op) in ("convolution", "recurrent")
    )
    return hardware.roof(REAL_PART.get(row.dtype, row.dtype), tf32=is_rounded)


def _arithmetic_roof(row: Row, hardware: DeviceProfile) -> float | None:
    """FLOP/s of arithmetic apart from products, at most. Units for products have no part in it, and
    that of half precision is done in single precision."""
    is_double = REAL_PART.get(row.dtype, row.dtype) == "float64"
    return hardware.roof("float64" if is_double else "float32")


def _expected(
    operator: list[Row], roofs: list[float | None], hardware: DeviceProfile
) -> list[Expected]:
    """What each row of one operator should take."""
    if all(row.op in NO_KERNEL or _is_nothing(row) for row in operator):
        return [Expected(0.0, "none")] * len(operator)
    at_roof = [row.flops / roof if roof else 0.0 for row, roof in zip(operator, roofs, strict=True)]
    arithmetic = fsum(
        row.elementwise / roof for row in operator if (roof := _arithmetic_roof(row, hardware))
    )
    times = {
        "compute": max(fsum(at_roof), arithmetic),
        "memory": sum(map(moved, operator)) / hardware.bytes_per_s,
        "launch": hardware.launch_s,
    }
    bound = max(times, key=lambda name: times[name])
    seconds = max(times["compute"], times["memory"]) + times["launch"]
    return [
        Expected(share * seconds, bound, own, share * times["launch"])
        for share, own in zip(_shares(operator, at_roof), at_roof, strict=True)
    ]


def _is_nothing(row: Row) -> bool:
    """Whether it is a view, or of tensors without elements."""
    return not (row.bytes_read or row.bytes_written or _works(row))


def _shares(operator: list[Row], at_roof: list[float]) -> list[float]:
    """Each row's part in an operator's time: by bytes where each has its own, else by its
    arithmetic."""
    if len(operator) == 1:
        return [1.0]
    nbytes = [float(moved(row)) for row in operator]
    work = [float(row.flops + row.elementwise) for row in operator]
    parts = nbytes if all(nbytes) else at_roof if any(at_roof) else work
    whole = fsum(parts)
    return [part / whole if whole else 1 / len(parts) for part in parts]


def _line(name: str, group: list[tuple[Row, Expected]]) -> ExpectedLayer:
    ms = dict.fromkeys(PHASES, 0.0)
    bounds = dict.fromkeys(BOUNDS, 0.0)
    for row, expected in group:
        ms[row.phase] += 1e3 * expected.seconds
        if expected.bound in bounds:
            bounds[expected.bound] += expected.seconds
    bound = max(bounds, key=lambda each: bounds[each]) if any(bounds.values()) else "none"
    return ExpectedLayer(
        name,
        group[0][0].type,
        forward_ms=ms["forward"],
        grad_input_ms=ms["grad_input"],
        grad_weight_ms=ms["grad_weight"],
        recompute_ms=ms["recompute"],
        update_ms=ms["update"],
        bound=bound,
    )
