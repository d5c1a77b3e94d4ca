"""Checks of poses, depth, cameras, meshes and units, and of how well they fit together."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.scenes.checks.axis_check import check_axis
    from pcdistill.scenes.checks.color_check import check_colors
    from pcdistill.scenes.checks.depth_agreement import measure_agreement
    from pcdistill.scenes.checks.findings import Certainty, Diagnosis, Finding, join_names
    from pcdistill.scenes.checks.fit_requirement import (
        is_refused,
        refusal_of,
        require_fitting_frames,
        require_fitting_scene,
    )
    from pcdistill.scenes.checks.fit_thresholds import MISPLACED, TOLERANCE
    from pcdistill.scenes.checks.geometry_check import check_geometry
    from pcdistill.scenes.checks.hypothesis import Assumptions, assumptions_of
    from pcdistill.scenes.checks.registration_check import check_registration
    from pcdistill.scenes.checks.samples import (
        FUSED,
        FrameSample,
        SceneSample,
        evenly_spaced,
        sample_frame,
        sample_scene,
        to_grayscale,
    )
    from pcdistill.scenes.checks.unit_check import metric_unit_warning

__all__ = [
    "FUSED",
    "MISPLACED",
    "TOLERANCE",
    "Assumptions",
    "Certainty",
    "Diagnosis",
    "Finding",
    "FrameSample",
    "SceneSample",
    "assumptions_of",
    "check_axis",
    "check_colors",
    "check_geometry",
    "check_registration",
    "evenly_spaced",
    "is_refused",
    "join_names",
    "measure_agreement",
    "metric_unit_warning",
    "refusal_of",
    "require_fitting_frames",
    "require_fitting_scene",
    "sample_frame",
    "sample_scene",
    "to_grayscale",
]

__getattr__ = lazy_face(__name__, __file__)
