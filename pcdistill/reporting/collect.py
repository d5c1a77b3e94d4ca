"""Data of the report, collected from a finished run."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pcdistill.artifacts import (
    evaluation_protocol,
    load_capability,
    load_predictions,
    load_result,
    measured_on,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.inference import (
    POOLED,
    default_method,
    method_names,
    query_scene,
    read_true_capability,
)
from pcdistill.pipeline import RunContext, Stage, best_measured
from pcdistill.reporting.conclusions import comparisons, conclusions
from pcdistill.reporting.geometry_images import geometry_pictures
from pcdistill.reporting.report_data import (
    CapabilityTable,
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    QueryRow,
    ReportData,
    StageCost,
)
from pcdistill.scenes import Scene, open_scene
from pcdistill.version import __version__
from pcdistill.visualization import (
    RenderCamera,
    birds_eye_view,
    colorize_labels,
    colorize_scores,
    draw_points,
    score_range,
)

EMBEDDED_TEACHERS = {"demo-dense", "demo-masks"}
NO_CLAIM = (
    "The embedded teachers were trained on rendered homes; on this real capture no accuracy is "
    "claimed, and what can be judged is the geometry: projection, occlusion and superpoints."
)
NO_CLAIM_OF_STUDENT = (
    "The student learned from teachers that were trained on rendered homes; on this real scan no "
    "accuracy is claimed."
)
OF_HOMES = (
    "The homes are rendered, with less clutter than real ones, walls along the axes and few kinds "
    "of each thing. Their scans are like those of a hand-held depth camera, but coarser, and fewer "
    "frames see each point.",
    "The teachers are small networks that were trained on rendered homes too, though with other "
    "furniture, finishes and lights. The numbers compare methods with each other; they are no "
    "accuracy on real scans.",
)
OF_DEVELOPMENT = (
    "These are development homes: settings were chosen by looking at such homes. What is reported "
    "of test homes stands in docs/results.md."
)
NOT_MEASURED = "nothing was measured: the scenes have no true labels"
NOTHING = "nothing looks like that"
_SEEN = {
    "constant": "where they are, and nothing else",
    "geometry": "where they are, their normals and heights",
    "color": "where they are, their colours, normals and heights",
}
_NAMES = {
    "average": "plain average of the teachers",
    "linear": "teachers weighted by similarity",
    "fused": "teachers fused by capability",
    POOLED: "fused by capability, averaged over superpoints",
}


def collect_report_data(
    run: RunContext, report: ProgressCallback, stages: Sequence[Stage]
) -> ReportData:
    """Gather everything that the report shows.

    Args:
        run: whose stages before the report are done.
        report: called after every scene.
        stages: those whose time and disk are shown.
    """
    protocol = evaluation_protocol(run)
    rows = [load_result(run, name) for name in method_names(run)]
    measured = [row for row in rows if row["miou"] is not None]
    scenes = tuple(rows[0]["scenes"])
    drawn = run.config.report.scenes or scenes[:1]
    pictures = []
    for number, name in enumerate(drawn):
        pictures += list(_pictures(run, name))
        report(number + 1, len(drawn), "scenes drawn")
    return ReportData(
        title=run.config.run.title,
        protocol=protocol if measured else _not_measured(run),
        seed=run.config.run.seed,
        summary=_summary(run, scenes),
        rows=tuple(
            MethodRow(row["name"], row["miou"], row["macc"], row["per_class"]) for row in measured
        ),
        conclusions=conclusions(run),
        differences=tuple(one for compared in comparisons(run) for one in compared),
        capability=_capability(run),
        labels=tuple(
            LabelColor(name, (int(color[0]), int(color[1]), int(color[2])))
            for name, color in zip(run.label_set.names, run.label_set.palette.tolist(), strict=True)
        ),
        pictures=tuple(pictures),
        queries=tuple(_query_rows(run, scenes)),
        costs=tuple(_costs(run, stages)),
        provenance=_provenance(run),
        notes=_notes(run),
    )


def _capability(run: RunContext) -> CapabilityTable | None:
    teachers = run.config.run.teachers
    if not teachers:
        return None
    true = read_true_capability(run)
    return CapabilityTable(teachers, run.vocabulary, load_capability(run), true)


def _not_measured(run: RunContext) -> str:
    shown = measured_on(run)
    return NOT_MEASURED + (f"; what is shown are {shown}" if shown else "")


def _notes(run: RunContext) -> tuple[str, ...]:
    if run.config.ingest.source == "homes":
        chosen = run.config.ingest.homes == "development"
        return (*OF_HOMES, OF_DEVELOPMENT) if chosen else OF_HOMES
    if EMBEDDED_TEACHERS & set(run.config.run.teachers):
        return (NO_CLAIM,)
    learned = run.pretrained is not None and run.pretrained.provenance.get("teachers")
    return (NO_CLAIM_OF_STUDENT,) if learned and EMBEDDED_TEACHERS & set(learned) else ()


def _summary(run: RunContext, scenes: tuple[str, ...]) -> tuple[str, ...]:
    teachers = " and ".join(run.config.run.teachers)
    kind = "teacher" if len(run.config.run.teachers) == 1 else "teachers"
    looked = (
        f"The {kind} {teachers} looked at the images; what they saw was carried onto the points, "
        "fused by how well each finds each class on synthesised images"
    )
    trained = run.pretrained
    if trained is None:
        name = run.config.distill.architecture
        seen = _SEEN[run.config.distill.input]
        first = f"{looked}, and distilled into a {name} that sees only the points: {seen}."
    else:
        name = trained.network.architecture.name
        first = f"A {name} that was trained before labels the points; it sees nothing else."
        first = f"{looked}. {first}" if teachers else first
    if run.config.ingest.source == "homes" and trained is not None:
        second = f"Measured on {len(scenes)} generated homes."
    elif run.config.ingest.source == "homes":
        second = (
            f"Everything is measured on {len(scenes)} generated homes on which no teacher and no "
            f"student was trained; the students learned from {run.config.ingest.train} other homes "
            "without a label. Numbers on generated homes say how the methods compare, not how "
            "well they would do on real scans."
        )
    else:
        second = f"Scans: {', '.join(scenes)}."
    return first, second


def _pictures(run: RunContext, name: str) -> Iterator[Picture]:
    scene = open_scene(run.workspace.scene(name))
    view = _view(scene)
    yield from _scan_pictures(run, scene, view)
    for row in drawn_rows(run):
        labels = load_predictions(run, row, name)
        colors = colorize_labels(labels, run.label_set.palette)
        yield Picture("Labels", _NAMES.get(row, row), _draw(scene, view, colors))
    for text in run.config.report.heat_maps:
        found = query_scene(run, text, name, top_k=1)
        low, high = score_range(found.relevancy)
        yield Picture(
            f"Questions to {default_method(run)}",
            f"“{text}”",
            _draw(scene, view, colorize_scores(found.relevancy)),
            scale=HeatScale("relevancy for the question", low, high),
        )
    yield from geometry_pictures(run, scene, lambda colors: _draw(scene, view, colors))


def _scan_pictures(run: RunContext, scene: Scene, view: RenderCamera) -> Iterator[Picture]:
    if scene.colors is not None:
        frames = f" from {len(scene.frames)} frames" if scene.frames else ""
        caption = f"{scene.name}: {len(scene.points)} points{frames}"
        yield Picture("The scan", caption, _draw(scene, view, scene.colors))
    if scene.labels is not None:
        colors = colorize_labels(scene.labels, run.label_set.palette)
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


def drawn_rows(run: RunContext) -> tuple[str, ...]:
    """Methods whose labels the report draws: teachers, fusion, the best student, what answers."""
    teachers = tuple(f"teacher:{name}" for name in run.config.run.teachers)
    fused = ("fused",) if teachers else ()
    drawn = (*teachers, *fused, _best_student(run), default_method(run))
    return tuple(dict.fromkeys(drawn))


def _best_student(run: RunContext) -> str:
    """The row of the best measured student; the default row's choice where nothing was measured."""
    students = [f"student:{name}" for name in run.config.distill.student_names]
    return best_measured(run.workspace, students) or default_method(run)


