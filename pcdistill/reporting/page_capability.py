"""Capability table of the report page: measured IoU of each teacher, and the true one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pcdistill.reporting.method_display import method_colors
from pcdistill.reporting.page_numbers import UNKNOWN
from pcdistill.reporting.report_data import CapabilityFindings

TRACK = 66
"""Per cent of a drawing's width that an IoU of 1 takes; numbers stand behind."""
BAR_STEP = 15
"""Pixels from one bar to the next."""


@dataclass(frozen=True)
class CapabilityCell:
    """IoU of one teacher on one word."""

    text: str
    """Per cent, or a dash where it is not known."""
    share: str
    """The same as a CSS number in [0, 1], by which the cell is darkened."""
    best: bool
    title: str
    """Shown when pointed at."""


@dataclass(frozen=True)
class CapabilityBar:
    """Measured IoU of one teacher on one word, with its interval, as lengths in a drawing."""

    teacher: str
    top: int
    """Pixels from the top of the drawing."""
    color: str
    width: str
    """Per cent of the drawing."""
    interval: tuple[str, str] | None
    """Low and high end, likewise."""
    text: str


@dataclass(frozen=True)
class CapabilityPanel:
    """The bars of all teachers for one word."""

    word: str
    images: str
    """How many were compared, in words."""
    height: int
    track: int
    """Per cent of the drawing that an IoU of 1 takes."""
    bars: tuple[CapabilityBar, ...]


@dataclass(frozen=True)
class CapabilityMatrix:
    """The table and whether it has lines of true IoU."""

    legend: tuple[tuple[str, str], ...]
    """(teacher, colour)."""
    panels: tuple[CapabilityPanel, ...]
    """For each word; none where the intervals are not known."""
    source: str
    """Where the numbers are from, a sentence."""
    words: tuple[str, ...]
    lines: tuple[tuple[str, tuple[CapabilityCell, ...]], ...]
    """(teacher, a cell for each word), measured first, then true."""
    has_truth: bool


def capability_matrix(table: CapabilityFindings | None) -> CapabilityMatrix | None:
    """Prepare the table; None where there is nothing to show."""
    if table is None or not table.teachers or not table.vocabulary:
        return None
    lines = _lines(table, table.values, "")
    has_truth = table.true is not None and not bool(table.true.isnan().all())
    if table.true is not None and has_truth:
        lines += _lines(table, table.true, ", truly")
    colors = method_colors(f"teacher:{name}" for name in table.teachers)
    return CapabilityMatrix(
        tuple(zip(table.teachers, colors, strict=True)),
        _panels(table, colors),
        _source(table),
        table.vocabulary,
        lines,
        has_truth,
    )


def _panels(table: CapabilityFindings, colors: Sequence[str]) -> tuple[CapabilityPanel, ...]:
    if table.intervals is None or table.images is None:
        return ()
    values, intervals = table.values.T.tolist(), table.intervals.transpose(0, 1).tolist()
    panels = []
    for word, images, scores, ends in zip(
        table.vocabulary, table.images, values, intervals, strict=True
    ):
        bars = tuple(
            CapabilityBar(
                teacher,
                number * BAR_STEP,
                colors[number],
                _length(score),
                None if math.isnan(low) else (_length(low), _length(high)),
                UNKNOWN if math.isnan(score) else _in_words(score, low, high),
            )
            for number, (teacher, score, (low, high)) in enumerate(
                zip(table.teachers, scores, ends, strict=True)
            )
        )
        counted = "1 image" if images == 1 else f"{images} images" if images else "no image"
        panels.append(CapabilityPanel(word, counted, len(bars) * BAR_STEP, TRACK, bars))
    return tuple(panels)


def _source(table: CapabilityFindings) -> str:
    if table.origin is None:
        return "Measured in this run."
    return f"Taken from {table.origin}; this run made no images."


def _length(share: float) -> str:
    return "0" if math.isnan(share) else f"{TRACK * share:.1f}"


def _in_words(score: float, low: float, high: float) -> str:
    ends = "" if math.isnan(low) else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{100 * score:.0f}{ends}"


def _lines(
    table: CapabilityFindings, values: Tensor, added: str
) -> tuple[tuple[str, tuple[CapabilityCell, ...]], ...]:
    """Prepare a line for each teacher.

    Args:
        table: names of teachers and words.
        values: (T, K) float in [0, 1] or NaN.
        added: stands after a teacher's name, to say what the values are.
    """
    lines = values.tolist()
    best = [
        max((v for v in column if not math.isnan(v)), default=math.nan)
        for column in zip(*lines, strict=True)
    ]
    return tuple(
        (
            teacher + added,
            tuple(
                _cell(value, top, f"{teacher}, {word}{added}")
                for word, value, top in zip(table.vocabulary, line, best, strict=True)
            ),
        )
        for teacher, line in zip(table.teachers, lines, strict=True)
    )


def _cell(value: float, best: float, title: str) -> CapabilityCell:
    if math.isnan(value):
        return CapabilityCell(UNKNOWN, "0", False, title)
    return CapabilityCell(f"{100 * value:.0f}", f"{value:.3f}", value == best, title)
