"""Confusion matrix as a chart: what points of each true class were taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcdistill.geometry import require_shape

MAX_CLASSES = 30
"""Classes that have a row; the most frequent ones where there are more."""
STEP = 22
"""Pixels from one cell to the next."""
_LEFT, _TOP, _RIGHT = 136, 96, 70
_LONGEST = 20
"""Letters of a class that are shown."""
_SHOWN = 0.005
"""Share of a true class from which a cell is drawn."""
_WRITTEN = 0.10
"""Share from which its number is written into it."""
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class ChartLabel:
    """Name of a row or a column."""

    text: str
    at: float
    """Pixels: of a row from the top to the base line, of a column from the left."""


@dataclass(frozen=True)
class ChartCell:
    """One cell with a colour."""

    x: int
    y: int
    opacity: str
    """Share of the true class, as a CSS number."""
    text: str
    title: str
    right: bool
    """Whether predicted and true class are the same."""


@dataclass(frozen=True)
class ConfusionChart:
    """A row for each true class, a column for each predicted one. Lengths are pixels."""

    title: str
    width: int
    height: int
    left: int
    top: int
    right: int
    step: int
    rows: tuple[ChartLabel, ...]
    columns: tuple[ChartLabel, ...]
    cells: tuple[ChartCell, ...]
    note: str
    """Which classes are left out; empty where none is."""


def confusion_chart(title: str, names: Sequence[str], counts: Tensor) -> ConfusionChart:
    """Lay out a confusion matrix.

    Args:
        title: what it is of.
        names: K classes.
        counts: (K + 1, K) integer, points by predicted and true category, the last row those
            without a prediction.
    """
    require_shape("counts", counts, len(names) + 1, len(names))
    true = counts.sum(dim=0)
    rows = _most_frequent(true, true > 0)
    shown = torch.zeros(len(names), dtype=torch.bool)
    shown[rows] = True
    columns = [*shown.nonzero()[:, 0].tolist(), *([len(names)] if bool(counts[-1].any()) else [])]
    share = counts.double() / true.clamp(min=1).double()  # (K + 1, K)
    cells = []
    for line, k in enumerate(rows):
        for column, guess in enumerate(columns):
            part = float(share[guess, k])
            if part < _SHOWN:
                continue
            said = NO_ANSWER if guess == len(names) else names[guess]
            cells.append(
                ChartCell(
                    x=_LEFT + column * STEP,
                    y=_TOP + line * STEP,
                    opacity=f"{part:.2f}",
                    text=f"{100 * part:.0f}" if part >= _WRITTEN else "",
                    title=f"{100 * part:.1f} % of {names[k]} taken for {said}, "
                    f"{int(counts[guess, k])} points",
                    right=guess == k,
                )
            )
    left_out = int((true > 0).sum()) - len(rows)
    return ConfusionChart(
        title=title,
        width=_LEFT + len(columns) * STEP + _RIGHT,
        height=_TOP + len(rows) * STEP,
        left=_LEFT,
        top=_TOP,
        right=_RIGHT,
        step=STEP,
        rows=tuple(
            ChartLabel(_short(names[k]), _TOP + line * STEP + STEP / 2 + 4)
            for line, k in enumerate(rows)
        ),
        columns=tuple(
            ChartLabel(
                NO_ANSWER if guess == len(names) else _short(names[guess]),
                _LEFT + column * STEP + STEP / 2,
            )
            for column, guess in enumerate(columns)
        ),
        cells=tuple(cells),
        note=f"The {len(rows)} classes with most points; {left_out} more are left out."
        if left_out
        else "",
    )


def _most_frequent(points: Tensor, there: Tensor) -> list[int]:
    """Indices of at most `MAX_CLASSES` classes that are there, in the order of the label set."""
    order = points.masked_fill(~there, -1).argsort(descending=True, stable=True)
    kept: list[int] = order[: min(MAX_CLASSES, int(there.sum()))].sort().values.tolist()
    return kept


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
