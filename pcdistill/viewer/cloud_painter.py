"""Drawing of panes as point clouds of the browser: only what changed is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.viewer.detail import Block, choose_counts, seen_from_behind, thinned_size
from pcdistill.viewer.view_state import Pane

Vector = tuple[float, float, float]


class CloudScene(Protocol):
    """The part of viser's scene that takes point clouds."""

    def add_point_cloud(self, name: str, points: Any, colors: Any, **options: Any) -> Any:
        """Draw a cloud and return its handle."""


@dataclass(eq=False)
class _Drawn:
    """What the browser has of one block of one pane."""

    handle: Any
    rows: Tensor
    colors: NDArray[np.uint8]
    size: float
    place: Vector
    visible: bool


class CloudPainter:
    """Keeps what the browser has, block by block, and sends what is different."""

    def __init__(self, scene: CloudScene) -> None:
        self._scene = scene
        self._drawn: dict[tuple[int, int], _Drawn] = {}

    def clear(self) -> None:
        """Remove everything, before another scene is drawn."""
        for one in self._drawn.values():
            one.handle.remove()
        self._drawn.clear()

    def paint(
        self,
        points: Tensor,
        blocks: list[Block],
        panes: list[Pane],
        position: Vector,
        *,
        budget: int,
        size: float,
        hide_walls: bool,
    ) -> int:
        """Bring the browser up to date.

        Args:
            points: (N, 3) float32, metres.
            blocks: of the points.
            panes: copies to draw.
            position: of the camera, metres.
            budget: points in all panes.
            size: diameter of points that closes the surface where all are drawn, metres.
            hide_walls: hide walls that are seen from behind.

        Returns:
            how many points are drawn.
        """
        total, wanted = 0, set()
        for number, pane in enumerate(panes):
            x, y, z = (a - b for a, b in zip(position, pane.offset, strict=True))
            counts = choose_counts(blocks, (x, y, z), budget // len(panes))
            for index, (block, count) in enumerate(zip(blocks, counts, strict=True)):
                rows = block.points[:count]
                rows = rows[pane.shown[rows]]
                if len(rows) == 0:
                    continue
                wanted.add((number, index))
                visible = not (hide_walls and seen_from_behind(block, (x, y, z)))
                thin = thinned_size(size, len(block.points), count)
                self._update((number, index), points, block, pane, rows, thin, visible)
                total += len(rows) * visible
        for key in [key for key in self._drawn if key not in wanted]:
            self._drawn.pop(key).handle.remove()
        return total

    def _update(
        self,
        key: tuple[int, int],
        points: Tensor,
        block: Block,
        pane: Pane,
        rows: Tensor,
        size: float,
        visible: bool,
    ) -> None:
        """Bring one block of one pane up to date; see `paint`."""
        x, y, z = (a + b for a, b in zip(block.center, pane.offset, strict=True))
        colors: NDArray[np.uint8] = pane.colors[rows].numpy()
        old = self._drawn.get(key)
        if old is None or old.place != (x, y, z) or not torch.equal(old.rows, rows):
            local = points[rows] - torch.tensor(block.center)  # halves are exact to a millimetre
            handle = self._scene.add_point_cloud(
                f"/cloud/{key[0]}/{key[1]}",
                local.numpy(),
                colors,
                point_size=size / 2,  # viser takes the radius
                point_shape="circle",
                point_shading="flat",
                position=(x, y, z),
                visible=visible,
            )
            self._drawn[key] = _Drawn(handle, rows, colors, size, (x, y, z), visible)
            return
        if not np.array_equal(old.colors, colors):
            old.handle.colors, old.colors = colors, colors
        if old.size != size:
            old.handle.point_size, old.size = size / 2, size
        if old.visible != visible:
            old.handle.visible, old.visible = visible, visible


def visible_mask(blocks: list[Block], position: Vector, count: int) -> Tensor:
    """(N,) bool: points that are in no wall seen from behind.

    Args:
        blocks: of the scene.
        position: of the camera, metres.
        count: N.
    """
    mask = torch.ones(count, dtype=torch.bool)
    for block in blocks:
        if seen_from_behind(block, position):
            mask[block.points] = False
    return mask
