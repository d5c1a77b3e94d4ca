"""The first and the last lines of a run: with what it began and what came out."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pcdistill import __version__
from pcdistill.errors import ArtifactError
from pcdistill.stages.config import RunConfig
from pcdistill.stages.files import read_json
from pcdistill.stages.run import Run
from pcdistill.stages.runner import Summary


def run_header(config: RunConfig) -> str:
    """Title, versions, device and workspace, in two lines."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    commit = _commit()
    return (
        f"{config.run.title}: pcdistill {__version__}{commit}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {device}, seed {config.run.seed}\n"
        f"workspace {Path(config.run.workspace).absolute()}"
    )


def _commit() -> str:
    """The commit of a source checkout, in brackets; nothing for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" ({found.stdout.strip()})"


def print_summary(console: Console, run: Run, summary: Summary, *, questions: bool) -> None:
    """Results table, failures, counts and where to look next."""
    _print_results(console, run)
    for failure in summary.failures:
        text = f"FAILED {failure.stage} {failure.unit}: {failure.reason}"
        console.print(text, markup=False, style="red")
    if summary.done == 0 and not summary.failures:
        console.print(f"nothing to do: all {summary.skipped} units are up to date")
    else:
        console.print(
            f"{summary.done} done, {summary.skipped} up to date, {len(summary.failures)} failed "
            f"in {summary.seconds:.0f} s"
        )
    page = run.workspace.report / "index.html"
    if page.exists():
        console.print(f"report: {page}", markup=False)
    if questions and not summary.failures:
        workspace = _short(run.workspace.root)
        console.print(f'ask it: pcdistill query {workspace} "a place to sleep"', markup=False)
        console.print(f"take the labels: pcdistill export {workspace}", markup=False)


def _short(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _print_results(console: Console, run: Run) -> None:
    path = run.workspace.report / "report.json"
    if not path.exists():
        return
    try:
        report = read_json(path)
    except ArtifactError:
        return
    if not report["rows"]:
        return
    table = Table("method", "mIoU %", "mAcc %", title=str(report["protocol"])[:100])
    best = max(row["miou"] for row in report["rows"])
    for row in report["rows"]:
        style = "bold" if row["miou"] == best else ""
        table.add_row(row["name"], f"{row['miou']:.1f}", f"{row['macc']:.1f}", style=style)
    console.print(table)
