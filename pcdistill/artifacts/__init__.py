"""Artefacts: loading and writing what stages hand to each other."""

from pcdistill.artifacts.capability import load_capability, load_reference_images, taught_to
from pcdistill.artifacts.default_split import counted
from pcdistill.artifacts.fused_targets import load_fused_targets, pack_mask
from pcdistill.artifacts.point_features import (
    TeacherFeatureStack,
    lift_stored_scene,
    load_seen_points,
    load_teacher_features,
    load_view_counts,
    projection_rules,
    stores_features,
)
from pcdistill.artifacts.predictions import evaluation_protocol, load_predictions, load_result
from pcdistill.artifacts.scan_sources import (
    attributed_bytes,
    get_scan,
    get_scan_index,
    reader_settings,
    save_scan_index,
    summarize_scan_files,
)
from pcdistill.artifacts.scene_splits import (
    measured_on,
    remembered_scenes,
    scene_names,
    training_scenes,
    validation_scenes,
)
from pcdistill.artifacts.size_estimates import estimate_points, estimate_superpoints
from pcdistill.artifacts.stored_scenes import labels_in_memory, load_scene, stored_scenes
from pcdistill.artifacts.students import (
    LoadedStudent,
    check_colors,
    load_student,
    load_student_input,
)
from pcdistill.artifacts.superpoints import MAX_SHORT_ID, compact_ids, load_superpoint_ids

__all__ = [
    "MAX_SHORT_ID",
    "LoadedStudent",
    "TeacherFeatureStack",
    "attributed_bytes",
    "check_colors",
    "compact_ids",
    "counted",
    "estimate_points",
    "estimate_superpoints",
    "evaluation_protocol",
    "get_scan",
    "get_scan_index",
    "labels_in_memory",
    "lift_stored_scene",
    "load_capability",
    "load_fused_targets",
    "load_predictions",
    "load_reference_images",
    "load_result",
    "load_scene",
    "load_seen_points",
    "load_student",
    "load_student_input",
    "load_superpoint_ids",
    "load_teacher_features",
    "load_view_counts",
    "measured_on",
    "pack_mask",
    "projection_rules",
    "reader_settings",
    "remembered_scenes",
    "save_scan_index",
    "scene_names",
    "stored_scenes",
    "stores_features",
    "summarize_scan_files",
    "taught_to",
    "training_scenes",
    "validation_scenes",
]
