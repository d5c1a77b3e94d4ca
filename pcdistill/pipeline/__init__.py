"""Framework that runs units of work: configuration, workspace, worker processes, progress."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.pipeline.artifact_files import (
        read_json,
        read_provenance,
        read_rows,
        read_shapes,
        read_tensors,
        write_json,
        write_tensors,
    )
    from pcdistill.pipeline.capability_files import (
        synthesis_settings,
        write_table,
    )
    from pcdistill.pipeline.config import (
        HOME_IMAGE_SIZE,
        PRETRAINED,
        DistillConfig,
        IngestConfig,
        LiftConfig,
        PartitionConfig,
        RunConfig,
    )
    from pcdistill.pipeline.config_docs import Section, Setting, find_settings, kind_in_words
    from pcdistill.pipeline.config_loading import load_config, load_workspace_config
    from pcdistill.pipeline.config_schema import schema_text
    from pcdistill.pipeline.context import RunContext, once_per_run
    from pcdistill.pipeline.integrity import Finding, mark_damaged, verify_workspace
    from pcdistill.pipeline.pretrained import (
        PretrainedStudent,
        StudentInputSpec,
        copy_checkpoint,
        load_pretrained,
        read_input_spec,
        resolve_checkpoint,
    )
    from pcdistill.pipeline.process_workers import usable_cores
    from pcdistill.pipeline.progress import Progress, text_console
    from pcdistill.pipeline.ray_cluster import RayOptions
    from pcdistill.pipeline.ray_package import require_ray
    from pcdistill.pipeline.ray_workers import RayWorkers
    from pcdistill.pipeline.result_files import best_measured, result_confusion
    from pcdistill.pipeline.runner import opened_workspace, run_stages, select_stages
    from pcdistill.pipeline.stage import Dependency, Stage, Task
    from pcdistill.pipeline.stage_names import STAGE_NAMES, StageName, require_stage_names
    from pcdistill.pipeline.status import StatusTracker, UnitState, failed_units, stage_states
    from pcdistill.pipeline.stop_signal import (
        TERMINATED,
        StoppedError,
        noted_sigterm,
        stop_at_signals,
    )
    from pcdistill.pipeline.summary import RunSummary
    from pcdistill.pipeline.unit_work import run_unit
    from pcdistill.pipeline.words import RunWords
    from pcdistill.pipeline.workspace import Workspace, question_slug, slug
    from pcdistill.pipeline.workspace_format import require_known_format
    from pcdistill.pipeline.workspace_lock import JoinedRun
    from pcdistill.pipeline.yaml_text import parse_yaml

__all__ = [
    "HOME_IMAGE_SIZE",
    "PRETRAINED",
    "STAGE_NAMES",
    "TERMINATED",
    "Dependency",
    "DistillConfig",
    "Finding",
    "IngestConfig",
    "JoinedRun",
    "LiftConfig",
    "PartitionConfig",
    "PretrainedStudent",
    "Progress",
    "RayOptions",
    "RayWorkers",
    "RunConfig",
    "RunContext",
    "RunSummary",
    "RunWords",
    "Section",
    "Setting",
    "Stage",
    "StageName",
    "StatusTracker",
    "StoppedError",
    "StudentInputSpec",
    "Task",
    "UnitState",
    "Workspace",
    "best_measured",
    "copy_checkpoint",
    "failed_units",
    "find_settings",
    "kind_in_words",
    "load_config",
    "load_pretrained",
    "load_workspace_config",
    "mark_damaged",
    "noted_sigterm",
    "once_per_run",
    "opened_workspace",
    "parse_yaml",
    "question_slug",
    "read_input_spec",
    "read_json",
    "read_provenance",
    "read_rows",
    "read_shapes",
    "read_tensors",
    "require_known_format",
    "require_ray",
    "require_stage_names",
    "resolve_checkpoint",
    "result_confusion",
    "run_stages",
    "run_unit",
    "schema_text",
    "select_stages",
    "slug",
    "stage_states",
    "stop_at_signals",
    "synthesis_settings",
    "text_console",
    "usable_cores",
    "verify_workspace",
    "write_json",
    "write_table",
    "write_tensors",
]
__getattr__ = lazy_face(__name__, __file__)
