"""Looks at a scan before the work, and says in words what is wrong with it."""

from pcdistill.doctor.examine import Examination, examine
from pcdistill.scenes.checks import Capture, Diagnosis, Finding, Sight

__all__ = ["Capture", "Diagnosis", "Examination", "Finding", "Sight", "examine"]
