"""Whatever units are called, their names are printed as they are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pcdistill.pipeline.progress import Progress, text_console

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
