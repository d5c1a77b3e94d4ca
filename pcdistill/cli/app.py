"""Entry point of the command line and table of its commands."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from io import TextIOWrapper

import tyro

from pcdistill.cli.capability import capability
from pcdistill.cli.doctor import doctor
from pcdistill.cli.evaluate import evaluate
from pcdistill.cli.query import export, query
from pcdistill.cli.run import demo, run, status
from pcdistill.cli.settings import settings
from pcdistill.cli.slurm import slurm
from pcdistill.cli.view import view
from pcdistill.cli.weights import weights
from pcdistill.cli.words import (
    flush_output,
    merge_repeated_option,
    run_with_error_reporting,
    values_of,
)
from pcdistill.errors import ConfigError
from pcdistill.pipeline import require_stage_names, stop_at_signals
from pcdistill.suggest import suggest
from pcdistill.version import __version__

COMMANDS: dict[str, Callable[..., int]] = {
    command.__name__: command
    for command in (
        demo,
        run,
        doctor,
        status,
        query,
        view,
        evaluate,
        capability,
        export,
        settings,
        slurm,
        weights,
    )
}
"""In the order of `pcdistill --help`."""

ONCE = ("--set", "--only", "--scene", "--format", "--sbatch")
"""Options with several values, which may also be given several times."""

_DESCRIPTION = (
    "Turn scans and images into point clouds that answer questions in plain words. "
    "`pcdistill --version` prints the version, `pcdistill COMMAND --help` the options of a command."
)


def main() -> None:
    """Entry point of the `pcdistill` command."""
    for stream in (sys.stdout, sys.stderr):  # names of files may be of any bytes
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stop_at_signals()
    status = run_command(sys.argv[1:])
    flush_output()
    gc.freeze()  # the process ends: walking through all of torch once more would free nothing
    sys.exit(status)


def run_command(arguments: list[str]) -> int:
    """Run one command line; expected errors are printed without a traceback.

    Returns:
        the exit status.

    Raises:
        SystemExit: help or completion was asked for, or an option is not as its help says.
    """
    return run_with_error_reporting(lambda: _run_command(arguments))


def _run_command(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "--help"
    if first == "--version":
        sys.stdout.write(f"pcdistill {__version__}\n")
        return 0
    if not first.startswith("-") and first not in COMMANDS:
        raise ConfigError(f"unknown command '{first}'; {suggest(first, tuple(COMMANDS))}")
    if first in ("run", "slurm"):  # before the parser, which would only list the choices
        require_stage_names([*values_of(arguments, "--only"), *values_of(arguments, "--from")[:1]])
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS.values():
        app.command(command)
    words = arguments or [first]
    for option in ONCE:
        words = merge_repeated_option(words, option)
    status: int = app.cli(args=words, prog="pcdistill", description=_DESCRIPTION)
    return status
