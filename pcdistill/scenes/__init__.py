"""Scans on disk as scenes in memory: the only room that knows raw formats."""

from pcdistill.scenes.frames import Frame, MemoryFrame, StoredFrame
from pcdistill.scenes.label_sets import (
    LabelSet,
    label_set_names,
    load_label_set,
    load_vocabulary,
    vocabulary_names,
)
from pcdistill.scenes.scene import IGNORE_LABEL, Scene

__all__ = [
    "IGNORE_LABEL",
    "Frame",
    "LabelSet",
    "MemoryFrame",
    "Scene",
    "StoredFrame",
    "label_set_names",
    "load_label_set",
    "load_vocabulary",
    "vocabulary_names",
]
