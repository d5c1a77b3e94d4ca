"""A teacher's features of all frames of a scene, lifted onto its points."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pcdistill.callbacks import ProgressCallback
from pcdistill.fusion import MultiViewAccumulator
from pcdistill.geometry import PointGrid, VisiblePoints
from pcdistill.lifting.lift_frames import FrameObservation, lift_frames, ordered_map
from pcdistill.lifting.projector import ProjectionRules, SceneProjector
from pcdistill.scenes import Frame, Scene
from pcdistill.teachers import GeometryTeacher, SelectiveTeacher, Teacher, ViewGeometry


def lift_scene(
    scene: Scene,
    teacher: Teacher,
    rules: ProjectionRules,
    report: ProgressCallback,
    *,
    superpoint_ids: Tensor | None = None,
    batch: int = 1,
    workers: int = 2,
) -> MultiViewAccumulator:
    """Lift a teacher's features of every frame of a scene onto its points.

    Args:
        scene: with frames.
        teacher: gives a feature map or labelled masks for each image.
        rules: which points a frame sees.
        report: called after every frame.
        superpoint_ids: (N,) integer, for a teacher whose outlines follow the surface; None where
            the scene is not cut.
        batch: images that the teacher is given at once.
        workers: threads that read frames.

    Raises:
        SceneError: a frame cannot be read, or has no depth where the rules ask for it.
    """
    min_spoken = teacher.min_spoken if isinstance(teacher, SelectiveTeacher) else 0.0
    accumulator = MultiViewAccumulator(
        len(scene.points), teacher.dimensions, min_spoken=min_spoken, groups=superpoint_ids
    )
    see_points = make_projector_fn(scene, rules)
    follows_surface = isinstance(teacher, GeometryTeacher)

    def load_frame(frame: Frame) -> FrameObservation | None:
        found, depth = see_points(frame)
        if len(found.seen) == 0:
            return None
        image = frame.image().permute(2, 0, 1).contiguous()
        if not follows_surface:
            return FrameObservation(*found, image)
        landed = None
        if superpoint_ids is not None:
            landed = torch.full(frame.image_size, -1, dtype=torch.int32)
            column, row = found.pixels.unbind(dim=1)
            landed[row, column] = superpoint_ids[found.seen].int()
        return FrameObservation(*found, image, ViewGeometry(depth, landed))

    lift_frames(
        scene.frames,
        load_frame,
        teacher,
        accumulator,
        report,
        batch=batch,
        workers=workers,
    )
    return accumulator


def make_projector_fn(
    scene: Scene, rules: ProjectionRules
) -> Callable[[Frame], tuple[VisiblePoints, Tensor | None]]:
    """A function that says which points a frame of `scene` sees, and by which depth of the surface.

    The depth is that of `SceneProjector.occlusion_depth`. Several threads may call the function.
    """
    grid, projector = PointGrid(scene.points), SceneProjector(scene, rules)

    def see_points(frame: Frame) -> tuple[VisiblePoints, Tensor | None]:
        depth = projector.occlusion_depth(frame)
        found = grid.visible_from(
            frame.camera_to_world,
            frame.intrinsics,
            frame.image_size,
            depth,
            depth_tolerance=rules.depth_tolerance,
            border=rules.border,
        )
        return found, depth

    return see_points


def count_views(
    scene: Scene, rules: ProjectionRules, report: ProgressCallback, *, workers: int = 2
) -> Tensor:
    """(N,) int32: how many frames see each point, without looking at their images.

    Args:
        scene: N points and its frames.
        rules: of which points a frame sees.
        report: told of every frame.
        workers: threads.
    """
    views = torch.zeros(len(scene.points), dtype=torch.int32)
    see_points = make_projector_fn(scene, rules)
    with ThreadPoolExecutor(workers) as readers:
        found = ordered_map(readers, see_points, scene.frames, ahead=2 * workers)
        for number, ((seen, _), _) in enumerate(found):
            views[seen] += 1
            report(number + 1, len(scene.frames), "frames")
    return views
