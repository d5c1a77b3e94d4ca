"""Oriented boxes: the least upright box around points, turned as they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from pcdistill.geometry.checks import require_finite, require_shape

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class OrientedBox:
    """A box with edges of its own direction."""

    center: Vector
    """Metres."""
    axes: tuple[Vector, Vector, Vector]
    """Rows of unit length, right-handed: along length, width, height."""
    size: Vector
    """Metres: length, width, height; the length is no less than the width."""

    def corners(self) -> Tensor:
        """(8, 3) float64, metres: its corners, the four of its lower side first."""
        around = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
        sides = _exact([[x, y, z] for z in (-0.5, 0.5) for x, y in around])
        return _exact(self.center) + (sides * _exact(self.size)) @ _exact(self.axes)

    def contains(self, points: Tensor, margin: float = 0.0) -> Tensor:
        """(N,) bool: which points, (N, 3) metres, are inside or at most `margin` metres out."""
        local = (points.double() - _exact(self.center)) @ _exact(self.axes).T
        return (local.abs() <= _exact(self.size) / 2 + margin).all(dim=1)

    def moved(self, transform: Tensor) -> OrientedBox:
        """The same box in another frame.

        Args:
            transform: (4, 4) float, rigid, from this frame to that one.
        """
        rigid = transform.double()
        rotation = rigid[:3, :3]
        center = rotation @ _exact(self.center) + rigid[:3, 3]
        return _box(center, _exact(self.axes) @ rotation.T, self.size)


def upright_box(points: Tensor) -> OrientedBox:
    """Find the upright box of least floor area around points.

    One side of the least rectangle around points of a plane lies along an edge of their convex
    hull (Freeman and Shapira, 1975), so that all edges are tried. Of equal areas the rectangle that
    is turned least from the axes is taken.

    Args:
        points: (N, 3) float, metres, z up, N >= 1.

    Returns:
        Its height is along +z; its length points to +x, or to +y where it is along y.

    Raises:
        ValueError: no point, a wrong shape, or a coordinate that is no number.
    """
    require_shape("points", points, None, 3)
    if len(points) == 0:
        raise ValueError("a box needs at least one point")
    require_finite("points", points)
    whole = points.detach().cpu().double()
    low, high = whole.aminmax(dim=0)
    middle = (low + high) / 2
    flat = (whole - middle)[:, :2]
    along = _least_rectangle(_outline(flat))
    across = torch.stack([-along[1], along[0]])
    turned = flat @ torch.stack([along, across]).T  # (N, 2)
    lowest, highest = turned.aminmax(dim=0)
    length, width = (highest - lowest).tolist()
    if length < width:
        along, across = across, -along
        lowest, highest = (flat @ torch.stack([along, across]).T).aminmax(dim=0)
        length, width = width, length
    if (round(float(along[0]), 9), float(along[1])) < (0.0, 0.0):
        along, across, lowest, highest = -along, -across, -highest, -lowest
    place = torch.stack([along, across]).T @ ((lowest + highest) / 2)
    axes = torch.eye(3, dtype=torch.float64)
    axes[0, :2], axes[1, :2] = along, across
    center = middle + torch.cat([place, torch.zeros(1, dtype=torch.float64)])
    return _box(center, axes, (length, width, float(high[2] - low[2])))


def _exact(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _box(center: Tensor, axes: Tensor, size: Vector) -> OrientedBox:
    x, y, z = center.tolist()
    length, width, height = (_vector(row) for row in axes)
    return OrientedBox((x, y, z), (length, width, height), size)


def _vector(row: Tensor) -> Vector:
    x, y, z = row.tolist()
    return (x, y, z)


def _outline(flat: Tensor) -> Tensor:
    """(H, 2) corners of the convex hull of points of a plane, or two ends of a line, or a point."""
    reach = float(flat.abs().max())
    try:
        return flat[torch.from_numpy(ConvexHull(flat.numpy()).vertices).long()]
    except (QhullError, ValueError):  # on one line, or fewer than three
        if reach == 0:
            return flat[:1]
        far = flat[(flat - flat[0]).norm(dim=1).argmax()]
        return torch.stack([far, flat[(flat - far).norm(dim=1).argmax()]])


def _least_rectangle(outline: Tensor) -> Tensor:
    """(2,) unit direction of one side of the least rectangle around a convex outline, (H, 2)."""
    edges = outline.roll(-1, 0) - outline
    lengths = edges.norm(dim=1)
    edges, lengths = edges[lengths > 0], lengths[lengths > 0]
    if len(edges) == 0:
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    unit = edges / lengths[:, None]  # (E, 2)
    normal = torch.stack([-unit[:, 1], unit[:, 0]], dim=1)
    spans = [(outline @ side.T).aminmax(dim=0) for side in (unit, normal)]
    areas = (spans[0].max - spans[0].min) * (spans[1].max - spans[1].min)  # (E,)
    least = areas <= float(areas.min()) * (1 + 1e-9) + 1e-15
    turn = torch.minimum(unit.abs()[:, 0], unit.abs()[:, 1])  # 0 along an axis
    chosen = int(torch.where(least, turn, torch.inf).argmin())
    direction: Tensor = unit[chosen]
    return direction
