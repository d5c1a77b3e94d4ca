"""Diagnosis of a scan before the work: what is wrong with it, in words."""

from pcdistill.doctor.examine import Examination, examine
from pcdistill.scenes.checks import Diagnosis, Finding, FrameSample, SceneSample

__all__ = ["Diagnosis", "Examination", "Finding", "FrameSample", "SceneSample", "examine"]
