"""The command line: demo, run, doctor, status, query, evaluate, export."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, get_args

import tyro
from rich import box
from rich.table import Table
from tyro.conf import Positional

from pcdistill.errors import ConfigError
from pcdistill.stages.command import (
    SET,
    carry_out,
    configured,
    gathered,
    in_sentences,
    plain_console,
)
from pcdistill.stages.config import load_config
from pcdistill.stages.doctor import examine_scan, print_report
from pcdistill.stages.export import export as export_run
from pcdistill.stages.pipeline import STAGES
from pcdistill.stages.query import query as query_run
from pcdistill.stages.run import Run
from pcdistill.stages.runner import State, failures, stage_states

_console = plain_console()

Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="SECTION.KEY=VALUE ...")]


def main() -> None:
    """Entry point of the `pcdistill` command."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Carry out one command line and return its exit status; a user's mistake is one sentence."""
    app = tyro.extras.SubcommandApp()
    for command in (demo, run, doctor, status, query, evaluate, export):
        app.command(command)
    arguments = gathered(arguments, SET)
    return in_sentences(lambda: app.cli(args=arguments, prog="pcdistill", description=_DESCRIPTION))


_DESCRIPTION = "Turn scans and images into point clouds that answer questions in plain words."


def demo(
    workspace: Path = Path("runs/demo"),
    seed: int = 0,
    jobs: int = 0,
    set_: Overrides = (),
) -> int:
    """Run everything on embedded homes, offline, in a few minutes on two CPU cores.

    Args:
        workspace: Folder of all artefacts; a second call goes on there.
        seed: Furnishes other homes and draws other numbers.
        jobs: Worker processes; 0 takes one per core, at most 4.
        set_: Settings to change, such as distill.epochs=5.
    """
    with as_file(files("pcdistill") / "configs" / "demo.yaml") as path:
        config = load_config(path, set_)
    settings = replace(config.run, workspace=str(workspace), seed=seed)
    return carry_out(replace(config, run=settings), _console, jobs=jobs, questions=True)


def run(
    config: Positional[Path],
    scan: Path | None = None,
    workspace: Path | None = None,
    only: tuple[str, ...] = (),
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None,
    jobs: int = 0,
    shard: str = "0/1",
    redo: bool = False,
    set_: Overrides = (),
) -> int:
    """Bring a run up to date: whatever is finished is skipped.

    Args:
        config: YAML file of the run.
        scan: A scan, or a folder of scans, in place of ingest.path.
        workspace: Folder of all artefacts, in place of run.workspace.
        only: Work on these stages only.
        from_: Work on this stage and those after it.
        jobs: Worker processes; 0 takes one per core, at most 4.
        shard: i/n: work on every n-th unit beginning with the i-th, from 0.
        redo: Make the chosen stages anew.
        set_: Settings to change, such as distill.epochs=5.
    """
    return carry_out(
        configured(config, scan, workspace, set_),
        _console,
        only=only,
        start=from_,
        jobs=jobs,
        shard=shard,
        redo=redo,
    )


def doctor(
    scan: Positional[Path],
    out: Path | None = None,
    part: str = "",
    set_: Overrides = (),
) -> int:
    """Look at a scan before the work and say in words what is wrong with it.

    Args:
        scan: Folder or file of a scan.
        out: Folder for doctor.json and pictures; by default doctor-SCAN here.
        part: Which of several scans.
        set_: How to read it, such as depth_scale=5000 or up=y.
    """
    report = examine_scan(scan, out, part, set_)
    print_report(_console, report)
    return 0 if report.diagnosis.healthy else 1


def status(
    config: Positional[Path],
    scan: Path | None = None,
    workspace: Path | None = None,
    set_: Overrides = (),
) -> int:
    """Show what is done, failed, stale or missing in each stage.

    Args:
        config: YAML file of the run, or its workspace.
        scan: As given to run.
        workspace: As given to run.
        set_: As given to run.
    """
    opened = Run(configured(config, scan, workspace, set_))
    states = get_args(State)
    table = Table("stage", *states, title=str(opened.workspace.root))
    for name, counts in stage_states(opened, STAGES).items():
        table.add_row(name, *(str(counts[state]) if counts[state] else "-" for state in states))
    _console.print(table)
    for failure in failures(opened, STAGES):
        _console.print(f"{failure.stage} {failure.unit}: {failure.reason}", markup=False)
    return 0


def query(
    run: Positional[Path],
    text: Positional[str],
    scene: tuple[str, ...] = (),
    best: int = 5,
    row: str | None = None,
) -> int:
    """Ask a finished run where something is.

    Args:
        run: Workspace of the run.
        text: What to look for, in plain words.
        scene: Scenes to look in; by default all that are measured.
        best: How many superpoints to list.
        row: Whose features answer, such as fused or student:point; by default the last student.
    """
    opened = _opened(run)
    answers, written = query_run(opened, text, scene, best, row)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("scene", "score", "x y z (m)", "size (m)", "points", "class"):
        table.add_column(heading, no_wrap=True)
    for answer in answers:
        table.add_row(
            answer.scene,
            f"{answer.score:.2f}",
            " ".join(f"{value:.1f}" for value in answer.position),
            " x ".join(f"{value:.1f}" for value in answer.size),
            str(answer.points),
            answer.looks_like,
        )
    _console.print(table)
    for path in written:
        _console.print(str(path), markup=False)
    return 0


def evaluate(run: Positional[Path], redo: bool = False) -> int:
    """Measure a run against the labels of its scenes and print the table.

    Args:
        run: Workspace of the run.
        redo: Measure anew.
    """
    opened = _opened(run)
    return carry_out(opened.config, _console, only=("evaluate", "report"), jobs=1, redo=redo)


def export(run: Positional[Path], to: Path | None = None, row: str | None = None) -> int:
    """Write a labelled PLY for every scene.

    Args:
        run: Workspace of the run.
        to: Folder to write to; by default export/ of the workspace.
        row: Whose labels, such as fused or student:superpoint; by default the last student.
    """
    for path in export_run(_opened(run), to, row):
        _console.print(str(path), markup=False)
    return 0


def _opened(workspace: Path) -> Run:
    path = workspace / "config.yaml" if workspace.is_dir() else workspace
    if not path.exists():
        raise ConfigError(
            f"{workspace}: found no config.yaml of a run there; give the workspace of a run, "
            "such as runs/demo"
        )
    config = load_config(path)
    if workspace.is_dir():  # it may have been moved since
        config = replace(config, run=replace(config.run, workspace=str(workspace)))
    return Run(config)


if __name__ == "__main__":
    main()
