"""The one way in which a training step runs: on real tensors or on fake ones, watched or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flopratio.allocator.device import device_profiles
from flopratio.errors import UsageError
from flopratio.models import Example, Inputs, StepMode, explain_failure
from flopratio.networks.description import DECAY_LAYER, LOSS_LAYER
from flopratio.step.attention import attention_kernels, flex_attention_of_cuda
from flopratio.step.checkpointing import checkpointed
from flopratio.step.cuda_kernels import cuda_kernels
from flopratio.step.freezing import check_trained, frozen
from flopratio.step.losses import check_loss, loss_of
from flopratio.step.optimizers import make_optimizer, parameters_to_train
from flopratio.step.options import StepOptions
from flopratio.step.out_of_memory import is_out_of_memory
from flopratio.step.weight_decay import with_penalty
from flopratio.text.dtypes import dtype_name, parse_dtype
from flopratio.torch_private import named_submodules, parameters, silent_fake_tensors


class Observer(Protocol):
    """Who watches a step; :class:`flopratio.Profiler` is one."""

    def layer(self, name: str, kind: str = "") -> AbstractContextManager[Any]:
        """Entered while a layer of that name runs, unless its module's call tells."""

    def paused(self) -> AbstractContextManager[Any]:
        """Entered while something runs that is not of the step."""


class _Nobody:
    def layer(self, name: str, kind: str = "") -> AbstractContextManager[Any]:
        return nullcontext()

    def paused(self) -> AbstractContextManager[Any]:
        return nullcontext()


NOBODY: Observer = _Nobody()


@dataclass(frozen=True)
class Step:
    """A training step that is set up by its options.

    Args:
        example: the module and its inputs, real or fake.
        loss_module: of the output and ``target``, what takes the place of a loss by name.
        target: what the loss module compares the output with.
        holds_loss: whether the loss lives on through the update, as where a variable holds it.
    """

    example: Example
    options: StepOptions = field(default_factory=StepOptions)
    loss_module: nn.Module | None = None
    target: Tensor | None = None
    holds_loss: bool = True

    @classmethod
    def of_module(cls, module: nn.Module, batch: Any, options: StepOptions | None = None) -> Step:
        """The step of a module as it is, with real inputs on its device."""
        args, kwargs = Inputs.of(batch)
        example = Example(module, args, dict(kwargs), None, False, {}, "module", None)
        return cls(example, options or StepOptions())

    @property
    def module(self) -> nn.Module:
        return self.example.module

    @property
    def inputs(self) -> Inputs:
        return self.example.inference_inputs if self.options.inference else self.example.inputs

    @property
    def device(self) -> torch.device:
        """Where it runs; fake tensors are of the CPU."""
        for tensor in (*parameters(self.module), *self.inputs.tensors):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> str | None:
        """Of the numbers that it is run in."""
        tensors = (*parameters(self.module), *self.inputs.tensors)
        return next((dtype_name(t.dtype) for t in tensors if t.is_floating_point()), None)

    @property
    def names(self) -> dict[str, nn.Module]:
        """The layers that are no modules of the model, by name."""
        return {} if self.loss_module is None else {LOSS_LAYER: self.loss_module}

    @contextmanager
    def prepared(
        self, observer: Observer = NOBODY, **optimizer_arguments: Any
    ) -> Iterator[PreparedStep]:
        """All that the options ask for is in force meanwhile. Afterwards the module and the inputs
        are as before, but for what the forward writes into buffers, and the update into parameters.

        Args:
            optimizer_arguments: of the optimizer's own, beside what the options say.

        Raises:
            UsageError: an option that doesn't fit the module; one sentence says which and why.
        """
        options, module = self.options, self.module
        inputs = self.inputs.tensors
        with ExitStack() as exits:
            exits.enter_context(frozen(module, options.freeze))
            exits.enter_context(self.example.context())
            exits.enter_context(_gradients_as_before((*parameters(module), *inputs)))
            decay = options.decay
            if decay.update is not None:
                optimizer_arguments["weight_decay"] = decay.update
            updated = options.optimizer != "none" or decay.loss is not None
            trained = parameters_to_train(module) if updated else ()
            optimizer = make_optimizer(
                options.optimizer, trained, options.implementation, **optimizer_arguments
            )
            penalised = [weight for weight in trained if weight.requires_grad]
            if options.input_grad:
                exits.enter_context(_asking_for_gradients(inputs))
            if not options.inference:
                check_trained(options.freeze, (*parameters(module), *inputs))
            exits.enter_context(attention_kernels(options.attention))
            exits.enter_context(self._kernels_of_target())
            if options.inference:
                exits.enter_context(_inference(module))
            prepared = PreparedStep(self, observer, optimizer, penalised)
            exits.enter_context(
                checkpointed(
                    module,
                    options.checkpoint,
                    partial(self.explained, prepared.output),
                    layer=observer.layer,
                    # Where the fake mode is entered, nothing that is drawn has a value.
                    preserve_rng_state=self.example.mode is None or not self.example.enter_mode,
                )
            )
            yield prepared

    @contextmanager
    def _kernels_of_target(self) -> Iterator[None]:
        """Fake tensors run the target's operators; real ones those of their device."""
        options, mode = self.options, self.example.mode
        on_cuda = options.target != "cpu"
        if isinstance(mode, StepMode):
            mode.target = "cuda" if on_cuda else "cpu"
        if mode is None or not on_cuda:
            yield
            return
        profile = device_profiles().get(options.target)
        attention = profile.attention if profile is not None else None
        with (
            cuda_kernels(attention=attention or "flash", autocast=options.amp is not None),
            flex_attention_of_cuda(),
        ):
            yield

    def explained(self, run: Callable[[], Any]) -> Any:
        """A failure inside of the model's code becomes one sentence; torch's log of it is not
        shown."""
        try:
            with silent_fake_tensors():
                return run()
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                raise
            raise explain_failure(error, self.example) from error


