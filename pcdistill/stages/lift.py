"""Stage lift: what a teacher sees in the frames is carried onto the points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.fusion import MultiViewAccumulator
from pcdistill.geometry import project_points
from pcdistill.scenes import Frame, Scene, open_scene
from pcdistill.stages.files import read_tensors, write_tensors
from pcdistill.stages.ingest import scene_names
from pcdistill.stages.run import Run
from pcdistill.stages.stage import Input, Report, Stage, Task
from pcdistill.teachers import LabelledMasks, Teacher


def lift_scene(
    scene: Scene, teacher: Teacher, depth_tolerance: float, border: int, report: Report
) -> MultiViewAccumulator:
    """Let `teacher` look at every frame of `scene` and collect what it says of each point."""
    accumulator = MultiViewAccumulator(len(scene.points), teacher.dimensions)
    for number, frame in enumerate(scene.frames):
        _add_frame(accumulator, scene.points, frame, teacher, depth_tolerance, border)
        report(number + 1, len(scene.frames), "frames")
    return accumulator


def _add_frame(
    accumulator: MultiViewAccumulator,
    points: Tensor,
    frame: Frame,
    teacher: Teacher,
    depth_tolerance: float,
    border: int,
) -> None:
    view = project_points(
        points,
        frame.camera_to_world,
        frame.intrinsics,
        frame.image_size,
        frame.depth(),
        depth_tolerance=depth_tolerance,
        border=border,
    )
    seen = view.visible.nonzero()[:, 0]
    if len(seen) == 0:
        return
    pixels = view.pixels[seen]
    said = teacher(frame.image().permute(2, 0, 1).contiguous())
    if isinstance(said, LabelledMasks):
        accumulator.add_masks(seen, said.at(pixels), said.embeddings, keys=said.captions)
    else:
        accumulator.add_features(seen, said.sample(pixels))


def lifted_features(run: Run, teacher: str, scene: str) -> tuple[Tensor, Tensor]:
    """Read one teacher's point features.

    Returns:
        features: (M, D) float16.
        seen: (M,) int64, the points they belong to, ascending.
    """
    tensors = read_tensors(run.workspace.lifted(teacher, scene), ("features", "seen"))
    return tensors["features"], tensors["seen"]


def frame_counts(run: Run, teacher: str, scene: str) -> Tensor:
    """(N,) int32: how many frames see each point."""
    return read_tensors(run.workspace.lifted(teacher, scene), ("views",))["views"]


def _units(run: Run) -> tuple[str, ...]:
    return tuple(f"{t}/{s}" for t in run.config.run.teachers for s in scene_names(run))


def _split(unit: str) -> tuple[str, str]:
    teacher, _, scene = unit.partition("/")
    return teacher, scene


def _settings(run: Run, unit: str) -> Mapping[str, Any]:
    teacher, _ = _split(unit)
    return {
        "teacher": teacher,
        "revision": run.teacher_revision(teacher),
        "depth_tolerance": run.config.lift.depth_tolerance,
        "border": run.config.lift.border,
    }


def _work(run: Run, task: Task, report: Report) -> str:
    name, scene_name = _split(task.unit)
    scene = open_scene(run.workspace.scene(scene_name))
    if not scene.frames:
        raise SceneError(f"scene {scene_name}: has no frames, so no teacher can look at it")
    teacher = run.teacher(name)
    config = run.config.lift
    accumulator = lift_scene(scene, teacher, config.depth_tolerance, config.border, report)
    lifted = accumulator.result()
    if len(lifted.seen) == 0:
        raise SceneError(
            f"scene {scene_name}: no frame sees any of its {len(scene.points)} points; "
            "check poses, intrinsics and depth_scale of the scan"
        )
    tensors = {"features": lifted.features, "seen": lifted.seen, "views": accumulator.views}
    provenance = {"teacher": name, "text_space": teacher.text_space, **teacher.provenance}
    write_tensors(run.workspace.lifted(name, scene_name), tensors, provenance)
    unseen = 100 * (1 - len(lifted.seen) / len(scene.points))
    views = accumulator.views[lifted.seen].float().mean()
    return f"{len(scene.points)} points, {unseen:.1f} % unseen, {views:.1f} views per seen point"


def _estimate(run: Run, unit: str) -> int:
    """Bytes if every point is seen: two per channel, and 12 for index and count."""
    teacher, scene = _split(unit)
    points = run.workspace.scene(scene) / "points.safetensors"
    if not points.exists():
        return 0
    stored = open_scene(run.workspace.scene(scene)).points
    return len(stored) * (2 * run.teacher(teacher).dimensions + 12)


def _inputs(run: Run, unit: str) -> tuple[Input, ...]:
    return (Input("ingest", _split(unit)[1]),)


def _outputs(run: Run, unit: str) -> tuple[Path, ...]:
    return (run.workspace.lifted(*_split(unit)),)


LIFT = Stage(
    name="lift",
    version=1,
    units=_units,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
)
