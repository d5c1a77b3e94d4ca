"""Artefacts: loading and writing what stages hand to each other."""

from pcdistill.artifacts.capability import capability_table, reference_images, taught_to
from pcdistill.artifacts.default_split import counted
from pcdistill.artifacts.fused_targets import fused_targets, pack_mask
from pcdistill.artifacts.point_features import (
    TeacherViews,
    frame_counts,
    keeps_points,
    lift_stored_scene,
    points_with_features,
    projection_rules,
    teacher_views,
)
from pcdistill.artifacts.predictions import predictions, result, run_protocol
from pcdistill.artifacts.scan_sources import (
    read_settings,
    remember_scans,
    require_scan,
    scan_files,
    scans_of,
    size_share,
)
from pcdistill.artifacts.scene_splits import (
    measured_on,
    remembered_scenes,
    scene_names,
    training_scenes,
    validation_scenes,
)
from pcdistill.artifacts.size_estimates import expected_points, expected_superpoints
from pcdistill.artifacts.stored_scenes import labels_in_memory, load_scene, stored_scenes
from pcdistill.artifacts.students import Student, load_student, require_colors, student_input
from pcdistill.artifacts.superpoints import MAX_SHORT_ID, stored_ids, superpoint_ids

__all__ = [
    "MAX_SHORT_ID",
    "Student",
    "TeacherViews",
    "capability_table",
    "counted",
    "expected_points",
    "expected_superpoints",
    "frame_counts",
    "fused_targets",
    "keeps_points",
    "labels_in_memory",
    "lift_stored_scene",
    "load_scene",
    "load_student",
    "measured_on",
    "pack_mask",
    "points_with_features",
    "predictions",
    "projection_rules",
    "read_settings",
    "reference_images",
    "remember_scans",
    "remembered_scenes",
    "require_colors",
    "require_scan",
    "result",
    "run_protocol",
    "scan_files",
    "scans_of",
    "scene_names",
    "size_share",
    "stored_ids",
    "stored_scenes",
    "student_input",
    "superpoint_ids",
    "taught_to",
    "teacher_views",
    "training_scenes",
    "validation_scenes",
]
