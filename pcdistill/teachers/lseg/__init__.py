"""LSeg: its image network, its official checkpoint, and the ways to look at an image."""

from pcdistill.teachers.lseg.teacher import LSegTeacher
from pcdistill.teachers.lseg.views import LSEG_VIEWS

__all__ = ["LSEG_VIEWS", "LSegTeacher"]
