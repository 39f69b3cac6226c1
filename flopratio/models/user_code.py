"""The user's own code, imported: a file as a script is, a module as by `python -m`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType

from flopratio.errors import message_of
from flopratio.models.example import ModelError
from flopratio.models.explain import origin, summary
from flopratio.text.suggestions import did_you_mean


def directory_of(source: str) -> Path:
    """Where the imports of `path/file.py` start, or those of `package.module`: in the working
    directory, as with `python -m`."""
    return Path(source).expanduser().resolve().parent if source.endswith(".py") else Path.cwd()


def imported(source: str) -> ModuleType:
    """The module that `path/file.py` or `package.module` names, inside of `importing_from`.

    ModelError: there is none, or it fails.
    """
    return _from_file(source) if source.endswith(".py") else _from_name(source)


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_error(name, error) from error
        raise ModelError(
            f"there is no module '{name}': MODEL is torchvision:NAME, timm:NAME, hf:TYPE, "
            "package.module:factory or path/file.py:factory"
        ) from None
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise _import_error(name, error) from error


def _from_file(source: str) -> ModuleType:
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        beside = [str(other.name) for other in path.parent.glob("*.py")]
        raise ModelError(f"there is no file {source}{did_you_mean(path.name, beside)}")
    try:
        return _executed(path, path.stat().st_mtime_ns)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise _import_error(source, error, _as_part_of_a_package(path)) from error


@functools.cache
def _executed(path: Path, _modified: int) -> ModuleType:
    """The module of a file, executed once for each version of it."""
    there = sys.modules.get(path.stem)
    # Dataclasses look their module up; but no other that exists already is to be replaced.
    is_free = there is None or getattr(there, "__file__", None) == str(path)
    name = path.stem if is_free else f"{path.stem}_{zlib.crc32(bytes(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _as_part_of_a_package(path: Path) -> str:
    """What to write for a file that imports relatively: `package.module:NAME`, and from where."""
    root = path.parent.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    dotted = ".".join(path.relative_to(root).with_suffix("").parts)
    where = "" if root == Path.cwd() else f", in the directory {root}"
    return f"write {dotted}:NAME{where}"


def _import_error(source: str, error: BaseException, instead: str = "") -> ModelError:
    relative = isinstance(error, ImportError) and "relative import" in message_of(error)
    if isinstance(error, SystemExit):
        instead = "put what it runs under if __name__ == '__main__'"
    elif not relative:
        instead = ""
    reason = f"{summary(error)}{origin(error)}"
    return ModelError(f"{source} can't be imported: {reason}{instead and f'; {instead}'}")
