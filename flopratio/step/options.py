"""The options of a training step: the one place where they are declared. The keywords of
:func:`flopratio.count` and its kin, the options of the command line and the convention of a
document follow from it. Torch is not needed for it.

An option more is a field of :class:`StepOptions`, the same line in :class:`StepKeywords` (for type
checkers, which can't derive it), and what it does, in ``run.py``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, TypeVar

from flopratio.allocator.device import targets
from flopratio.errors import UsageError
from flopratio.step import optimizers
from flopratio.step.attention import ATTENTION
from flopratio.step.weight_decay import WeightDecay, read_weight_decay
from flopratio.text import dtypes
from flopratio.text.suggestions import not_among

if TYPE_CHECKING:
    import torch

LossFunction = Callable[[Any], "torch.Tensor"]
"""Takes a model's output, gives a scalar."""

LOSSES = ("auto", "cross_entropy", "mse", "sum")

AUTOCAST = ("bf16", "fp16")
"""What autocast may run in."""

AUTO = "auto"
"""The ``checkpoint`` that finds a chain of blocks by itself; ``auto:K``: in K segments."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Option(NamedTuple):
    """What there is to say of an option.

    Args:
        help: what it does, in a few words.
        metavar: how its value is written; empty for a flag.
        unless_given: what holds where it isn't given, if its default of None doesn't say.
        choices: gives the values that it may have; None where these can't be listed.
        least: of a number, the smallest.
        is_pattern: whether its value is a pattern of names.
        in_convention: whether a document tells it as it was given.
    """

    help: str
    metavar: str
    unless_given: str
    choices: Callable[[], Iterable[str]] | None
    least: int | None
    is_pattern: bool
    in_convention: bool


def option(
    default: Any,
    help: str,
    metavar: str = "",
    *,
    unless_given: str = "",
    choices: Callable[[], Iterable[str]] | None = None,
    least: int | None = None,
    is_pattern: bool = False,
    in_convention: bool = True,
) -> Any:
    """A field of :class:`StepOptions`."""
    about = Option(help, metavar, unless_given, choices, least, is_pattern, in_convention)
    return dataclasses.field(default=default, metadata={"option": about})


def _written(names: Iterable[str]) -> str:
    return "|".join(names)


def _causal() -> tuple[str, ...]:
    from flopratio.formulas.attention import CAUSAL  # with NumPy, which --help does without

    return CAUSAL


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How a step is run.

    Raises:
        UsageError: a value that an option can't have; one sentence says which it can.
    """

    loss: str | LossFunction = option(  # noqa: RUF009 - a field
        "auto",
        "auto: the model's own, else what fits its output.",
        _written(LOSSES),
        choices=lambda: LOSSES,
    )
    """Or a function of the model's output."""

    optimizer: str = option(
        "none",
        "Whose update to run.",
        _written(optimizers.NAMES),
        choices=lambda: optimizers.NAMES,
    )
    optimizer_implementation: str | None = option(
        None,
        "How torch runs the update",
        _written(optimizers.IMPLEMENTATIONS),
        unless_given="as it does on the target",
        choices=lambda: optimizers.IMPLEMENTATIONS,
    )
    """See :data:`flopratio.step.optimizers.IMPLEMENTATIONS`."""

    weight_decay: str | float | None = option(
        None,
        "In the update; loss:0.01: as a term of the loss",
        "0.01|loss:0.01",
        unless_given="the optimizer's own, 0.01 of adamw",
    )
    """See :mod:`flopratio.step.weight_decay`; kept as a number, or as ``loss:`` and a number."""

    dtype: str | torch.dtype | None = option(  # noqa: RUF009 - a field
        None,
        "Of parameters, inputs and activations",
        _written(dtypes.FLOATING),
        unless_given="the model's own",
        choices=lambda: dtypes.RUNNABLE,
        in_convention=False,
    )
    """By any of its names, or as torch's own object; kept by torch's name."""

    amp: str | None = option(
        None, "Run forward and loss under autocast.", _written(AUTOCAST), choices=lambda: AUTOCAST
    )
    freeze: str | None = option(
        None, "Parameters or layers that don't train: 'first.*'.", "PATTERN", is_pattern=True
    )
    """See :mod:`flopratio.step.freezing`."""

    checkpoint: str | None = option(
        None,
        "Layers that backward computes again: 'layer1.*'; auto:4: all, in 4 segments.",
        "PATTERN|auto[:K]",
        is_pattern=True,
    )
    """See :mod:`flopratio.step.checkpointing`."""

    accumulate: int = option(
        1, "Micro-batches before the update, each of that batch.", "N", least=1
    )
    attention: str | None = option(
        None,
        "Whose kernels attention may use.",
        _written(ATTENTION),
        choices=lambda: ATTENTION,
        in_convention=False,  # it tells the kernels that ran
    )
    causal: str = option(
        "full",
        "half: discount what a causal mask hides from attention.",
        "full|half",
        choices=_causal,
    )
    """See :func:`flopratio.formulas.attention.causal_half`."""

    input_grad: bool = option(
        False, "Ask for the gradient of the network's input too; tokens have none."
    )
    inference: bool = option(False, "Forward alone, no gradients.")
    """In eval mode, and without a graph."""

    target: str = option(
        "cuda",
        "Whose kernels and allocator to predict for; a GPU by name: H100-80GB.",
        "cuda|cpu|GPU",
        choices=targets,
    )
    """See :mod:`flopratio.step.cuda_kernels`. Of a named GPU the workspaces are known too."""

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, str):
            raise UsageError(
                f"give the optimizer by name, such as {type(self.optimizer).__name__.lower()!r}; "
                "fr.Profiler takes a step with an optimizer of your own"
            )
        if self.dtype is not None:
            object.__setattr__(self, "dtype", dtypes.dtype_name(self.dtype))
        for name, about in about_options().items():
            value, default = getattr(self, name), DEFAULTS[name]
            if value is None and default is None:
                continue
            if about.choices is not None:
                choices = list(about.choices())
                if value not in choices and not (name == "loss" and callable(value)):
                    raise not_among(name, value, choices)
            elif about.is_pattern and not isinstance(value, str):
                raise UsageError(f"{name}={value!r} should be a pattern, such as 'layer1.*'")
            elif isinstance(default, bool):
                if not isinstance(value, bool):
                    raise UsageError(f"{name}={value!r} should be true or false")
            elif about.least is not None:
                if not isinstance(value, int) or isinstance(value, bool):
                    raise UsageError(f"{name}={value!r} should be a whole number")
                if value < about.least:
                    raise UsageError(f"{name}={value} should be at least {about.least}")
        segments_of(self.checkpoint)
        decay = read_weight_decay(self.weight_decay)
        written = decay.update if decay.loss is None else f"loss:{decay.loss}"
        object.__setattr__(self, "weight_decay", written)
        if decay.update is not None and self.optimizer == "none":
            raise UsageError(
                f"weight_decay={written} is of an update: name an optimizer, or make it a term of "
                f"the loss, loss:{written}"
            )
        if decay.loss is not None and self.inference:
            raise UsageError(f"inference has no loss: leave out weight_decay={written}")
        if self.inference and self.optimizer != "none":
            raise UsageError(f"inference has no update: leave out optimizer={self.optimizer}")
        if self.inference and self.input_grad:
            raise UsageError("inference has no gradients: leave out input_grad")

    @classmethod
    def among(cls, words: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """The options among some keywords, and what is left of these."""
        given = {name: value for name, value in words.items() if name in DEFAULTS}
        return cls(**given), {name: words[name] for name in words if name not in DEFAULTS}

    @property
    def decay(self) -> WeightDecay:
        """Of the weights."""
        return read_weight_decay(self.weight_decay)

    @property
    def implementation(self) -> str:
        """Of the optimizer."""
        if self.optimizer_implementation is not None:
            return self.optimizer_implementation
        return "plain" if self.target == "cpu" else "foreach"

    def as_dict(self) -> dict[str, Any]:
        """The options by name."""
        return {name: getattr(self, name) for name in DEFAULTS}

    def convention(self) -> dict[str, Any]:
        """The options as a document tells them."""
        resolved = {
            "loss": self.loss if isinstance(self.loss, str) else "a function",
            "optimizer_implementation": None if self.optimizer == "none" else self.implementation,
        }
        return {
            name: resolved.get(name, getattr(self, name))
            for name, about in about_options().items()
            if about.in_convention
        }


class StepKeywords(TypedDict, total=False):
    """The fields of :class:`StepOptions` as keywords, for type checkers."""

    loss: str | LossFunction
    optimizer: str
    optimizer_implementation: str | None
    weight_decay: str | float | None
    dtype: str | torch.dtype | None
    amp: str | None
    freeze: str | None
    checkpoint: str | None
    accumulate: int
    attention: str | None
    causal: str
    input_grad: bool
    inference: bool
    target: str


DEFAULTS: dict[str, Any] = {
    field.name: field.default
    for field in dataclasses.fields(StepOptions)
    if field.default is not MISSING
}
"""The options and their defaults."""

MEASURED_DEFAULTS: dict[str, Any] = {
    name: default for name, default in DEFAULTS.items() if name not in ("target", "inference")
}
"""Those of a step that is measured: forward and backward, with the kernels of its device."""


def about_options() -> dict[str, Option]:
    """What there is to say of each option, by name."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(StepOptions)}


def segments_of(checkpoint: str | None) -> int | None:
    """How many segments ``auto:K`` asks for: K; 0 for ``auto``; None if it is a pattern.

    Raises:
        UsageError: K is no number of segments.
    """
    if checkpoint is None or checkpoint.partition(":")[0] != AUTO:
        return None
    _, given, number = checkpoint.partition(":")
    if not given:
        return 0
    if not number.isdecimal() or int(number) < 1:
        raise UsageError(
            f"checkpoint={checkpoint} should name a number of segments, such as {AUTO}:4, "
            f"or leave it to {AUTO}"
        )
    return int(number)


def takes_step_options(defaults: Mapping[str, Any]) -> Callable[[Function], Function]:
    """Show options of a step in the signature of a function that takes them among its keywords.

    Args:
        defaults: the options, and their defaults there.
    """

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        own = list(signature.parameters.values())
        types = {field.name: field.type for field in dataclasses.fields(StepOptions)}
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=types[name],
            )
            for name, default in defaults.items()
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own[:-1], *options, own[-1]]
        )
        return function

    return show
