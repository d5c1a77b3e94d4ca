"""Cameras, occlusion, voxels and superpoints: positions in, positions and indices out."""

from pcdistill.geometry.checks import require_finite, require_shape

__all__ = ["require_finite", "require_shape"]
