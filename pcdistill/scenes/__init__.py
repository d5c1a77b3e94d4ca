"""Scans on disk as scenes in memory: the only room that knows raw formats."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.labels import IGNORE_LABEL
    from pcdistill.scenes.exports.formats import EXPORT_FORMATS, get_export_format
    from pcdistill.scenes.exports.glb import colored_glb
    from pcdistill.scenes.exports.labelled_cloud import LabelledCloud
    from pcdistill.scenes.exports.scannet import write_benchmark_zip
    from pcdistill.scenes.formats.ply import Ply, read_ply, write_ply
    from pcdistill.scenes.frames import Frame, MemoryFrame, StoredFrame
    from pcdistill.scenes.issues import SceneIssue, collect_issues
    from pcdistill.scenes.label_files import LABEL_SUFFIXES, LabelFile, read_label_file
    from pcdistill.scenes.label_sets import (
        LabelSet,
        label_set_names,
        load_label_set,
        load_vocabulary,
        vocabulary_names,
        write_class_names,
    )
    from pcdistill.scenes.origin import scene_to_source
    from pcdistill.scenes.reader_settings import ReaderSettings, ScanSettings
    from pcdistill.scenes.readers.base import Division, Reader, Scan
    from pcdistill.scenes.readers.detection import (
        READERS,
        DetectedScan,
        detect_scans,
        find_scans,
        is_scene_folder,
        open_scan,
        open_scene,
        require_scans,
    )
    from pcdistill.scenes.scene import Scene
    from pcdistill.scenes.source_frame import source_points, write_source_ply
    from pcdistill.scenes.store import load_stored_points, open_stored_scene, write_scene

__all__ = [
    "EXPORT_FORMATS",
    "IGNORE_LABEL",
    "LABEL_SUFFIXES",
    "READERS",
    "DetectedScan",
    "Division",
    "Frame",
    "LabelFile",
    "LabelSet",
    "LabelledCloud",
    "MemoryFrame",
    "Ply",
    "Reader",
    "ReaderSettings",
    "Scan",
    "ScanSettings",
    "Scene",
    "SceneIssue",
    "StoredFrame",
    "collect_issues",
    "colored_glb",
    "detect_scans",
    "find_scans",
    "get_export_format",
    "is_scene_folder",
    "label_set_names",
    "load_label_set",
    "load_stored_points",
    "load_vocabulary",
    "open_scan",
    "open_scene",
    "open_stored_scene",
    "read_label_file",
    "read_ply",
    "require_scans",
    "scene_to_source",
    "source_points",
    "vocabulary_names",
    "write_benchmark_zip",
    "write_class_names",
    "write_ply",
    "write_scene",
    "write_source_ply",
]
__getattr__ = lazy_face(__name__, __file__)
