"""Scans on disk as scenes in memory: the only room that knows raw formats."""

from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.formats.ply import Ply, read_ply, write_ply
from pcdistill.scenes.frames import Frame, MemoryFrame, StoredFrame
from pcdistill.scenes.issues import Refusal, collected_refusals
from pcdistill.scenes.label_sets import (
    LabelSet,
    label_set_names,
    load_label_set,
    load_vocabulary,
    vocabulary_names,
)
from pcdistill.scenes.readers.base import Division, Reader, ReadSettings, Scan
from pcdistill.scenes.readers.detection import (
    READERS,
    Recognised,
    find_scans,
    is_scene_folder,
    open_scan,
    open_scene,
    recognise_scans,
    require_scans,
)
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.source_frame import source_points, write_source_ply
from pcdistill.scenes.store import write_scene

__all__ = [
    "IGNORE_LABEL",
    "READERS",
    "Division",
    "Frame",
    "LabelSet",
    "MemoryFrame",
    "Ply",
    "ReadSettings",
    "Reader",
    "Recognised",
    "Refusal",
    "Scan",
    "Scene",
    "StoredFrame",
    "collected_refusals",
    "find_scans",
    "is_scene_folder",
    "label_set_names",
    "load_label_set",
    "load_vocabulary",
    "open_scan",
    "open_scene",
    "read_ply",
    "recognise_scans",
    "require_scans",
    "source_points",
    "vocabulary_names",
    "write_ply",
    "write_scene",
    "write_source_ply",
]
