"""Report data of a finished run."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pcdistill.artifacts import (
    RunArtifacts,
    SceneSplit,
    load_capability,
    load_capability_intervals,
    load_predictions,
    load_result,
    read_scores,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.evaluation import confusion_counts
from pcdistill.inference import POOLED, FinishedRun, read_true_capability
from pcdistill.pipeline import Workspace
from pcdistill.reporting.conclusions import comparisons, conclusions
from pcdistill.reporting.fusion_images import fusion_picture
from pcdistill.reporting.geometry_images import geometry_pictures
from pcdistill.reporting.reference_sheet import reference_sheet
from pcdistill.reporting.report_data import (
    AskedQuestion,
    CapabilityFindings,
    ConfusionFindings,
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    ReportData,
    StageCost,
)
from pcdistill.reporting.run_description import (
    ReportSettings,
    StudentFacts,
    notes,
    summary,
)
from pcdistill.scenes import Scene, open_stored_scene
from pcdistill.version import __version__
from pcdistill.visualization import (
    RenderCamera,
    birds_eye_view,
    colorize_labels,
    colorize_scores,
    draw_points,
    score_range,
)

NOT_MEASURED = "nothing was measured: the scenes have no true labels"
_NAMES = {
    "average": "plain average of the teachers",
    "linear": "teachers weighted by similarity",
    "fused": "teachers fused by capability",
    POOLED: "fused by capability, averaged over superpoints",
}


def collect_report_data(
    run: FinishedRun,
    settings: ReportSettings,
    costs: tuple[StageCost, ...],
    report: ProgressCallback,
) -> ReportData:
    """Gather everything that the report shows.

    Args:
        run: whose stages before the report are done.
        settings: what is shown.
        costs: of the stages before the report.
        report: called after every scene.
    """
    artifacts = run.artifacts
    workspace, label_set = artifacts.workspace, artifacts.words.label_set
    results = [load_result(workspace, name) for name in run.methods]
    measured = [one for one in results if one["miou"] is not None]
    scenes = tuple(results[0]["scenes"])
    drawn = settings.scenes or scenes[:1]
    pictures = []
    for number, name in enumerate(drawn):
        pictures += list(_pictures(run, name, settings.heat_maps))
        report(number + 1, len(drawn), "scenes drawn")
    capability = _capability(artifacts)
    return ReportData(
        title=settings.title,
        protocol=artifacts.protocol_line if measured else _not_measured(artifacts.scenes),
        seed=artifacts.seed,
        summary=summary(artifacts.teachers, settings, artifacts.scenes, scenes),
        rows=tuple(map(_row, measured)),
        conclusions=conclusions(run),
        differences=tuple(one for compared in comparisons(run) for one in compared),
        confusions=tuple(
            _confusion(one) for one in measured if one["name"] in (run.best_method, "fused")
        ),
        evaluation=_evaluation(measured[0]) if measured else {},
        capability=capability,
        examples=(
            None
            if capability is None or capability.origin is not None  # images may be of before
            else reference_sheet(artifacts, capability.values, settings.example_classes, report)
        ),
        labels=tuple(
            LabelColor(name, (int(color[0]), int(color[1]), int(color[2])))
            for name, color in zip(label_set.names, label_set.palette.tolist(), strict=True)
        ),
        pictures=tuple(pictures),
        queries=tuple(_asked_questions(run, settings, scenes)),
        costs=costs,
        provenance=report_provenance(artifacts, settings.student),
        notes=notes(artifacts.teachers, settings),
    )


def _row(result: Mapping[str, Any]) -> MethodRow:
    interval = result["interval"]
    return MethodRow(
        result["name"],
        result["miou"],
        result["macc"],
        {name: result["per_class"][name] for name in result["classes"]},  # files have no order
        per_class_accuracy=result["per_class_accuracy"],
        overall_accuracy=result["overall_accuracy"],
        interval=None if interval is None else (interval[0], interval[1]),
    )


def _confusion(result: Mapping[str, Any]) -> ConfusionFindings:
    """Of the first draw, all scenes together."""
    classes = tuple(result["classes"])
    total = torch.zeros(len(classes) + 1, len(classes), dtype=torch.int64)
    for cells in result["confusion"][0].values():
        total += confusion_counts(cells, len(classes))
    return ConfusionFindings(result["name"], classes, total)


def _evaluation(result: Mapping[str, Any]) -> dict[str, Any]:
    """What all methods of a run share."""
    keys = ("rules", "label_set", "classes", "prompts", "teachers", "text_space", "software")
    return {key: result[key] for key in (*keys, "scenes")}


def stage_cost(workspace: Workspace, stage: str, units: Sequence[str]) -> StageCost:
    """Sum up the time and the disk of the finished units of a stage."""
    records = [workspace.record(stage, unit) for unit in units]
    done = [record for record in records if record is not None and record.state == "done"]
    seconds = sum(record.seconds for record in done)
    size = sum(sum(record.outputs.values()) for record in done)
    return StageCost(stage, len(done), seconds, size)


def _capability(run: RunArtifacts) -> CapabilityFindings | None:
    if not run.teachers:
        return None
    names = run.workspace, run.teachers, run.words.vocabulary
    scored = read_scores(run.workspace, run.teachers[0])  # images and origin are the same for all
    overlaps = scored.scores.overlaps
    return CapabilityFindings(
        run.teachers,
        run.words.vocabulary,
        load_capability(*names),
        read_true_capability(*names),
        load_capability_intervals(*names),
        tuple(len(overlaps[word].unions) for word in run.words.vocabulary),
        scored.origin,
    )


def _not_measured(split: SceneSplit) -> str:
    return NOT_MEASURED + (f"; what is shown are {split.measured_on}" if split.measured_on else "")


def _pictures(run: FinishedRun, name: str, heat_maps: Sequence[str]) -> Iterator[Picture]:
    workspace, palette = run.artifacts.workspace, run.artifacts.words.label_set.palette
    scene = open_stored_scene(workspace.scene(name))
    view = _view(scene)
    yield from _scan_pictures(scene, view, palette)
    for method in drawn_methods(run):
        labels = load_predictions(workspace, method, name)
        colors = colorize_labels(labels, palette)
        yield Picture("Labels", _NAMES.get(method, method), _draw(scene, view, colors))
    if len(run.artifacts.teachers) > 1:
        diagnosis = run.predictor.diagnose_fusion(name)
        yield fusion_picture(diagnosis, lambda colors: _draw(scene, view, colors))
    for text in heat_maps:
        found = run.querier.query_scene(text, name, top_k=1)
        low, high = score_range(found.relevancy)
        yield Picture(
            f"Questions to {run.best_method}",
            f"“{text}”",
            _draw(scene, view, colorize_scores(found.relevancy)),
            scale=HeatScale("relevancy for the question", low, high),
        )
    features = run.artifacts.point_features
    yield from geometry_pictures(
        workspace, features, scene, lambda colors: _draw(scene, view, colors)
    )


def _scan_pictures(scene: Scene, view: RenderCamera, palette: Tensor) -> Iterator[Picture]:
    if scene.colors is not None:
        frames = f" from {len(scene.frames)} frames" if scene.frames else ""
        caption = f"{scene.name}: {len(scene.points)} points{frames}"
        yield Picture("The scan", caption, _draw(scene, view, scene.colors))
    if scene.labels is not None:
        colors = colorize_labels(scene.labels, palette)
        yield Picture("Labels", "ground truth", _draw(scene, view, colors))
    if scene.frames:
        yield Picture("The scan", "its first frame", scene.frames[0].image())


def _view(scene: Scene) -> RenderCamera:
    inside = _middle(scene.points)
    normals = None if scene.normals is None else scene.normals[inside]
    return birds_eye_view(scene.points[inside], normals=normals)


def _middle(points: Tensor) -> Tensor:
    """(N,) bool: all points, or, where a few lie far out as in LiDAR scans, those around most."""
    some = points[:: max(1, len(points) // 100_000), :2]
    low, high = some.quantile(0.05, dim=0), some.quantile(0.95, dim=0)
    extent = some.amax(dim=0) - some.amin(dim=0)
    if float((high - low).max()) > 0.5 * float(extent.max()):
        return torch.ones(len(points), dtype=torch.bool)
    return ((points[:, :2] >= low) & (points[:, :2] <= high)).all(dim=1)


def _draw(scene: Scene, view: RenderCamera, colors: Tensor) -> Tensor:
    return draw_points(scene.points, colors, normals=scene.normals, view=view)


def drawn_methods(run: FinishedRun) -> tuple[str, ...]:
    """Methods whose labels the report draws: teachers, fusion, the best student, what answers."""
    teachers = tuple(f"teacher:{name}" for name in run.artifacts.teachers)
    fused = ("fused",) if teachers else ()
    return tuple(dict.fromkeys((*teachers, *fused, _best_student(run), run.best_method)))


def _best_student(run: FinishedRun) -> str:
    return run.predictor.methods.best_student(run.artifacts.workspace)


def _asked_questions(
    run: FinishedRun, settings: ReportSettings, scenes: tuple[str, ...]
) -> Iterator[AskedQuestion]:
    classes = run.artifacts.words.label_set.names
    methods = (_best_student(run), *(("fused",) if run.artifacts.teachers else ()))
    for number, text in enumerate(settings.queries):
        few = number >= len(settings.expected_classes)
        expected = "" if few else settings.expected_classes[number]
        for method, name in itertools.product(methods, scenes):
            found = run.querier.query_scene(text, name, top_k=1, method=method)
            if not found.answers:
                known = expected in classes  # one of another label set is told of by nobody
                there = _has_class(found.scene, classes.index(expected)) if known else None
                yield AskedQuestion(text, method, name, None, None if there is None else not there)
            for best in found.answers:
                holds = best.truth == expected if expected and best.truth is not None else None
                yield AskedQuestion(text, method, name, best, holds)


def _has_class(scene: Scene, label: int) -> bool | None:
    """Whether a scene has points of a class; None where it has no labels."""
    return None if scene.labels is None else bool((scene.labels == label).any())


def report_provenance(run: RunArtifacts, student: StudentFacts) -> dict[str, str]:
    """What made a run: versions, the device, and the weights of teachers and text encoder."""
    facts = {
        "pcdistill": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(run.find_device()),
        "text space": run.words.text_encoder.text_space,
    }
    about_words = getattr(run.words.text_encoder, "provenance", {})
    if about_words:
        facts["text encoder"] = _in_words(about_words)
    if student.given:
        facts["student trained"] = student.given
    for name in run.teachers:
        facts[f"teacher {name}"] = _in_words(run.point_features.load_teacher(name).provenance)
    return facts


def _in_words(about: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in about.items())
