"""The command line: demo, run, status, query, evaluate, export."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from pcdistill.errors import ConfigError, PcdistillError
from pcdistill.stages.config import RunConfig, load_config

Positional = tyro.conf.Positional
_console = Console(highlight=False, soft_wrap=True)

Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="SECTION.KEY=VALUE ...")]


def main() -> None:
    """Entry point of the `pcdistill` command."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Carry out one command line and return its exit status; a user's mistake is one sentence."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app = tyro.extras.SubcommandApp()
    for command in (demo, run, status, query, evaluate, export):
        app.command(command)
    try:
        status_code = app.cli(args=arguments, prog="pcdistill", description=_DESCRIPTION)
    except PcdistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return int(status_code or 0)


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
    return _run(replace(config, run=settings), jobs=jobs, ending=True)


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
    return _run(
        _configured(config, scan, workspace, set_),
        jobs=jobs,
        only=only,
        start=from_,
        shard=parse_shard(shard),
        redo=redo,
    )


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
    from pcdistill.stages.pipeline import STAGES
    from pcdistill.stages.run import Run
    from pcdistill.stages.runner import failures, stage_states

    opened = Run(_configured(config, scan, workspace, set_))
    states = ("done", "failed", "stale", "missing", "blocked")
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
) -> int:
    """Ask a finished run where something is.

    Args:
        run: Workspace of the run.
        text: What to look for, in plain words.
        scene: Scenes to look in; by default all that are measured.
        best: How many superpoints to list.
    """
    from pcdistill.stages.query import query as ask_run

    opened = _opened(run)
    answers, written = ask_run(opened, text, scene, best)
    table = Table("scene", "score", "position x y z (m)", "size (m)", "points", "looks like")
    for answer in answers:
        table.add_row(
            answer.scene,
            f"{answer.score:.2f}",
            " ".join(f"{value:.2f}" for value in answer.position),
            " x ".join(f"{value:.2f}" for value in answer.size),
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
    code = _run(opened.config, jobs=1, only=("evaluate", "report"), redo=redo)
    return code


def export(run: Positional[Path], to: Path | None = None, row: str | None = None) -> int:
    """Write a labelled PLY for every scene.

    Args:
        run: Workspace of the run.
        to: Folder to write to; by default export/ of the workspace.
        row: Whose labels, such as fused or student:superpoint; by default the last student.
    """
    from pcdistill.stages.export import export as export_run

    for path in export_run(_opened(run), to, row):
        _console.print(str(path), markup=False)
    return 0


def parse_shard(text: str) -> tuple[int, int]:
    """Read "i/n" as (i, n).

    Raises:
        ConfigError: not two numbers with 0 <= i < n.
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise ConfigError(f"--shard is '{text}', expected i/n with 0 <= i < n, such as 0/4")


def _configured(
    path: Path, scan: Path | None, workspace: Path | None, overrides: tuple[str, ...]
) -> RunConfig:
    if path.is_dir():
        path = path / "config.yaml"
    extra = [f"ingest.path={scan}"] if scan is not None else []
    extra += [f"run.workspace={workspace}"] if workspace is not None else []
    return load_config(path, [*extra, *overrides])


def _opened(workspace: Path):  # type: ignore[no-untyped-def]
    from pcdistill.stages.run import Run

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


def _run(
    config: RunConfig,
    *,
    jobs: int,
    only: tuple[str, ...] = (),
    start: str | None = None,
    shard: tuple[int, int] = (0, 1),
    redo: bool = False,
    ending: bool = False,
) -> int:
    from pcdistill.stages.pipeline import STAGES
    from pcdistill.stages.progress import Progress
    from pcdistill.stages.run import Run
    from pcdistill.stages.runner import run_stages
    from pcdistill.stages.summary import print_summary, run_header

    progress = Progress(console=_console)
    progress.note(run_header(config))
    summary = run_stages(
        config,
        STAGES,
        only=only,
        start=start,
        jobs=jobs or min(os.cpu_count() or 1, 4),
        shard=shard,
        redo=redo,
        progress=progress,
    )
    print_summary(_console, Run(config), summary, questions=ending)
    return summary.exit_status


if __name__ == "__main__":
    main()
