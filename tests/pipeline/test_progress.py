"""Names of units are printed as they are; what cannot be printed ends no work."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import closing

import pytest
from rich.console import Console

from pcdistill.pipeline.progress import Progress, text_console
from pcdistill.pipeline.stop_signal import StoppedError

NAMES = [
    *("[old] flat", "[/red]", "[bold]room", "[/]", "a {} in a {room}", "{0.__class__}", ":bed:"),
    *("back\\", "back\\[red]", "[link=x]", "%s", "50 % [on red]", "[@click=f]"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [False, True])
def test_names_are_text(name, terminal):
    stream = io.StringIO()
    console = (
        text_console(stream)
        if not terminal
        else Console(
            file=stream,
            force_terminal=True,
            width=200,
            markup=False,
            emoji=False,
            color_system=None,
        )
    )
    show = Progress(console=console)
    show.print_line(f"note {name}")
    show.start_stage("lift", 2, 0)
    show.unit_callback("lift", name)(1, 2, f"frames of {name}")
    if terminal:
        show._bars.refresh()
    show.finish_unit("lift", name, "done", f"summary of {name}", 1.0)
    show.finish_unit("lift", name, "failed", f"reason of {name}", 1.0)
    show.end_stage("lift")
    shown = stream.getvalue()
    assert f"note {name}\n" in shown
    assert f"  {name}: summary of {name}, 1.0 s\n" in shown
    assert f"  FAILED {name}: reason of {name}, 1.0 s\n" in shown
    assert "lift: 2 of 2 to do\n" in shown
    if terminal:
        assert f"lift {name} 1/2 frames of {name}" in shown


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_on_a_console_that_knows_markup(name):
    stream = io.StringIO()
    show = Progress(console=Console(file=stream, width=200, highlight=False))
    show.print_line(f"note {name}")
    show.finish_unit("lift", name, "failed", f"reason of {name}", 1.0)
    assert stream.getvalue() == f"note {name}\n  FAILED {name}: reason of {name}, 1.0 s\n"


class Closed(io.StringIO):
    """A terminal that is gone, or a pipe whose reader has ended."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_run_outlives_its_terminal(number):
    show = Progress(console=text_console(Closed(number)))
    show.print_line("a")
    show.finish_unit("stage", "unit", "done", "well", 1.0)


def test_a_pipe_that_nobody_reads_ends_the_process(capfd, monkeypatch):
    with os.fdopen(os.dup(1), "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(StoppedError, match="nobody reads what it prints") as stopped:
            Progress(console=text_console(Closed(errno.EPIPE))).print_line("a")
    assert stopped.value.exit_status == 141


def test_a_stage_that_is_interrupted_gives_the_terminal_back(monkeypatch):
    stream, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    console = Console(file=stream, force_terminal=True, width=80)
    show = Progress(console=console)
    with pytest.raises(KeyboardInterrupt), closing(show):
        show.start_stage("lift", 2, 0)
        assert sys.stderr is not errors
        raise KeyboardInterrupt
    assert sys.stderr is errors
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")
