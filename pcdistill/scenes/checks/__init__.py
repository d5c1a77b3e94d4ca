"""Checks of poses, depth, cameras, meshes and units, and of how well they fit together."""

from pcdistill.scenes.checks.axis_check import check_axis
from pcdistill.scenes.checks.color_check import check_colours
from pcdistill.scenes.checks.depth_agreement import measure_agreement
from pcdistill.scenes.checks.findings import Certainty, Diagnosis, Finding, named
from pcdistill.scenes.checks.fit_requirement import (
    is_refused,
    refusal_of,
    require_fitting_frames,
    require_fitting_scene,
)
from pcdistill.scenes.checks.geometry_check import TOLERANCE, check_geometry
from pcdistill.scenes.checks.hypothesis import Assumptions, assumptions_of
from pcdistill.scenes.checks.registration_check import check_registration
from pcdistill.scenes.checks.samples import (
    FUSED,
    Capture,
    Sight,
    gray_of,
    look_at,
    look_at_frame,
    spread,
)
from pcdistill.scenes.checks.unit_check import unit_doubt

__all__ = [
    "FUSED",
    "TOLERANCE",
    "Assumptions",
    "Capture",
    "Certainty",
    "Diagnosis",
    "Finding",
    "Sight",
    "assumptions_of",
    "check_axis",
    "check_colours",
    "check_geometry",
    "check_registration",
    "gray_of",
    "is_refused",
    "look_at",
    "look_at_frame",
    "measure_agreement",
    "named",
    "refusal_of",
    "require_fitting_frames",
    "require_fitting_scene",
    "spread",
    "unit_doubt",
]
