"""Stage report: results as one page and one JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pcdistill.artifacts import open_artifacts
from pcdistill.callbacks import ProgressCallback
from pcdistill.inference import CAPABILITY, FinishedRun
from pcdistill.pipeline import Dependency, RunContext, Stage, Task
from pcdistill.reporting import (
    ReportSettings,
    StudentFacts,
    collect_report_data,
    drawn_methods,
    stage_cost,
    write_report,
)

_BYTES_PER_PICTURE = 100_000
"""Orientation for the disk estimate."""
_BYTES_PER_EXAMPLE = 30_000
"""Of two images, each mask."""


class ReportOfStages(Stage):
    """There is one unit, `report`."""

    name = "report"
    version = 5
    before: ClassVar[tuple[type[Stage], ...]] = ()
    """Stages whose time and disk are told."""

    def __init__(self, run: RunContext) -> None:
        self._finished = FinishedRun(open_artifacts(run))
        self._config = run.config.report
        self._title = run.config.run.title
        self._text_encoder = run.text_encoder_mark
        self._before = [stage(run) for stage in self.before]
        self._settings = _report_settings(run)

    def units(self) -> tuple[str, ...]:
        """The one report."""
        return ("report",)

    def settings(self, unit: str) -> Mapping[str, Any]:
        """What is shown, and by which words questions are answered."""
        run = self._finished.artifacts
        return {
            **vars(self._config),
            "title": self._title,
            "seed": run.seed,  # shown; the results have their own
            # frames are drawn with the points they see
            "sight": run.point_features.rules._asdict(),
            "vocabulary": run.words.prompts(run.words.vocabulary),  # compared with questions
            "text_encoder": self._text_encoder,
        }

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """Every method's results, the capability, and the superpoints that are drawn."""
        run = self._finished.artifacts
        return (
            *(Dependency("evaluate", method) for method in self._finished.methods),
            *((Dependency("evaluate", CAPABILITY),) if run.teachers else ()),
            *(Dependency("score", teacher) for teacher in run.teachers),
            *(Dependency("partition", name, required=False) for name in run.scenes.validation),
        )

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The page and the files of numbers."""
        folder = self._finished.artifacts.workspace.report
        return (folder / "index.html", folder / "report.json", folder / "report.md")

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Collect everything that the report shows and write it."""
        workspace = self._finished.artifacts.workspace
        costs = tuple(stage_cost(workspace, stage.name, stage.units()) for stage in self._before)
        data = collect_report_data(self._finished, self._settings, costs, report)
        page = write_report(workspace.report, data)
        held = [asked.correct for asked in data.queries if asked.correct is not None]
        answers = f", {sum(held)} of {len(held)} answers hold" if held else ""
        return f"{page.stat().st_size / 2**20:.1f} MiB, {len(data.pictures)} pictures{answers}"

    def estimate(self, unit: str) -> int:
        """Bytes of the pictures: for each scene four of the scan, methods, questions, four more."""
        each = 8 + len(drawn_methods(self._finished)) + len(self._config.heat_maps)
        examples = self._config.example_classes * (1 + len(self._finished.artifacts.teachers))
        return _BYTES_PER_PICTURE * each * max(1, len(self._config.scenes)) + (
            _BYTES_PER_EXAMPLE * examples
        )


def _report_settings(run: RunContext) -> ReportSettings:
    """What the page says of the run beside its results."""
    config, given = run.config, run.pretrained
    if given is None:
        student = StudentFacts(config.distill.architecture, config.distill.input)
    else:
        student = StudentFacts(
            given.network.architecture.name,
            given.needs.input,
            given=f"{given.source.path}, SHA-256 {given.source.checksum[:16]}, voxels of "
            f"{given.needs.voxel_size:g} m, input {given.needs.input}",
            taught_by=tuple(given.provenance.get("teachers") or ()),
        )
    return ReportSettings(
        title=config.run.title,
        scenes=config.report.scenes,
        queries=config.report.queries,
        expected_classes=config.report.expected_classes,
        heat_maps=config.report.heat_maps,
        example_classes=config.report.example_classes,
        student=student,
        homes=config.ingest.homes if config.ingest.source == "homes" else None,
    )
