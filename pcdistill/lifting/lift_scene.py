"""A teacher's features of all frames of a scene, lifted onto its points."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pcdistill.fusion import MultiViewAccumulator
from pcdistill.geometry import PointGrid, SeenPoints
from pcdistill.lifting.lift_frames import View, in_order, lift_frames
from pcdistill.lifting.projector import Sight
from pcdistill.pipeline.config import LiftConfig
from pcdistill.pipeline.stage import Report
from pcdistill.scenes import Frame, Scene
from pcdistill.teachers import Teacher


def lift_scene(
    scene: Scene, teacher: Teacher, config: LiftConfig, report: Report
) -> MultiViewAccumulator:
    """Let `teacher` look at every frame of `scene` and collect what it says of each point."""
    accumulator = MultiViewAccumulator(len(scene.points), teacher.dimensions)
    see_points = point_finder(scene, config)

    def look(frame: Frame) -> View | None:
        found = see_points(frame)
        if len(found.seen) == 0:
            return None
        return View(*found, frame.image().permute(2, 0, 1).contiguous())

    lift_frames(
        scene.frames,
        look,
        teacher,
        accumulator,
        report,
        batch=config.batch,
        workers=config.workers,
    )
    return accumulator


def point_finder(scene: Scene, config: LiftConfig) -> Callable[[Frame], SeenPoints]:
    """A function that says which points a frame of `scene` sees; several threads may call it."""
    grid, sight = PointGrid(scene.points), Sight(scene, config)

    def see_points(frame: Frame) -> SeenPoints:
        return grid.seen_from(
            frame.camera_to_world,
            frame.intrinsics,
            frame.image_size,
            sight.depth(frame),
            depth_tolerance=config.depth_tolerance,
            border=config.border,
        )

    return see_points


def count_views(scene: Scene, config: LiftConfig, report: Report) -> Tensor:
    """(N,) int32: how many frames see each point, without looking at their images."""
    views = torch.zeros(len(scene.points), dtype=torch.int32)
    see_points = point_finder(scene, config)
    with ThreadPoolExecutor(config.workers) as readers:
        found = in_order(readers, see_points, scene.frames, ahead=2 * config.workers)
        for number, (seen, _) in enumerate(found):
            views[seen] += 1
            report(number + 1, len(scene.frames), "frames")
    return views
