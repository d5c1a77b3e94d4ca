"""Which points of an exact mesh an exact rendering shows."""

from __future__ import annotations

from torch import Tensor

from pcdistill.homes import Rendering


def visible_vertices(
    points: Tensor, camera_to_world: Tensor, intrinsics: Tensor, view: Rendering
) -> Tensor:
    """(N,) bool: inside the picture and no farther than 3 cm + 1 % from the exact depth."""
    local = (points.double() - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]
    depth = local[:, 2].clamp(min=1e-3)
    pixel = ((local @ intrinsics.T)[:, :2] / depth[:, None]).round().long()
    height, width = view.depth.shape
    column, row = pixel.unbind(dim=1)
    inside = (local[:, 2] > 0.2) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = view.depth[row.clamp(0, height - 1), column.clamp(0, width - 1)].double()
    seen: Tensor = inside & ((found - depth).abs() <= 0.03 + 0.01 * depth)
    return seen
