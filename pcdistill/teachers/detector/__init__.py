"""The teacher of photographs that comes with the package: a small detector and its weights."""

from pcdistill.teachers.detector.teacher import PhotoDetector

__all__ = ["PhotoDetector"]
