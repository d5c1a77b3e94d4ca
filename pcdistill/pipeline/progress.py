"""Progress of a run: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from pcdistill.pipeline.stop_signal import UNHEARD, StoppedError

_LINE_EVERY = 10.0
"""Seconds between the lines that a long unit prints where there is no terminal."""


class _EnduringConsole(Console):
    """Console that a run outlives: what cannot be printed is not printed."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as long as that can be done: a closed terminal or a full disk ends no work."""
        try:
            super().print(*objects, **options)
        except OSError:
            self.quiet = True

    def on_broken_pipe(self) -> None:
        """End the process, as is usual where the reader of a pipe has ended."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StoppedError("nobody reads what it prints any more", UNHEARD)


def text_console(file: TextIO | None = None) -> Console:
    """Make a console that prints brackets and colons as they are, without markup or emoji."""
    return _EnduringConsole(file=file, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Progress:
    """One line for each unit; in a terminal also a bar with the time that remains."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or text_console(sys.stdout)
        self._quiet = quiet
        self._bars: Bars | None = None
        self._bar: TaskID | None = None
        self._last_line = 0.0

    def print_line(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            self._console.print(Text(text))

    def start_stage(self, stage: str, units: int, skipped: int) -> None:
        """Say that a stage begins.

        Args:
            stage: name.
            units: how many it has.
            skipped: how many of them are up to date.
        """
        if self._quiet:
            return
        if skipped == units:
            self.print_line(f"{stage}: {units} of {units} up to date")
            return
        already = f", {skipped} up to date" if skipped else ""
        self._console.print(
            Text.assemble((stage, "bold"), f": {units - skipped} of {units} to do{already}")
        )
        if self._console.is_terminal:
            self._bars = Bars(
                TextColumn("  {task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("remaining"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bars.start()
            self._bar = self._bars.add_task(stage, total=units - skipped)

    def unit_callback(self, stage: str, unit: str) -> Callable[[int, int, str], None]:
        """Make the callback by which a long unit tells how far it is."""
        begin = time.perf_counter()

        def report(done: int, total: int, words: str) -> None:
            if self._quiet:
                return
            if self._bars is not None and self._bar is not None:
                self._bars.update(self._bar, description=f"{stage} {unit} {done}/{total} {words}")
                return
            now = time.perf_counter()
            if done < total and now - max(self._last_line, begin) > _LINE_EVERY:
                self._last_line = now
                left = (now - begin) / max(done, 1) * (total - done)
                self.print_line(f"  {unit}: {done}/{total} {words}, about {left:.0f} s left")

        return report

    def finish_unit(self, stage: str, unit: str, state: str, summary: str, seconds: float) -> None:
        """Say that a unit ended.

        Args:
            stage: name.
            unit: name.
            state: `done` or `failed`.
            summary: one line worth reading; for a failed unit its reason.
            seconds: it took.
        """
        if self._quiet:
            return
        mark = "" if state == "done" else "FAILED "
        self._console.print(
            Text.assemble("  ", (mark, "red"), f"{unit}: {summary}, {seconds:.1f} s")
        )
        if self._bars is not None and self._bar is not None:
            self._bars.advance(self._bar)

    def pass_unit(self) -> None:
        """Take a unit as done that nothing is to be said of."""
        if self._bars is not None and self._bar is not None:
            self._bars.advance(self._bar)

    def end_stage(self, stage: str) -> None:
        """Take the bar of a stage away."""
        self.close()

    def close(self) -> None:
        """Give the terminal back: its cursor, and stderr, which bars print above them meanwhile."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._bar = None
