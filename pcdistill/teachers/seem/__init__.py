"""SEEM, the paper's teacher of masks: network, post-processing, and the teacher made of them."""

from pcdistill.teachers.seem.network import SeemNetwork
from pcdistill.teachers.seem.teacher import SeemTeacher

__all__ = ["SeemNetwork", "SeemTeacher"]
