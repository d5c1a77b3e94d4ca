"""pcdistill: ask a 3D scan questions in plain words."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face
from pcdistill.version import __version__

if TYPE_CHECKING:
    from pcdistill.evaluation import evaluate_semantic
    from pcdistill.fusion import fuse_features
    from pcdistill.geometry import mesh_superpoints, point_superpoints, project_points, voxelize
    from pcdistill.inference import load_student, open_run
    from pcdistill.scenes import load_label_set, open_scene
    from pcdistill.teachers import TeacherSetup, WeightStore, build_teacher, build_text_encoder

__all__ = [
    "TeacherSetup",
    "WeightStore",
    "__version__",
    "build_teacher",
    "build_text_encoder",
    "evaluate_semantic",
    "fuse_features",
    "load_label_set",
    "load_student",
    "mesh_superpoints",
    "open_run",
    "open_scene",
    "point_superpoints",
    "project_points",
    "voxelize",
]
__getattr__ = lazy_face(__name__, __file__)
