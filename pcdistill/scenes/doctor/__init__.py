"""Looks at a scan before the work, and says in words what is wrong with it."""

from pcdistill.scenes.doctor.examine import Examination, examine
from pcdistill.scenes.fit.finding import Diagnosis, Finding
from pcdistill.scenes.fit.sights import Capture, Sight

__all__ = ["Capture", "Diagnosis", "Examination", "Finding", "Sight", "examine"]
