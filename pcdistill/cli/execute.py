"""Execution of a run: header, stages, and a summary of what came out."""

from __future__ import annotations

import logging
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pcdistill.artifacts import (
    SceneSplit,
    counted,
    open_artifacts,
    save_scan_index,
    split_scenes,
)
from pcdistill.cli.result_table import print_results
from pcdistill.cli.run_checks import check_run
from pcdistill.cli.verification import print_verification
from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.inference import FinishedRun
from pcdistill.pipeline import (
    Progress,
    RayOptions,
    RayWorkers,
    RunConfig,
    RunContext,
    RunSummary,
    read_json,
    require_ray,
    run_stages,
    select_stages,
    usable_cores,
)
from pcdistill.reporting import best_of, conclusions, measured_results
from pcdistill.stages import STAGES
from pcdistill.version import __version__

_LOG = logging.getLogger(__name__)

LONGER_TRAINING = "distill.epochs=240 distill.voxel_size=0.1 distill.width=0.5"
"""Settings with which the demo's students learn for longer than a demo may take: some twelve
minutes instead of one and a half, in as many steps as the benchmark of the homes takes."""
MAX_DEFAULT_JOBS = 4
"""Worker processes by default: more of them rarely pay on one machine's disk and memory."""


def execute_run(
    config: RunConfig,
    console: Console,
    *,
    only: Sequence[str] = (),
    start: str | None = None,
    jobs: int = 0,
    shard: str = "0/1",
    redo: bool = False,
    verify: bool = False,
    ray: RayOptions | None = None,
    questions: bool = False,
) -> int:
    """Bring a run up to date, tell how it goes, and return the exit status.

    Args:
        config: of the run.
        console: where it is told how the run goes.
        only: as in `run_stages`.
        start: as in `run_stages`.
        jobs: worker processes; 0 takes one per core, at most `MAX_DEFAULT_JOBS`.
        shard: "i/n".
        redo: as in `run_stages`.
        verify: first look for damaged files, whose units are then made anew.
        ray: the cluster whose machines do the work, in place of processes of this one.
        questions: end with what to try next.

    Raises:
        ConfigError: see `check_run` and `run_stages`.
        MissingExtraError: ray is asked for and not installed.
    """
    run = RunContext(config)
    if ray is not None:
        require_ray()
    if jobs < 0:
        raise ConfigError(f"--jobs is {jobs}, expected 1 or more, or 0 for one per core")
    check_run(run, [stage.name for stage in select_stages(STAGES, only, start)])
    progress = Progress(console=console)
    progress.print_line(run_header(config))
    if config.ingest.source == "scan":
        progress.print_line(scans_header(split_scenes(run)))

    def prepare(claimed: RunContext) -> None:
        save_scan_index(claimed)
        if verify:
            stages = [stage(claimed) for stage in STAGES]
            print_verification(console, claimed.workspace, stages)

    summary = run_stages(
        config,
        STAGES,
        only=only,
        start=start,
        jobs=jobs or min(usable_cores(), MAX_DEFAULT_JOBS),
        workers=None if ray is None else RayWorkers(config, replace(ray, jobs=jobs)),
        shard=parse_shard(shard),
        redo=redo,
        progress=progress,
        prepare=prepare,
    )
    finished = FinishedRun(open_artifacts(RunContext(config)))
    print_summary(console, finished, summary, questions=questions)
    return summary.exit_status


def parse_shard(text: str) -> tuple[int, int]:
    """Read "i/n" as (i, n).

    Raises:
        ConfigError: not two numbers with 0 <= i < n.
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise ConfigError(f"--shard is '{text}', expected i/n with 0 <= i < n, such as 0/4")


def run_header(config: RunConfig) -> str:
    """Title, versions, device and workspace, in two lines."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    commit = _commit()
    return (
        f"{config.run.title}: pcdistill {__version__}{commit}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {device}, seed {config.run.seed}\n"
        f"workspace {Path(config.run.workspace).absolute()}"
    )


def scans_header(split: SceneSplit) -> str:
    """How many scans are learned from and measured, and why these, in one line."""
    why = f": {split.measured_on}" if split.measured_on else ""
    return f"learns from {counted(len(split.training))}, measures {len(split.validation)}{why}"


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


def print_summary(
    console: Console, run: FinishedRun, summary: RunSummary, *, questions: bool
) -> None:
    """Results table, failures, counts, what the numbers say, and where to look next."""
    workspace = run.artifacts.workspace
    results = measured_results(workspace, run.methods)
    print_results(console, results)
    consequences = [f for f in summary.failures if f.blocked_by_dependency]
    for failure in summary.failures:
        if not failure.blocked_by_dependency or len(consequences) == len(summary.failures):
            text = f"FAILED {failure.stage} {failure.unit}: {failure.reason}"
            console.print(text, markup=False, style="red")
    if consequences and len(consequences) < len(summary.failures):
        console.print(f"{len(consequences)} more units were not tried, because they need these")
    if summary.done == summary.by_others == 0 and not summary.failures:
        console.print(f"nothing to do: all {summary.skipped} units are up to date")
    else:
        others = f"{summary.by_others} made by other runs, " if summary.by_others else ""
        console.print(
            f"{summary.done} done, {others}{summary.skipped} up to date, "
            f"{len(summary.failures)} failed in {summary.seconds:.0f} s"
        )
    page = workspace.report / "index.html"
    if page.exists():
        older = _is_older(workspace.report / "report.json", results)
        note = ", which is older than these numbers (--only report)" if older else ""
        console.print(f"report: {page}{note}", markup=False)
    for sentence in conclusions(run):
        console.print(sentence, markup=False)
    if questions and not summary.failures:
        place = _short(workspace.root)
        _print_longer_training(console, results, place, run.artifacts.seed)
        console.print(f'ask it: pcdistill query {place} "a place to sleep"', markup=False)
        console.print(f"take the labels: pcdistill export {place}", markup=False)


def _print_longer_training(
    console: Console, results: Sequence[dict[str, Any]], workspace: Path, run_seed: int
) -> None:
    """Say how to train longer where the demo's best student is behind the fused features."""
    known = {one["name"]: one["miou"] for one in results}
    best = best_of(results, "student")
    seed = f" --seed {run_seed}" if run_seed else ""
    if best is not None and known[best] < known.get("fused", 0.0):
        console.print(
            f"{best} stops while it still learns; train it longer: pcdistill demo "
            f"--workspace {workspace}{seed} --set {LONGER_TRAINING}",
            markup=False,
        )


def _short(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _is_older(report: Path, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether a report shows other numbers than were measured last."""
    try:
        shown = {row["name"]: row["miou"] for row in read_json(report)["rows"]}
    except (ArtifactError, KeyError, TypeError):
        return True
    return shown != {row["name"]: row["miou"] for row in rows}