class PreparedStep:
    """A step that can run, whole or phase by phase, as often as is wanted.

    Args:
        optimizer: None if there is nothing to update.
        weights: those that a term of the loss decays, if the options ask for one.
    """

    def __init__(
        self,
        step: Step,
        observer: Observer,
        optimizer: torch.optim.Optimizer | None,
        weights: Sequence[Tensor] = (),
    ) -> None:
        self.step = step
        self.optimizer = optimizer
        self._weights = weights
        self._observer = observer
        self._has_updated = False

    def output(self, inputs: Inputs | None = None) -> Any:
        """Run the model's forward.

        Args:
            inputs: others than the step's own.
        """
        args, kwargs = inputs or self.step.inputs
        with self._autocast():
            return self.step.module(*args, **kwargs)

    def forward(self, inputs: Inputs | None = None) -> Tensor:
        """Run forward and loss.

        Args:
            inputs: others than the step's own.

        Raises:
            UsageError: there is no loss to start a backward at.
        """
        args, kwargs = inputs or self.step.inputs
        with self._autocast():
            loss: Tensor = self._loss(self.step.module(*args, **kwargs))
            check_loss(loss)
            factor = self.step.options.decay.loss
            if factor is not None:
                with self._observer.layer(DECAY_LAYER, "L2Penalty"):
                    loss = with_penalty(loss, self._weights, factor)
        return loss

    def update(self) -> None:
        """Run the optimizer, if there is one."""
        if self.optimizer is not None:
            self.optimizer.step()
            self._has_updated = True

    def run(self) -> Any:
        """Run the whole step: forward, loss and backward of each micro-batch, then the update as in
        the steady state: the first one, which makes the optimizer's state, is not of the step.

        Returns:
            The loss of the last micro-batch, if it is held; of an inference the output.
        """
        return self.step.explained(self._run)

    def _run(self) -> Any:
        options = self.step.options
        for _ in range(options.accumulate):
            if options.inference:
                result = self.output()
            else:
                result = self.forward()
                result.backward()
                if not self.step.holds_loss:
                    result = None
        if self.optimizer is not None and not options.inference:
            if not self._has_updated:
                with self._observer.paused():
                    self.update()
            self.update()
        return result

    def clear(self) -> None:
        """Forget the gradients."""
        for tensor in (*parameters(self.step.module), *self.step.inputs.tensors):
            if tensor.is_leaf:
                tensor.grad = None

    def _loss(self, output: Any) -> Any:
        step, loss = self.step, self.step.options.loss
        with self._observer.layer(LOSS_LAYER, "loss"):
            if step.loss_module is not None and isinstance(loss, str):
                return step.loss_module(output, step.target)
            return loss_of(output, loss)

    def _autocast(self) -> AbstractContextManager[Any]:
        amp = self.step.options.amp
        if amp is None:
            return nullcontext()
        return torch.autocast(self.step.device.type, parse_dtype(amp))


@contextmanager
def _gradients_as_before(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Leaves have no gradients at first, and in the end those that they had."""
    leaves = [(tensor, tensor.grad) for tensor in tensors if tensor.is_leaf]
    for tensor, _ in leaves:
        tensor.grad = None
    try:
        yield
    finally:
        for tensor, gradient in leaves:
            tensor.grad = gradient


@contextmanager
def _asking_for_gradients(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Floating tensors require a gradient meanwhile."""
    chosen = [
        tensor for tensor in tensors if tensor.is_floating_point() and not tensor.requires_grad
    ]
    for tensor in chosen:
        tensor.requires_grad_()
    try:
        yield
    finally:
        for tensor in chosen:
            tensor.requires_grad_(False)


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Eval mode and no graph meanwhile; each submodule gets its own mode back."""
    training = [(submodule, submodule.training) for _, submodule in named_submodules(module)]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule, mode in training:
            submodule.training = mode