def _query_rows(run: RunContext, scenes: tuple[str, ...]) -> Iterator[QueryRow]:
    config = run.config.report
    for number, text in enumerate(config.queries):
        expected = config.expected_classes[number] if number < len(config.expected_classes) else ""
        rows = (_best_student(run), *(("fused",) if run.config.run.teachers else ()))
        for row, name in itertools.product(rows, scenes):
            found = query_scene(run, text, name, top_k=1, method=row)
            if not found.answers:
                truths = run.label_set.names
                known = expected in truths  # one of another label set is told of by nobody
                there = _has_class(found.scene, truths.index(expected)) if known else None
                holds = None if there is None else not there
                yield QueryRow(f"{text} ({row})", name, NOTHING, None, None, None, None, holds)
            for best in found.answers:
                holds = best.truth == expected if expected and best.truth is not None else None
                yield QueryRow(
                    f"{text} ({row})",
                    name,
                    best.looks_like,
                    best.position,
                    best.size,
                    best.relevancy,
                    best.truth,
                    holds,
                )


def _has_class(scene: Scene, label: int) -> bool | None:
    """Whether a scene has points of a class; None where it has no labels."""
    return None if scene.labels is None else bool((scene.labels == label).any())


def _costs(run: RunContext, stages: Sequence[Stage]) -> Iterator[StageCost]:
    for stage in stages:
        records = [run.workspace.record(stage.name, unit) for unit in stage.units(run)]
        done = [record for record in records if record is not None and record.state == "done"]
        seconds = sum(record.seconds for record in done)
        size = sum(sum(record.outputs.values()) for record in done)
        yield StageCost(stage.name, len(done), seconds, size)


def _provenance(run: RunContext) -> dict[str, str]:
    facts = {
        "pcdistill": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(run.device),
        "text space": run.text_encoder.text_space,
    }
    if run.pretrained is not None:
        source, needs = run.pretrained.source, run.pretrained.needs
        facts["student trained"] = (
            f"{source.path}, SHA-256 {source.checksum[:16]}, voxels of {needs.voxel_size:g} m, "
            f"input {needs.input}"
        )
    for name in run.config.run.teachers:
        about = run.teacher(name).provenance
        facts[f"teacher {name}"] = ", ".join(f"{key}: {value}" for key, value in about.items())
    return facts
