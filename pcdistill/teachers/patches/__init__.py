"""Dense teachers that read single patches with the image side of the run's text encoder."""

from pcdistill.teachers.patches.open_clip_towers import MASKCLIP
from pcdistill.teachers.patches.teacher import PatchTeacher

__all__ = ["MASKCLIP", "PatchTeacher"]
