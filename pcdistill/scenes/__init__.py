"""Scans on disk as scenes in memory: the only room that knows raw formats."""

from pcdistill.scenes.frames import Frame, MemoryFrame, StoredFrame
from pcdistill.scenes.scene import IGNORE_LABEL, Scene

__all__ = [
    "IGNORE_LABEL",
    "Frame",
    "MemoryFrame",
    "Scene",
    "StoredFrame",
]
