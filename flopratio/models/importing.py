"""Where the user's own code is imported from, while it runs and no longer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_put_away: dict[Path, dict[str, ModuleType]] = {}
"""Directory -> the modules that were imported from it, by name."""


@contextmanager
def importing_from(directory: Path | None) -> Iterator[None]:
    """Meanwhile, what lies in a directory can be imported, as by a script in it.

    Two directories may hold files of one name, and a file may have the name of a package: each
    finds its own, whatever ran before in this process. What can be imported anyhow, from a
    directory that is on the path, stays imported.
    """
    if directory is None or sys.path[:1] == [str(directory)]:
        yield
        return
    is_on_path = any(Path(entry or ".").resolve() == directory for entry in sys.path)
    before = set(sys.modules)
    own = _put_away.setdefault(directory, {})
    sys.modules.update({name: module for name, module in own.items() if name not in before})
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        if str(directory) in sys.path:
            sys.path.remove(str(directory))
        stays = set(sys.modules) if is_on_path else before
        new = {name: module for name, module in list(sys.modules.items()) if name not in stays}
        for name, module in new.items():
            if _is_from(directory, new.get(name.partition(".")[0])):
                own[name] = module
                del sys.modules[name]


def _is_from(directory: Path, module: ModuleType | None) -> bool:
    """Whether a file or a package in a directory is what a module was made of."""
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    path = Path(file)
    return directory in (path.parent, path.parent.parent if path.stem == "__init__" else None)
