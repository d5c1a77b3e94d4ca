"""Values of the report page, prepared for its template: texts, widths and colours, no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pcdistill.reporting.confusion_chart import ConfusionChart, confusion_chart
from pcdistill.reporting.method_display import OTHER_COLOR, method_colors, method_words
from pcdistill.reporting.page_capability import CapabilityMatrix, capability_matrix
from pcdistill.reporting.page_examples import ExampleSheet, example_sheet
from pcdistill.reporting.page_numbers import (
    UNKNOWN,
    Cell,
    duration_text,
    interval_text,
    number_cell,
    relevancy_text,
    size_text,
    triple_text,
)
from pcdistill.reporting.page_pictures import PictureWall, Swatch, picture_wall
from pcdistill.reporting.report_data import (
    NOTHING_FITS,
    AskedQuestion,
    MethodRow,
    ReportData,
    StageCost,
)

TRACK = 84
"""Per cent of a chart's width that an IoU of 100 takes; the number stands right of it."""
BAR_STEP = 13
"""Pixels from one bar of a chart to the next."""


@dataclass(frozen=True)
class Tile:
    """One of the numbers that a reader looks for first."""

    what: str
    miou: str
    method: str


@dataclass(frozen=True)
class Bar:
    """A horizontal bar."""

    width: str
    """Per cent of the chart's width, as a CSS number."""
    color: str


@dataclass(frozen=True)
class ResultLine:
    """One line of the results."""

    words: str
    name: str
    bar: Bar
    miou: Cell
    interval: str
    """95 % interval of the mIoU; empty where there is none."""
    macc: Cell
    overall: str
    begins_group: bool


@dataclass(frozen=True)
class Results:
    """Table of the methods and what it says."""

    lines: tuple[ResultLine, ...]
    conclusions: tuple[str, ...]


@dataclass(frozen=True)
class ClassBar:
    """IoU of one method on one class; without a bar where it is not known."""

    method: str
    top: int
    """Pixels below the upper edge of the chart."""
    bar: Bar | None
    iou: Cell


@dataclass(frozen=True)
class ClassChart:
    """IoU of every method on one class."""

    name: str
    height: int
    """Pixels."""
    track: int
    """Per cent of the width that a full bar takes."""
    bars: tuple[ClassBar, ...]


