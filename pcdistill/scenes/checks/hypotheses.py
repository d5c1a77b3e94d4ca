"""Alternative hypotheses about units, conventions and intrinsics of a scan."""

from __future__ import annotations

from collections.abc import Iterator

from pcdistill.scenes.checks import camera_hypotheses as cameras
from pcdistill.scenes.checks import depth_hypotheses as depth
from pcdistill.scenes.checks import surface_hypotheses as surfaces
from pcdistill.scenes.checks.hypothesis import Assumptions, Hypothesis, rotations
from pcdistill.scenes.checks.samples import SceneSample


def alternative_hypotheses(capture: SceneSample, read: Assumptions) -> Iterator[Hypothesis]:
    """Yield every hypothesis that changes one assumption about a capture that is often wrong.

    Args:
        capture: as it was opened.
        read: how.
    """
    yield from cameras.convention_readings(read)
    broken = list(cameras.broken_pose_readings(capture))
    yield from broken
    yield from cameras.order_readings(capture)
    yield from cameras.matrix_readings(capture)
    yield from depth.ray_readings()
    yield from depth.scale_readings(capture, read)
    yield from cameras.pose_unit_readings()
    if not any(reading.code == "poses_mirrored" for reading in broken):  # looks the same
        yield from cameras.flipped_readings("depth images")
    if read.poses == "camera_to_world":
        yield from cameras.axes_readings()
    if capture.surface is not None:
        yield from surfaces.surface_unit_readings()
        yield from surfaces.surface_axes_readings()
        yield from surfaces.surface_origin_readings(capture)


def double_readings(capture: SceneSample, read: Assumptions) -> Iterator[Hypothesis]:
    """Yield hypotheses that change two assumptions which are often wrong together.

    Args:
        capture: as it was opened, with a surface of its own.
        read: how.
    """
    for reading in cameras.convention_readings(read):
        for turn in rotations():
            yield surfaces.with_axes_too(reading, turn)
    yield from surfaces.axes_and_origin_readings(capture)
