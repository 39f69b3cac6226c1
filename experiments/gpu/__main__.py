"""``python -m experiments.gpu``: the stages, one after another, each in a process of its own.

A process of its own, so that what one stage leaves on the device is not in the figures of the next,
and so that a kernel that fails, after which CUDA takes no more work from a process, ends a row and
not the run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

STAGES = ("smoke", "memory", "sweep", "roofs", "zoo", "counters")
"""The most valuable first. Each is a module of this package, whose ``run`` takes a ``Run``."""

STAGE_MINUTES = 7.5
GRACE_S = 60
"""What the last row of a stage may take beyond its time."""
RENEW = 75
"""The exit code of a process of which the device takes no more work."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    stages = [name for name in arguments.stage.split(",") if name]
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        print(f"--stage should be of {', '.join(STAGES)}, not {' '.join(unknown)}", file=sys.stderr)
        return 2
    if arguments.within is not None:
        return _within(stages[0], arguments)
    end = time.monotonic() + 60 * arguments.minutes
    codes = [_in_processes(stage, arguments, end) for stage in stages]
    return max(codes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu", description=__doc__)
    parser.add_argument("--stage", default=",".join(STAGES), metavar="NAME[,NAME]")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no row after so many"
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu-results"), metavar="DIR")
    parser.add_argument("--small", action="store_true", help="the sizes of the rehearsal")
    parser.add_argument("--again", action="store_true", help="run rows that failed once more")
    parser.add_argument("--within", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    return parser


def _in_processes(
    stage: str,
    arguments: argparse.Namespace,
    end: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run a stage, in a fresh process as often as one ends within a row; its exit code."""
    end = min(end, clock() + 60 * STAGE_MINUTES)
    marker = arguments.output / "running.json"
    again = arguments.again
    while (seconds := end - clock()) > 0:
        command = [sys.executable, "-m", "experiments.gpu", "--stage", stage]
        command += ["--within", str(seconds), "--device", arguments.device]
        command += ["-o", str(arguments.output)]
        command += ["--small"] * arguments.small + ["--again"] * again
        try:
            code = subprocess.run(command, timeout=seconds + GRACE_S).returncode
        except subprocess.TimeoutExpired:
            print(f"{stage}: stopped, for a row hangs", file=sys.stderr)
            return 1
        if code != RENEW and not marker.exists():
            return code
        again = False
    return 0


def _within(stage: str, arguments: argparse.Namespace) -> int:
    """Run a stage in this process."""
    from flopratio.errors import UsageError

    try:
        return _run(stage, arguments)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2


def _run(stage: str, arguments: argparse.Namespace) -> int:
    import torch

    from experiments.gpu import environment
    from experiments.gpu.rows import Renew, Run, reason_of
    from flopratio.errors import UsageError
    from flopratio.step.real import parse_device

    device = parse_device(arguments.device)
    arguments.output.mkdir(parents=True, exist_ok=True)
    environment.without_tf32()
    found = environment.surroundings(device, small=arguments.small)
    environment.keep(arguments.output, found)
    run = Run(
        directory=arguments.output,
        device=device,
        device_name=environment.name_of(device),
        target=environment.target_of(device),
        small=arguments.small,
        seconds=arguments.within,
        again=arguments.again,
    )
    if run.on_cuda:
        torch.cuda.set_device(device)
    try:
        is_done = import_module(f"experiments.gpu.{stage}").run(run)
    except Renew:
        return RENEW
    except UsageError:
        raise
    except Exception as error:
        print(f"{stage}: failed: {reason_of(error)}", file=sys.stderr)
        return 1
    run.say(f"{stage}: {'done' if is_done else 'not done'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
