"""Lifting of image features onto the points of a scene."""

from pcdistill.lifting.frame_colors import average_frame_colors
from pcdistill.lifting.lift_scene import count_views, lift_scene
from pcdistill.lifting.projector import ProjectionRules, SceneProjector

__all__ = [
    "ProjectionRules",
    "SceneProjector",
    "average_frame_colors",
    "count_views",
    "lift_scene",
]
