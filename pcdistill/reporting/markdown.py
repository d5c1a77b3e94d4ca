"""Markdown of tables and texts."""

from __future__ import annotations

from collections.abc import Sequence

from pcdistill.reporting.page_numbers import UNKNOWN


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Give the lines of a table; what stands in its cells is text.

    Args:
        heads: of the columns.
        rows: a text for each column.
    """
    lines = [list(map(plain_text, heads)), ["---"] * len(heads)]
    lines += [list(map(plain_text, row)) for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def plain_text(text: str) -> str:
    """Keep signs of Markdown from being read as such."""
    for sign in "\\|*_`<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def percent_text(value: float | None) -> str:
    """Give a number with one digit, or a dash."""
    return UNKNOWN if value is None else f"{value:.1f}"
