"""Whether depth, poses, cameras, pictures and surface of a scan fit together."""

from pcdistill.scenes.fit.colours import check_colours
from pcdistill.scenes.fit.finding import Certainty, Diagnosis, Finding
from pcdistill.scenes.fit.reading import Assumptions, assumptions_of
from pcdistill.scenes.fit.registration import check_registration
from pcdistill.scenes.fit.requirement import require_fitting_frames, require_fitting_scene
from pcdistill.scenes.fit.sights import FUSED, Capture, Sight, look_at
from pcdistill.scenes.fit.verdict import check_geometry

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
