"""Looks at a scan before the work, and says in words what is wrong with it."""

from pcdistill.doctor.examine import Examination, examine
from pcdistill.scenes.checks import Diagnosis, Finding, FrameSample, SceneSample

__all__ = ["Diagnosis", "Examination", "Finding", "FrameSample", "SceneSample", "examine"]
