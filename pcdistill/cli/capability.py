"""Command `capability`: what a run measured of its teachers, as a table and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from pcdistill.cli.words import OptionalPath, make_console
from pcdistill.errors import ConfigError

if TYPE_CHECKING:
    from pcdistill.artifacts import ScoredTeacher


def capability(run: Positional[Path], out: OptionalPath = None) -> int:
    """Print how well each teacher finds each class; write it to a file that other runs can use.

    Args:
        run: Workspace of the run.
        out: File for the table, which another run takes by `score.table`; by default none.
    """
    from rich import box
    from rich.table import Table

    from pcdistill.artifacts import collect_table, read_scores
    from pcdistill.pipeline import Workspace, load_workspace_config, write_table

    config = load_workspace_config(run)
    workspace, names = Workspace(run.absolute()), config.run.teachers
    if not names:
        raise ConfigError(f"{run}: the run has no teachers, so none was measured")
    scored = [read_scores(workspace, name) for name in names]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in names:
        table.add_column(f"{name} (IoU %)", justify="right", no_wrap=True)
    for word in scored[0].scores.overlaps:
        table.add_row(word, *(in_words(teacher, word) for teacher in scored))
    console = make_console()
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a pipe has no edge to wrap at
    console.print(table)
    console.print(
        "in brackets the bootstrap interval over images, 95 %; a dash: no image shows the class",
        markup=False,
    )
    if out is not None:
        write_table(out, collect_table(workspace, names))
        console.print(f"{out}: use it in another run by score.table", markup=False)
    return 0


def in_words(scored: ScoredTeacher, word: str) -> str:
    """Score of one teacher on one class, with its interval, in per cent."""
    found = scored.scores.overlaps[word]
    if not found.unions:
        return "-"
    score = f"{100 * found.score(pooled=scored.pooled):.0f}"
    interval = found.interval(pooled=scored.pooled)
    if interval is None:
        return score
    low, high = (f"{100 * end:.0f}" for end in interval)
    return f"{score} [{low}, {high}]"
