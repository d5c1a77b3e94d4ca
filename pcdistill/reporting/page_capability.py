"""Capability table of the report page: measured IoU of each teacher, and the true one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from pcdistill.reporting.page_numbers import UNKNOWN
from pcdistill.reporting.report_data import CapabilityTable


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
class CapabilityMatrix:
    """The table and whether it has lines of true IoU."""

    words: tuple[str, ...]
    lines: tuple[tuple[str, tuple[CapabilityCell, ...]], ...]
    """(teacher, a cell for each word), measured first, then true."""
    has_truth: bool


def capability_matrix(table: CapabilityTable | None) -> CapabilityMatrix | None:
    """Prepare the table; None where there is nothing to show."""
    if table is None or not table.teachers or not table.vocabulary:
        return None
    lines = _lines(table, table.values, "")
    has_truth = table.true is not None and not bool(table.true.isnan().all())
    if table.true is not None and has_truth:
        lines += _lines(table, table.true, ", truly")
    return CapabilityMatrix(table.vocabulary, lines, has_truth)


def _lines(
    table: CapabilityTable, values: Tensor, added: str
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
