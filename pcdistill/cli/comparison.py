"""Comparison of finished runs in the terminal."""

from __future__ import annotations

from pathlib import Path


def compare(runs: tuple[Path, ...], method: str | None, out: Path | None) -> int:
    """Compare finished runs, print the table, and write the files where they are asked for.

    Args:
        runs: workspaces.
        method: as in `compare_runs`.
        out: folder of the page, the Markdown and the JSON; none is written by default.

    Returns:
        the exit status.
    """
    from rich.table import Table
    from rich.text import Text

    from pcdistill.cli.words import make_console
    from pcdistill.reporting import (
        compare_runs,
        comparison_page,
        write_comparison,
    )

    compared = compare_runs(runs, method)
    page = comparison_page(compared)
    console = make_console()
    console.print(page.lead, markup=False)
    console.print(f"measured: {page.protocol}", markup=False)
    for group in page.groups:
        heads = ("mIoU %", "95 %", "mAcc %", "points %", "against the first", "p")
        table = Table()
        for head in (group.name, *heads):
            table.add_column(Text(head), overflow="fold")
        for line in group.lines:
            name = f"{line.run} ({line.method})" if line.method else line.run
            numbers = (line.miou.text, line.interval, line.macc.text, line.overall)
            table.add_row(*map(Text, (name, *numbers, line.difference, line.p)))
        console.print(table)
    for sentence in page.sentences:
        console.print(sentence, markup=False)
    if out is not None:
        console.print(f"report: {write_comparison(out, compared)}", markup=False)
    return 0
