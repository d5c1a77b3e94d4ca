"""Artifacts: loading and writing what stages hand to each other."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.artifacts.capability import (
        ScoredTeacher,
        collect_table,
        load_capability,
        load_capability_intervals,
        load_reference_images,
        load_taught_words,
        read_scores,
        table_of_words,
        write_scores,
    )
    from pcdistill.artifacts.default_split import counted
    from pcdistill.artifacts.drawn_images import DrawnImages
    from pcdistill.artifacts.fused_targets import load_fused_targets, pack_mask
    from pcdistill.artifacts.halfway_counts import HalfwayCounts, SceneCounts
    from pcdistill.artifacts.point_features import (
        PointFeatureStore,
        TeacherFeatureStack,
        open_point_features,
        projection_rules,
    )
    from pcdistill.artifacts.predictions import load_predictions, load_result
    from pcdistill.artifacts.reference_images import (
        ReferenceFacts,
        ReferenceViews,
        load_reference_facts,
        load_reference_views,
    )
    from pcdistill.artifacts.run_artifacts import RunArtifacts, open_artifacts
    from pcdistill.artifacts.scan_sources import ScanSources, open_scan_sources, save_scan_index
    from pcdistill.artifacts.scene_opening import labels_in_memory, stored_scenes
    from pcdistill.artifacts.scene_splits import SceneSplit, split_scenes
    from pcdistill.artifacts.size_estimates import SizeEstimates, estimate_sizes
    from pcdistill.artifacts.students import (
        LoadedStudent,
        check_colors,
        load_student,
        load_student_input,
    )
    from pcdistill.artifacts.superpoints import MAX_SHORT_ID, compact_ids, load_superpoint_ids
    from pcdistill.artifacts.tensorboard_writer import require_tensorboard
    from pcdistill.artifacts.training_files import (
        load_training_state,
    )
    from pcdistill.artifacts.training_log import TrainingLog, training_seconds
    from pcdistill.artifacts.training_scenes import load_training_scene, open_training_scenes

__all__ = [
    "MAX_SHORT_ID",
    "DrawnImages",
    "HalfwayCounts",
    "LoadedStudent",
    "PointFeatureStore",
    "ReferenceFacts",
    "ReferenceViews",
    "RunArtifacts",
    "ScanSources",
    "SceneCounts",
    "SceneSplit",
    "ScoredTeacher",
    "SizeEstimates",
    "TeacherFeatureStack",
    "TrainingLog",
    "check_colors",
    "collect_table",
    "compact_ids",
    "counted",
    "estimate_sizes",
    "labels_in_memory",
    "load_capability",
    "load_capability_intervals",
    "load_fused_targets",
    "load_predictions",
    "load_reference_facts",
    "load_reference_images",
    "load_reference_views",
    "load_result",
    "load_student",
    "load_student_input",
    "load_superpoint_ids",
    "load_taught_words",
    "load_training_scene",
    "load_training_state",
    "open_artifacts",
    "open_point_features",
    "open_scan_sources",
    "open_training_scenes",
    "pack_mask",
    "projection_rules",
    "read_scores",
    "require_tensorboard",
    "save_scan_index",
    "split_scenes",
    "stored_scenes",
    "table_of_words",
    "training_seconds",
    "write_scores",
]
__getattr__ = lazy_face(__name__, __file__)
