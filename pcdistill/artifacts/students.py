"""Students of a run on disk, and the input that each needs of a scene."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pcdistill.distillation import StudentInput
from pcdistill.errors import SceneError
from pcdistill.geometry import estimate_normals
from pcdistill.networks import MinkUNet, load_checkpoint
from pcdistill.pipeline import DistillConfig, StudentInputSpec, Workspace, read_input_spec
from pcdistill.scenes import open_stored_scene


class LoadedStudent(NamedTuple):
    """A student, ready to look at scenes."""

    network: MinkUNet
    needs: StudentInputSpec


def load_student(workspace: Workspace, config: DistillConfig, student: str) -> LoadedStudent:
    """Load a finished student of a run.

    Args:
        workspace: of the run.
        config: names the engine that it computes with, and what its file may not tell.
        student: its name.

    Raises:
        ArtifactError: it is not there, or damaged.
    """
    path = workspace.checkpoint(student)
    checkpoint = load_checkpoint(path)
    checkpoint.network.set_engine(config.engine)
    return LoadedStudent(checkpoint.network, read_input_spec(path, checkpoint, config))


def load_student_input(workspace: Workspace, name: str, kind: str) -> StudentInput:
    """Load what a student is given of a scene; normals are estimated where the scene has none.

    Args:
        workspace: of the run.
        name: of a stored scene.
        kind: what the student sees of a voxel, as `distill.input`.

    Raises:
        SceneError: it needs colours and there are none.
    """
    scene = open_stored_scene(workspace.scene(name))
    if kind == "constant":
        return StudentInput(scene.points)
    check_colors(name, scene.colors, kind)
    normals = scene.normals if scene.normals is not None else estimate_normals(scene.points)
    return StudentInput(scene.points, normals, scene.colors if kind == "color" else None)


def check_colors(scene: str, colors: Tensor | None, kind: str) -> None:
    """Refuse a scene that lacks what a student of this input sees.

    Raises:
        SceneError: see above.
    """
    if kind == "color" and colors is None:
        raise SceneError(
            f"scene {scene}: has no colours but the student sees them (distill.input: color); "
            "give the scan colours, or a student of input geometry or constant"
        )
