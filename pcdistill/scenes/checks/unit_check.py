"""Check of the unit of a bare cloud, by the spacing of its points against a student's voxels."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pcdistill.geometry import ThinnedTree

_SAMPLE = 5000
"""Points whose nearest neighbour is looked up."""
_MAX_DISTANCE = 6.0
"""Voxels between points beyond which hardly any voxel has a neighbour; LiDAR stays below."""
_MIN_LENGTH = 10.0
"""Voxels along the longest side of a cloud below which there is nothing to tell apart."""


def metric_unit_warning(points: Tensor, voxel_size: float) -> str:
    """What makes it doubtful that a cloud is in metres, as a clause; empty where nothing does.

    Args:
        points: (N, 3) float32, metres if all is well.
        voxel_size: metres, of the student that will see them.
    """
    if len(points) < 2:
        return ""
    cloud = points.double().numpy()
    length = float((cloud.max(axis=0) - cloud.min(axis=0)).max())
    some = cloud[:: max(1, len(cloud) // _SAMPLE)]
    spacing = float(np.median(ThinnedTree(cloud, 2).nearest(some, 2)[0][:, 1]))
    voxels = f"the student's voxels are {voxel_size:g} m: is its unit the metre?"
    if spacing > _MAX_DISTANCE * voxel_size:
        return f"its points are {spacing:.3g} m apart but {voxels}"
    if length < _MIN_LENGTH * voxel_size:
        return f"it is {length:.3g} m long and {voxels}"
    return ""
