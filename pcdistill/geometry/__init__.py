"""Cameras, occlusion, voxels and superpoints: positions in, positions and indices out."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.geometry.cameras import (
        RIGID_TOLERANCE,
        back_project,
        camera_rays,
        invert_pose,
        is_rigid,
        pinhole_intrinsics,
        pose_from_quaternion,
        project_to_pixels,
        resize_intrinsics,
        resize_intrinsics_openscene,
        rotation_error,
        rotation_from_quaternion,
    )
    from pcdistill.geometry.checks import require_finite, require_shape
    from pcdistill.geometry.depth_fusion import FusedCloud, depth_normals, fuse_depth
    from pcdistill.geometry.distance_transform import chamfer_distance_transform
    from pcdistill.geometry.mesh_cleaning import (
        CleanMesh,
        drop_small_pieces,
        merge_close_vertices,
        proper_faces,
    )
    from pcdistill.geometry.neighbors import ThinnedTree, place_keys
    from pcdistill.geometry.normals import estimate_normals, vertex_normals
    from pcdistill.geometry.occlusion import (
        MeshDepthRenderer,
        point_spacing,
        splat_depth,
        zbuffer_depth,
    )
    from pcdistill.geometry.oriented_boxes import OrientedBox, upright_box
    from pcdistill.geometry.point_grid import PointGrid, VisiblePoints
    from pcdistill.geometry.pooling import superpoint_mean
    from pcdistill.geometry.sampling import iter_feature_samples, sample_feature_map
    from pcdistill.geometry.superpoint_summary import SuperpointStatistics, superpoint_statistics
    from pcdistill.geometry.superpoints import (
        mesh_edges,
        mesh_superpoints,
        neighbor_edges,
        point_superpoints,
        weld_faces,
    )
    from pcdistill.geometry.surface_fusion import FusedSurface, fuse_surface
    from pcdistill.geometry.surface_samples import sample_surface
    from pcdistill.geometry.visibility import Projection, project_points
    from pcdistill.geometry.voxels import Voxels, voxelize

__all__ = [
    "RIGID_TOLERANCE",
    "CleanMesh",
    "FusedCloud",
    "FusedSurface",
    "MeshDepthRenderer",
    "OrientedBox",
    "PointGrid",
    "Projection",
    "SuperpointStatistics",
    "ThinnedTree",
    "VisiblePoints",
    "Voxels",
    "back_project",
    "camera_rays",
    "chamfer_distance_transform",
    "depth_normals",
    "drop_small_pieces",
    "estimate_normals",
    "fuse_depth",
    "fuse_surface",
    "invert_pose",
    "is_rigid",
    "iter_feature_samples",
    "merge_close_vertices",
    "mesh_edges",
    "mesh_superpoints",
    "neighbor_edges",
    "pinhole_intrinsics",
    "place_keys",
    "point_spacing",
    "point_superpoints",
    "pose_from_quaternion",
    "project_points",
    "project_to_pixels",
    "proper_faces",
    "require_finite",
    "require_shape",
    "resize_intrinsics",
    "resize_intrinsics_openscene",
    "rotation_error",
    "rotation_from_quaternion",
    "sample_feature_map",
    "sample_surface",
    "splat_depth",
    "superpoint_mean",
    "superpoint_statistics",
    "upright_box",
    "vertex_normals",
    "voxelize",
    "weld_faces",
    "zbuffer_depth",
]
__getattr__ = lazy_face(__name__, __file__)
