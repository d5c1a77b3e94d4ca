"""Numbers as text for the report page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNKNOWN = "–"


@dataclass(frozen=True)
class Cell:
    """A number of a table, and whether none of its column or row is better."""

    text: str
    best: bool


def number_cell(value: float | None, best: float) -> Cell:
    """Give a number with one digit; as good as the best is what is shown alike."""
    if value is None:
        return Cell(UNKNOWN, False)
    text = f"{value:.1f}"
    return Cell(text, text == f"{best:.1f}")


def interval_text(ends: Sequence[float] | None) -> str:
    """Give the two ends of an interval, or a dash."""
    return UNKNOWN if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def short_number(value: float) -> str:
    """Give at most two digits after the point, without zeros at the end."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.005 else "0"


def relevancy_text(value: float | None) -> str:
    """Give a relevancy with two digits, or a dash."""
    return UNKNOWN if value is None else f"{value:.2f}"


def triple_text(values: tuple[float, float, float] | None, between: str) -> str:
    """Give three lengths with one digit each, or a dash."""
    if values is None:
        return UNKNOWN
    return between.join(f"{value:.1f}" for value in values)


def duration_text(seconds: float) -> str:
    """Give a time in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 60 else f"{seconds / 3600:.1f} h"


def size_text(count: int) -> str:
    """Give a number of bytes in decimal units."""
    steps: list[tuple[float, str, Callable[[float], str]]] = [
        (1e9, "GB", "{:.1f}".format),
        (1e6, "MB", "{:.1f}".format),
        (1e3, "kB", "{:.0f}".format),
    ]
    for unit, name, shown in steps:
        if count >= unit:
            return f"{shown(count / unit)} {name}"
    return f"{count} B"
