"""Uniform sampling of points on a mesh."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry.checks import require_shape

_AT_ONCE = 1 << 20  # triangles
_STEPS = (0.7548776662466927, 0.5698402909980532)  # of the plane's most even additive sequence


def sample_surface(vertices: Tensor, faces: Tensor, count: int) -> Tensor:
    """Sample points on triangles, as many on each as its share of the area; always the same.

    Args:
        vertices: (N, 3) float, metres.
        faces: (F, 3) int64, triangles over `vertices`; those with a corner that is not finite, or
            without area, get none.
        count: how many points.

    Returns:
        (count, 3) float64, metres; (0, 3) where no triangle has an area.

    Raises:
        ValueError: a shape is another.
    """
    require_shape("vertices", vertices, None, 3)
    require_shape("faces", faces, None, 3)
    areas = [torch.linalg.cross(*_sides(vertices, part)[1:]).norm(dim=1) for part in _parts(faces)]
    ends = torch.cat(areas).nan_to_num(0.0, 0.0, 0.0).cumsum(dim=0).numpy()
    if len(ends) == 0 or not ends[-1] > 0:
        return torch.empty((0, 3), dtype=torch.float64)
    middles = (np.arange(count) + 0.5) / count * ends[-1]
    chosen = torch.from_numpy(np.searchsorted(ends, middles, side="right").clip(0, len(ends) - 1))
    steps = torch.arange(count, dtype=torch.float64)[:, None] * torch.tensor(_STEPS).double()
    places = steps - steps.floor()
    places = torch.where(places.sum(dim=1, keepdim=True) > 1, 1 - places, places)
    first, along, across = _sides(vertices, faces[chosen])
    return first + places[:, :1] * along + places[:, 1:] * across


def _parts(faces: Tensor) -> tuple[Tensor, ...]:
    """Some faces at a time: their corners as doubles take nine times the memory."""
    return torch.split(faces, _AT_ONCE)


def _sides(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First corner of each triangle, and the way to the other two, (F, 3) float64."""
    first = vertices[faces[:, 0]].double()
    return (
        first,
        vertices[faces[:, 1]].double() - first,
        vertices[faces[:, 2]].double() - first,
    )
