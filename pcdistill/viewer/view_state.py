"""What is chosen in the viewer, and the panes that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.viewer.scene_content import ANSWER, SCAN, Coloring, SceneContent

Layout = Literal["one", "side by side", "wipe"]
LAYOUTS: tuple[Layout, ...] = ("one", "side by side", "wipe")
MAX_PANES = 6
"""Copies of a scene side by side."""
_GAP = 1.12  # of a scene's width, from one copy to the next


@dataclass(frozen=True)
class ViewState:
    """What is chosen; the views are those of `SceneContent`, or `ANSWER`."""

    layout: Layout = "one"
    view: str = SCAN
    """What is shown; in a wipe on its first side."""
    other: str = SCAN
    """Second side of a wipe."""
    beside: tuple[str, ...] = ()
    """Views that stand side by side."""
    wipe: float = 0.5
    """Share of the scene on the first side of a wipe."""
    hidden: frozenset[int] = frozenset()
    """Classes that are not drawn."""
    hide_ceiling: bool = True
    hide_walls: bool = True
    """Walls are hidden while their backs are turned to the camera."""
    budget: int = 300_000
    """Points that are drawn at most."""
    size: float = 1.0
    """Of the points, relative to what closes the surface."""

    @property
    def views(self) -> tuple[str, ...]:
        """What is on the screen, from left to right."""
        if self.layout == "side by side":
            return self.beside or (self.view,)
        return (self.view, self.other) if self.layout == "wipe" else (self.view,)


Vector = tuple[float, float, float]


class Pane(NamedTuple):
    """One copy of the scene on the screen."""

    title: str
    offset: Vector
    """Metres by which the copy is moved."""
    colors: Tensor
    """(N, 3) uint8."""
    shown: Tensor
    """(N,) bool."""


def make_panes(
    content: SceneContent,
    state: ViewState,
    answer: Coloring | None,
    right: Vector,
) -> list[Pane]:
    """Give the copies of a scene that are on the screen.

    Args:
        content: the scene.
        state: what is chosen.
        answer: to the last question; None where there is none, then `ANSWER` shows the scan.
        right: horizontal unit vector along which copies stand in rows, and that a wipe follows;
            further rows stand nearer to whom it lies to the right.

    Raises:
        PcdistillError: a view cannot be made; the text says why.
    """
    colorings = [color_view(content, view, answer) for view in state.views]
    keep = content.below_ceiling if state.hide_ceiling else torch.ones(len(content.points)).bool()
    masks = [keep & ~_in_hidden(one, state.hidden) for one in colorings]
    along = content.scene.points @ torch.tensor(right)  # (N,) metres
    if state.layout == "wipe":
        first = along < torch.lerp(along.min(), along.max(), state.wipe)
        colors = torch.where(first[:, None], colorings[0].colors, colorings[1].colors)
        shown = torch.where(first, masks[0], masks[1])
        return [Pane(" | ".join(state.views), (0.0, 0.0, 0.0), colors, shown)]
    offsets = _grid_offsets(content.scene.points, len(colorings), right)
    return [
        Pane(view, offset, one.colors, shown)
        for view, offset, one, shown in zip(state.views, offsets, colorings, masks, strict=True)
    ]


def color_view(content: SceneContent, view: str, answer: Coloring | None) -> Coloring:
    """Colours of a view; the scan's own for `ANSWER` while nothing is asked."""
    if view != ANSWER:
        return content.coloring(view)
    return answer or content.coloring(SCAN)


def _grid_offsets(points: Tensor, count: int, right: Vector) -> list[Vector]:
    """Where copies of points (N, 3) stand, metres: three in a row, four in two rows of two."""
    across = 2 if count == 4 else 3
    near = (right[1], -right[0], 0.0)
    steps = [_GAP * extent_along(points, axis) + 0.3 for axis in (right, near)]
    found = []
    for number in range(count):
        column, row = number % across * steps[0], number // across * steps[1]
        x, y, z = (column * a + row * b for a, b in zip(right, near, strict=True))
        found.append((x, y, z))
    return found


def extent_along(points: Tensor, axis: Vector) -> float:
    """Metres that points (N, 3) reach along a unit vector."""
    along = points @ torch.tensor(axis)
    return float(along.max() - along.min())


def _in_hidden(coloring: Coloring, hidden: frozenset[int]) -> Tensor:
    """(N,) bool: points of hidden classes; none where colours are no classes."""
    if coloring.labels is None:
        return torch.zeros(len(coloring.colors), dtype=torch.bool)
    return torch.isin(coloring.labels, torch.tensor(sorted(hidden), dtype=torch.int64))
