"""Lifting: what images say, carried onto the points of a scene."""

from pcdistill.lifting.frame_colors import colors_from_frames
from pcdistill.lifting.lift_scene import count_views, lift_scene
from pcdistill.lifting.projector import ProjectionRules, Sight

__all__ = [
    "ProjectionRules",
    "Sight",
    "colors_from_frames",
    "count_views",
    "lift_scene",
]
