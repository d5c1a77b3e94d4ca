"""Table of measured methods for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_results(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the methods as they were measured last, a table for each protocol.

    Args:
        console: where to.
        rows: what stage evaluate wrote of each measured method. What an older version did not
            write is left out.
    """
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        same = [row for row in rows if row["protocol"] == protocol]
        console.print(f"measured: {protocol}", markup=False)
        optional = {name: cells for name, cells in _optional_columns(same).items() if any(cells)}
        table = Table("method", "mIoU %", "mAcc %", *optional)
        best = max(row["miou"] for row in same)
        for number, row in enumerate(same):
            table.add_row(
                Text(row["name"]),
                f"{row['miou']:.1f}",
                f"{row['macc']:.1f}",
                *(cells[number] for cells in optional.values()),
                style="bold" if row["miou"] == best else "",
            )
        console.print(table)


def _optional_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Text]]:
    """Heading -> a cell for each row, empty where it is not known."""
    groups = dict.fromkeys(group for row in rows for group in row.get("groups", {}))
    sizes = dict.fromkeys(size for row in rows for size in row.get("first_classes", {}))
    found = {
        "95 %": [Text(_interval(row.get("interval"))) for row in rows],
        "points %": [_percent(row.get("overall_accuracy")) for row in rows],
    }
    for group in groups:
        found[f"{group} %"] = [
            _percent(row.get("groups", {}).get(group, {}).get("miou")) for row in rows
        ]
    for size in sizes:
        found[f"K = {size} %"] = [
            _percent(row.get("first_classes", {}).get(size, {}).get("miou")) for row in rows
        ]
    return found


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def _percent(value: float | None) -> Text:
    return Text("" if value is None else f"{value:.1f}")
