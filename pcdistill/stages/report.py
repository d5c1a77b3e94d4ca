"""Stage report: what came out, as one page and one JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pcdistill.artifacts import projection_rules, validation_scenes
from pcdistill.callbacks import ProgressCallback
from pcdistill.inference import CAPABILITY, method_names
from pcdistill.pipeline import Dependency, RunContext, Stage, Task
from pcdistill.reporting import (
    collect_report_data,
    drawn_rows,
    write_report,
)

_BYTES_PER_PICTURE = 100_000
"""Orientation for the disk estimate."""


def _settings(run: RunContext, unit: str) -> Mapping[str, Any]:
    return {
        **vars(run.config.report),
        "title": run.config.run.title,
        "seed": run.config.run.seed,  # shown; the results have their own
        # frames are drawn with the points they see
        "sight": projection_rules(run.config.lift)._asdict(),
        "vocabulary": run.prompts(run.vocabulary),  # what questions are compared with
        "text_encoder": run.config.run.text_encoder,
    }


def _inputs(run: RunContext, unit: str) -> tuple[Dependency, ...]:
    return (
        *(Dependency("evaluate", row) for row in method_names(run)),
        *((Dependency("evaluate", CAPABILITY),) if run.config.run.teachers else ()),
        *(Dependency("score", teacher) for teacher in run.config.run.teachers),
        *(Dependency("partition", scene, required=False) for scene in validation_scenes(run)),
    )


def _units(run: RunContext) -> tuple[str, ...]:
    return ("report",)


def _estimate(run: RunContext, unit: str) -> int:
    """Bytes of the pictures: of each scene four of the scan, rows, questions, and four more."""
    config = run.config.report
    each = 8 + len(drawn_rows(run)) + len(config.heat_maps)
    return _BYTES_PER_PICTURE * each * max(1, len(config.scenes))


def _outputs(run: RunContext, unit: str) -> tuple[Path, ...]:
    return (run.workspace.report / "index.html", run.workspace.report / "report.json")


def _work(before: Sequence[Stage], run: RunContext, task: Task, report: ProgressCallback) -> str:
    data = collect_report_data(run, report, before)
    page = write_report(run.workspace.report, data)
    held = [row.correct for row in data.queries if row.correct is not None]
    answers = f", {sum(held)} of {len(held)} answers hold" if held else ""
    return f"{page.stat().st_size / 2**20:.1f} MiB, {len(data.pictures)} pictures{answers}"


def make_report_stage(before: Sequence[Stage]) -> Stage:
    """Stage report; it tells the time and the disk of the stages before it."""
    return Stage(
        name="report",
        version=3,
        units=_units,
        settings=_settings,
        inputs=_inputs,
        outputs=_outputs,
        work=partial(_work, tuple(before)),
        estimate=_estimate,
    )
