"""The command line: ``flopratio VERB MODEL [KEY=VALUE ...] [--options]``, one file a verb.

Exit codes: 0 fine; 1 a claim or limit is violated; 2 a usage or input error, in one sentence.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from flopratio.cli.check import check_command
from flopratio.cli.count import count_command
from flopratio.cli.diff import diff_command
from flopratio.cli.fit import fit_command
from flopratio.cli.formula import formula_command
from flopratio.cli.garbage import leave_it_to_the_end
from flopratio.cli.graph import graph_command
from flopratio.cli.options import Command, Group
from flopratio.cli.profile import profile_command
from flopratio.cli.report import report_command
from flopratio.cli.sweep import sweep_command
from flopratio.errors import UntestedTorch, UsageError, message_of
from flopratio.text.suggestions import nearest
from flopratio.version import __version__

app = typer.Typer(
    cls=Group,
    help="Exact FLOPs, bytes and saved activations of a training step, per layer and phase.\n\n"
    "For example: flopratio count hf:gpt2 batch=8 seq=1024 --optimizer adamw",
    pretty_exceptions_enable=False,
)
app.command("check", cls=Command)(check_command)
app.command("count", cls=Command)(count_command)
app.command("diff", cls=Command)(diff_command)
app.command("fit", cls=Command)(fit_command)
app.command("formula", cls=Command)(formula_command)
app.command("graph", cls=Command)(graph_command)
app.command("profile", cls=Command)(profile_command)
app.command("report", cls=Command)(report_command)
app.command("sweep", cls=Command)(sweep_command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"flopratio {__version__}")
        raise typer.Exit


@app.callback()
def flopratio(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: without the program's name; the process's own unless given. None at all asks
            for help.
    """
    if arguments is None:
        atexit.register(leave_it_to_the_end)
        if hasattr(signal, "SIGPIPE"):
            # `flopratio ... | head` ends as `cat ... | head` does, without a word.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # what it says is not about the count
    arguments = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    try:
        with _one_line_warnings():
            return int(app(arguments, prog_name="flopratio", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        print("flopratio: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        hint = (
            _option_hint(error, arguments)
            or _instead_hint(error, arguments)
            or _verb_hint(error, arguments)
        )
        print(f"flopratio: {_sentence(error)}{hint}", file=sys.stderr)
        return 2


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """The package's own warnings are a line each, without the place in its code."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **further: Any) -> None:
        if issubclass(category, UntestedTorch):
            print(message, file=sys.stderr)
        else:
            before(message, category, *place, **further)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _option_hint(error: Exception, arguments: Sequence[str]) -> str:
    """The option that a KEY was meant for which is like none that the model has."""
    if not isinstance(error, UsageError) or error.key is None:
        return ""
    verbs = _verbs()
    options = verbs[arguments[0]].params if arguments[0] in verbs else ()
    names = {option.name: option.opts[0] for option in options if option.opts[0][0] == "-"}
    near = nearest(error.key, names)
    return f"; did you mean the option {names[near[0]]}?" if near else ""


INSTEAD = {"--target": "--device"}
"""An option of other verbs -> the one that says it of a step that is really run."""


def _instead_hint(error: Exception, arguments: Sequence[str]) -> str:
    """The option that this verb has in place of one of other verbs."""
    instead = INSTEAD.get(getattr(error, "option_name", ""))
    if instead is None:
        return ""
    verb = _verbs().get(arguments[0])
    if verb is None or all(instead not in each.opts for each in verb.params):
        return ""
    return f" A step that is measured has the kernels of where it runs: {instead} says where."


def _verb_hint(error: Exception, arguments: Sequence[str]) -> str:
    """What a word may have been meant for that stands in the place of the verb: a MODEL, or any
    verb."""
    if not hasattr(error, "format_message"):
        return ""
    from flopratio.networks.library import NETWORKS

    word, verbs = arguments[0], _verbs()
    if word in verbs or word.startswith("-"):
        return ""
    if word in NETWORKS or ":" in word or word.endswith(".py"):
        return f" Did you mean flopratio count {word}?"
    return "" if nearest(word, verbs) else f" There are {', '.join(verbs)}."


def _verbs() -> dict[str, Any]:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands


TOO_LARGE = re.compile(
    r"Overflow when unpacking|Storage size calculation overflowed|multiplication overflow"
)
"""What torch says of sizes whose bytes, or which themselves, are no 64-bit numbers."""


def _sentence(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, UsageError):
        message = str(error)
    elif hasattr(error, "format_message"):  # Typer's own, such as an unknown option
        message = error.format_message()
    elif TOO_LARGE.search(message_of(error)):
        message = "a tensor would be larger than torch can tell: make the sizes smaller"
    else:
        message = f"{type(error).__name__}: {message_of(error)} (--debug shows where)"
    return " ".join(message.split())