@dataclass(frozen=True)
class Classes:
    """A chart for every class that has a true point, and the names of those that have none."""

    methods: tuple[Swatch, ...]
    charts: tuple[ClassChart, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One line of the questions."""

    text: str
    method: str
    looks_like: str
    truth: str
    correct: bool | None
    scene: str
    position: str
    size: str
    relevancy: str


@dataclass(frozen=True)
class Questions:
    """The questions, and how many of the answers that can be judged hold."""

    lines: tuple[Question, ...]
    right: int
    judged: int


@dataclass(frozen=True)
class CostLine:
    """One line of time and disk."""

    stage: str
    units: int
    bar: Bar
    time: str
    disk: str


@dataclass(frozen=True)
class Costs:
    """Time and disk of the stages, and together."""

    lines: tuple[CostLine, ...]
    time: str
    disk: str


@dataclass(frozen=True)
class Page:
    """Everything on the page. A section that is None or empty is left out."""

    title: str
    summary: tuple[str, ...]
    notes: tuple[str, ...]
    tiles: tuple[Tile, ...]
    results: Results | None
    classes: Classes | None
    confusions: tuple[ConfusionChart, ...]
    capability: CapabilityMatrix | None
    examples: ExampleSheet | None
    pictures: PictureWall | None
    questions: Questions | None
    costs: Costs | None
    provenance: tuple[tuple[str, str], ...]


def page_values(data: ReportData) -> Page:
    """Prepare all sections of the page."""
    entries = {"protocol": data.protocol, "seed": str(data.seed), **data.provenance}
    return Page(
        title=data.title,
        summary=data.summary,
        notes=data.notes,
        tiles=_tiles(data.rows),
        results=_results(data.rows, data.conclusions),
        classes=_classes(data.rows),
        confusions=tuple(
            confusion_chart(method_words(one.method), one.classes, one.counts)
            for one in data.confusions
        ),
        capability=capability_matrix(data.capability),
        examples=example_sheet(data.examples),
        pictures=picture_wall(data),
        questions=_questions(data.queries),
        costs=_costs(data.costs),
        provenance=tuple((key, str(value)) for key, value in entries.items()),
    )


def _tiles(rows: Sequence[MethodRow]) -> tuple[Tile, ...]:
    groups = [
        ("best single teacher", [row for row in rows if row.name.startswith("teacher:")]),
        ("teachers fused by capability", [row for row in rows if row.name == "fused"]),
        ("best student, without images", [r for r in rows if r.name.startswith("student:")]),
    ]
    best = [(what, max(members, key=lambda row: row.miou)) for what, members in groups if members]
    return tuple(Tile(what, f"{row.miou:.1f}", row.name) for what, row in best)


def _results(rows: Sequence[MethodRow], conclusions: tuple[str, ...]) -> Results | None:
    if not rows:
        return None
    top_iou, top_accuracy = max(r.miou for r in rows), max(r.macc for r in rows)
    kinds = [row.name.split(":")[0] if ":" in row.name else "fusion" for row in rows]
    lines = tuple(
        ResultLine(
            words=method_words(row.name),
            name=row.name,
            bar=Bar(f"{row.miou:.2f}", color),
            miou=number_cell(row.miou, top_iou),
            interval="" if row.interval is None else interval_text(row.interval),
            overall=UNKNOWN if row.overall_accuracy is None else f"{row.overall_accuracy:.1f}",
            macc=number_cell(row.macc, top_accuracy),
            begins_group=kind != before,
        )
        for row, color, kind, before in zip(
            rows, method_colors(r.name for r in rows), kinds, [kinds[0], *kinds[:-1]], strict=True
        )
    )
    return Results(lines, conclusions)


def _classes(rows: Sequence[MethodRow]) -> Classes | None:
    if not rows:
        return None
    colors = method_colors(row.name for row in rows)
    names = list(dict.fromkeys(name for row in rows for name in row.per_class))
    measured = [n for n in names if any(row.per_class.get(n) is not None for row in rows)]
    return Classes(
        methods=tuple(Swatch(color, r.name) for r, color in zip(rows, colors, strict=True)),
        charts=tuple(
            class_chart(
                name, [row.name for row in rows], [row.per_class.get(name) for row in rows], colors
            )
            for name in measured
        ),
        absent=tuple(name for name in names if name not in measured),
    )


def class_chart(
    name: str, owners: Sequence[str], values: Sequence[float | None], colors: Sequence[str]
) -> ClassChart:
    """Prepare the bars of one class.

    Args:
        name: the class.
        owners: names of the methods or runs.
        values: IoU of each, per cent; None where it is not known.
        colors: CSS, one for each.
    """
    best = max((v for v in values if v is not None), default=0.0)
    bars = tuple(
        ClassBar(
            method=owner,
            top=number * BAR_STEP,
            bar=None if value is None else Bar(f"{TRACK * value / 100:.2f}", color),
            iou=number_cell(value, best),
        )
        for number, (owner, value, color) in enumerate(zip(owners, values, colors, strict=True))
    )
    return ClassChart(name, len(owners) * BAR_STEP, TRACK, bars)


def _questions(queries: Sequence[AskedQuestion]) -> Questions | None:
    if not queries:
        return None
    judged = [asked.correct for asked in queries if asked.correct is not None]
    return Questions(tuple(map(_question, queries)), sum(judged), len(judged))


def _question(asked: AskedQuestion) -> Question:
    match = asked.match
    return Question(
        text=asked.text,
        method=asked.method,
        looks_like=NOTHING_FITS if match is None else match.looks_like,
        truth=UNKNOWN if match is None or match.truth is None else match.truth,
        correct=asked.correct,
        scene=asked.scene,
        position=triple_text(None if match is None else match.position, ", "),
        size=triple_text(None if match is None else match.size, " × "),
        relevancy=relevancy_text(None if match is None else match.relevancy),
    )


def _costs(costs: Sequence[StageCost]) -> Costs | None:
    if not costs:
        return None
    longest = max(max(cost.seconds for cost in costs), 1e-9)
    lines = tuple(
        CostLine(
            stage=cost.stage,
            units=cost.units,
            bar=Bar(f"{100 * cost.seconds / longest:.2f}", OTHER_COLOR),
            time=duration_text(cost.seconds),
            disk=size_text(cost.bytes),
        )
        for cost in costs
    )
    return Costs(
        lines,
        duration_text(sum(cost.seconds for cost in costs)),
        size_text(sum(cost.bytes for cost in costs)),
    )
