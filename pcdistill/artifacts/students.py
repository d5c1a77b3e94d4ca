"""The students of a run on disk, and what each is shown of a scene."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pcdistill.distillation import Cloud
from pcdistill.errors import SceneError
from pcdistill.geometry import estimate_normals
from pcdistill.networks import MinkUNet, load_checkpoint
from pcdistill.pipeline import Run, StudentNeeds, needs_of
from pcdistill.scenes import open_scene


class Student(NamedTuple):
    """A student, ready to look at scenes."""

    network: MinkUNet
    needs: StudentNeeds


def load_student(run: Run, student: str) -> Student:
    """Load a finished student of the run.

    Raises:
        ArtifactError: it is not there, or damaged.
    """
    path = run.workspace.checkpoint(student)
    checkpoint = load_checkpoint(path)
    checkpoint.network.use_engine(run.config.distill.engine)
    return Student(checkpoint.network, needs_of(path, checkpoint, run.config.distill))


def student_input(run: Run, name: str, kind: str) -> Cloud:
    """What a student is given of a scene; normals are estimated where the scene has none.

    Args:
        kind: what the student sees of a voxel, as `distill.input`.

    Raises:
        SceneError: it needs colours and there are none.
    """
    scene = open_scene(run.workspace.scene(name))
    if kind == "constant":
        return Cloud(scene.points)
    require_colors(name, scene.colors, kind)
    normals = scene.normals if scene.normals is not None else estimate_normals(scene.points)
    return Cloud(scene.points, normals, scene.colors if kind == "color" else None)


def require_colors(scene: str, colors: Tensor | None, kind: str) -> None:
    """Refuse a scene that lacks what a student of this input sees.

    Raises:
        SceneError: see above.
    """
    if kind == "color" and colors is None:
        raise SceneError(
            f"scene {scene}: has no colours but the student sees them (distill.input: color); "
            "give the scan colours, or a student of input geometry or constant"
        )
