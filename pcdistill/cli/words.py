"""Shared parts of all commands: repeated options, error messages, the console."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import PcdistillError, file_trouble
from pcdistill.pipeline import StoppedError

if TYPE_CHECKING:
    from rich.console import Console

SET_OPTION = "--set"
"""The option that changes settings; it may be given several times."""

Overrides = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="set", metavar="SECTION.KEY=VALUE ...", help_behavior_hint=""),
]
"""Values of `--set`."""
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
OptionalNumber = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalDistance = Annotated[float | None, tyro.conf.arg(metavar="METRES", help_behavior_hint="")]
OptionalCosine = Annotated[float | None, tyro.conf.arg(metavar="COSINE", help_behavior_hint="")]
OptionalText = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
"""Options that may be left out; their help says what then happens."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, for a command that ends soon.

    While torch loads, Python's collector walks through all it brings again and again, which is a
    sixth of the time that somebody waits for an answer.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def merge_repeated_option(arguments: Sequence[str], option: str) -> list[str]:
    """Move all values of a repeated option behind its first mention.

    Left as they are, the last mention would silently replace the earlier ones.
    """
    words, values, place = _parted(arguments, option)
    return words if place is None else [*words[:place], option, *values, *words[place:]]


def values_of(arguments: Sequence[str], option: str) -> list[str]:
    """List all values of an option, however often it is mentioned."""
    return _parted(arguments, option)[1]


def _parted(arguments: Sequence[str], option: str) -> tuple[list[str], list[str], int | None]:
    """Split into the other words, the option's values, and where it is mentioned first."""
    words: list[str] = []
    values: list[str] = []
    place, taking = None, False
    for word in arguments:
        name, equals, value = word.partition("=")
        if name == option:
            place = len(words) if place is None else place
            taking = not equals
            values += [value] if equals else []
        elif taking and not word.startswith("-"):
            values.append(word)
        else:
            taking = False
            words.append(word)
    return words, values, place


def make_console() -> Console:
    """Make the console of all commands: numbers are not coloured, paths not wrapped."""
    from pcdistill.pipeline import text_console

    return text_console()


@contextmanager
def scene_progress(console: Console) -> Iterator[ProgressCallback]:
    """Show how many scenes are done while the block runs, in a terminal only.

    Gives:
        the callback that is told so.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("scenes", total=None)
        yield lambda done, total, words: progress.update(
            task, completed=done, total=total, description=words
        )


def run_with_error_reporting(command: Callable[[], int | None]) -> int:
    """Run a command; expected errors are one sentence on stderr. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return int(command() or 0)
    except PcdistillError as error:
        _write_error(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _write_error("interrupted; the same command goes on where it was")
        return 130
    except StoppedError as stopped:
        _write_error(str(stopped))
        return stopped.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        _write_error(f"error: {file_trouble(error)}")
        return 2


def flush_output() -> None:
    """Write out what a command printed, before the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the terminal is closed: what is left goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_error(sentence: str) -> None:
    """Write to stderr, unless the terminal is closed."""
    with suppress(OSError):
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
