"""Checks of poses, depth, cameras, meshes and units, and of how well they fit together."""

from pcdistill.scenes.checks.color_check import check_colours
from pcdistill.scenes.checks.findings import Certainty, Diagnosis, Finding
from pcdistill.scenes.checks.fit_requirement import require_fitting_frames, require_fitting_scene
from pcdistill.scenes.checks.geometry_check import check_geometry
from pcdistill.scenes.checks.hypothesis import Assumptions, assumptions_of
from pcdistill.scenes.checks.registration_check import check_registration
from pcdistill.scenes.checks.samples import FUSED, Capture, Sight, look_at

__all__ = [
    "FUSED",
    "Assumptions",
    "Capture",
    "Certainty",
    "Diagnosis",
    "Finding",
    "Sight",
    "assumptions_of",
    "check_colours",
    "check_geometry",
    "check_registration",
    "look_at",
    "require_fitting_frames",
    "require_fitting_scene",
]
