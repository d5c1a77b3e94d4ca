"""Cameras, occlusion, voxels and superpoints: positions in, positions and indices out."""

from pcdistill.geometry.cameras import (
    adjust_intrinsics,
    back_project,
    camera_rays,
    invert_pose,
    pinhole,
    pose_of,
    project_to_pixels,
    scale_intrinsics,
)
from pcdistill.geometry.checks import require_finite, require_shape
from pcdistill.geometry.depth_fusion import FusedCloud, fuse_depth, surface_normals
from pcdistill.geometry.mesh_cleaning import (
    CleanMesh,
    drop_small_pieces,
    merge_close_vertices,
    proper_faces,
)
from pcdistill.geometry.neighbours import ThinnedTree, place_keys
from pcdistill.geometry.normals import estimate_normals, vertex_normals
from pcdistill.geometry.occlusion import MeshDepth, nearest_points, point_spacing, splat_depth
from pcdistill.geometry.point_grid import PointGrid, SeenPoints
from pcdistill.geometry.pooling import superpoint_mean
from pcdistill.geometry.sampling import sample_feature_map, sample_strips
from pcdistill.geometry.superpoint_statistics import SuperpointReport, describe_superpoints
from pcdistill.geometry.superpoints import (
    mesh_edges,
    mesh_superpoints,
    neighbour_edges,
    point_superpoints,
    weld_faces,
)
from pcdistill.geometry.surface_fusion import FusedSurface, fuse_surface
from pcdistill.geometry.surface_samples import sample_surface
from pcdistill.geometry.visibility import Projection, project_points
from pcdistill.geometry.voxels import Voxels, voxelize

__all__ = [
    "CleanMesh",
    "FusedCloud",
    "FusedSurface",
    "MeshDepth",
    "PointGrid",
    "Projection",
    "SeenPoints",
    "SuperpointReport",
    "ThinnedTree",
    "Voxels",
    "adjust_intrinsics",
    "back_project",
    "camera_rays",
    "describe_superpoints",
    "drop_small_pieces",
    "estimate_normals",
    "fuse_depth",
    "fuse_surface",
    "invert_pose",
    "merge_close_vertices",
    "mesh_edges",
    "mesh_superpoints",
    "nearest_points",
    "neighbour_edges",
    "pinhole",
    "place_keys",
    "point_spacing",
    "point_superpoints",
    "pose_of",
    "project_points",
    "project_to_pixels",
    "proper_faces",
    "require_finite",
    "require_shape",
    "sample_feature_map",
    "sample_strips",
    "sample_surface",
    "scale_intrinsics",
    "splat_depth",
    "superpoint_mean",
    "surface_normals",
    "vertex_normals",
    "voxelize",
    "weld_faces",
]
