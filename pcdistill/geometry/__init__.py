"""Cameras, occlusion, voxels and superpoints: positions in, positions and indices out."""

from pcdistill.geometry.cameras import (
    adjust_intrinsics,
    back_project,
    camera_rays,
    invert_pose,
    project_to_pixels,
)
from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.geometry.sampling import sample_feature_map
from pcdistill.geometry.visibility import Projection, project_points
from pcdistill.geometry.voxels import Voxels, voxelize

__all__ = [
    "Projection",
    "Voxels",
    "adjust_intrinsics",
    "back_project",
    "camera_rays",
    "invert_pose",
    "project_points",
    "project_to_pixels",
    "require_finite",
    "require_shape",
    "sample_feature_map",
    "voxelize",
]
