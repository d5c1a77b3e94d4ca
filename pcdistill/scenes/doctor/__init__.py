"""Looks at a scan before the work, and says in words what is wrong with it."""

from pcdistill.scenes.doctor.capture import Capture, Sight
from pcdistill.scenes.doctor.examine import Examination, examine
from pcdistill.scenes.doctor.finding import Diagnosis, Finding

__all__ = ["Capture", "Diagnosis", "Examination", "Finding", "Sight", "examine"]
