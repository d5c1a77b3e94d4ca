"""Verification of a workspace as a user sees it: a line for each file that is not as it was."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from pcdistill.errors import file_trouble
from pcdistill.pipeline import Finding, Stage, Workspace, mark_damaged, verify_workspace

_LINE_EVERY = 10.0
"""Seconds between the lines that tell how far it is, where there is no terminal."""


def print_verification(console: Console, workspace: Workspace, stages: Sequence[Stage]) -> bool:
    """Compare every artefact with its manifest entry, and mark what is damaged.

    What was found before an interruption is marked, too.

    Args:
        console: where it is told.
        workspace: of the run.
        stages: all, opened, in order.

    Returns:
        whether every file is as it was written; one without a checksum counts as that.
    """
    findings: list[Finding] = []
    size = 0
    try:
        with _bytes_progress(console) as show:

            def report(done: int, total: int) -> None:
                nonlocal size
                size = done
                show(done, total)

            for finding in verify_workspace(workspace, stages, report):
                findings.append(finding)
                if finding.kind != "no checksum":
                    console.print(str(finding), markup=False)
    finally:
        _mark(console, workspace, stages, findings)
    counts = Counter(finding.kind for finding in findings)
    if old := counts.pop("no checksum", 0):
        console.print(
            f"{old} files have no checksum, because an earlier version wrote them: only their "
            "sizes were compared (run --redo makes them anew, with one)"
        )
    wrong = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    console.print(f"verified {size / 2**20:.1f} MiB: {wrong or 'every file is as it was written'}")
    return not counts


def _mark(
    console: Console, workspace: Workspace, stages: Sequence[Stage], findings: Sequence[Finding]
) -> None:
    try:
        damaged, others = mark_damaged(workspace, stages, findings)
    except OSError as error:
        console.print(f"nothing is marked, the damaged files stay: {file_trouble(error)}")
        return
    if damaged:
        more = f" and {others} more made of that" if others else ""
        console.print(f"the next run makes anew: {damaged} with damage{more}")


@contextmanager
def _bytes_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show how much is compared: a bar in a terminal, else a line now and then."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("verify"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("verify", total=None)
        last = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal last
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - last > _LINE_EVERY and done < total:
                last = time.monotonic()
                console.print(f"verified {done / 2**30:.1f} of {total / 2**30:.1f} GiB")

        yield show
