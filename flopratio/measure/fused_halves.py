"""How the time of a fused backward operator divides between its input's gradient and its weights':
it is run in halves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flopratio.torch_private import (
    TorchDispatchMode,
    current_autograd_node,
    schema_of,
    sequence_number,
)


class FusedHalves(TorchDispatchMode):
    """Runs every fused backward operator twice, for the input's gradient and for the weights', with
    a mark before, between and after.

    Afterwards ``nodes`` holds the sequence number of the node of each, in order of execution, and
    :meth:`shares` tells what the marks have timed.
    """

    def __init__(self, mark: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mark = mark
        self.nodes: list[int] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        arguments = schema_of(func).arguments
        masked = bool(arguments) and arguments[-1].name == "output_mask"
        if not masked or len(args) != len(arguments):
            return func(*args, **kwargs)
        *rest, (for_input, *for_weights) = args
        node = current_autograd_node()
        if node is None or not for_input or not any(for_weights):
            return func(*args, **kwargs)
        self.mark()
        first = func(*rest, [True, *(False for _ in for_weights)])
        self.mark()
        others = func(*rest, [False, *for_weights])
        self.mark()
        self.nodes.append(sequence_number(node))
        return (first[0], *others[1:])

    def shares(self, laps_ms: Sequence[float], newest: int) -> dict[int, float]:
        """The input's part in the time of each node, by how far its sequence number lies behind the
        newest node's: the distance is the same in every step.

        Args:
            laps_ms: from each mark to the next.
            newest: sequence number of the node that backward begins with.
        """
        # Three marks a node: the third lap of each lies between two nodes.
        halves = zip(self.nodes, laps_ms[::3], laps_ms[1::3], strict=True)
        return {
            newest - node: for_input / (for_input + for_weights or math.inf)
            for node, for_input, for_weights in halves
        }
