"""OpenSeg: dense features in the space of CLIP ViT-L/14@336, computed by TensorFlow."""

from pcdistill.teachers.openseg.teacher import OpenSegTeacher

__all__ = ["OpenSegTeacher"]
