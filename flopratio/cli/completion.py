"""What a shell may complete: MODELs, the KEYs of the built-in ones, and the choices of options."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

SPECS = ("torchvision:", "timm:", "hf:")
"""How a MODEL of the zoos begins."""


def choices(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A completion with the names that begin as what has been typed does.

    Args:
        names: gives them, when they are asked for.
    """

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def networks(context: typer.Context, incomplete: str) -> list[str]:
    """A built-in network, and then its KEYs."""
    from flopratio.networks.library import NETWORKS

    given = context.params.get("arguments") or []
    network = NETWORKS.get(given[0]) if given else None
    names = NETWORKS if not given else [f"{key}=" for key in network.keys] if network else []
    return [name for name in names if name.startswith(incomplete)]


def models(context: typer.Context, incomplete: str) -> list[str]:
    """A MODEL, and then the KEYs of a built-in one."""
    specs = [] if context.params.get("arguments") else SPECS
    return networks(context, incomplete) + [s for s in specs if s.startswith(incomplete)]
