"""The `pcdistill` command: which commands there are, and how one command line is carried out."""

from __future__ import annotations

import sys
from collections.abc import Callable

import tyro

from pcdistill.cli.doctor import doctor
from pcdistill.cli.query import evaluate, export, query
from pcdistill.cli.run import demo, run, status
from pcdistill.cli.words import SET, gathered, in_sentences

COMMANDS: dict[str, Callable[..., int]] = {
    command.__name__: command for command in (demo, run, doctor, status, query, evaluate, export)
}
"""In the order of `pcdistill --help`."""

_DESCRIPTION = "Turn scans and images into point clouds that answer questions in plain words."


def main() -> None:
    """Entry point of the `pcdistill` command."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Carry out one command line and return its exit status; a user's mistake is one sentence."""
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS.values():
        app.command(command)
    words = gathered(arguments, SET)
    return in_sentences(lambda: app.cli(args=words, prog="pcdistill", description=_DESCRIPTION))
