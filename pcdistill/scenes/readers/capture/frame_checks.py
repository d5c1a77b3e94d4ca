"""Checks and samples of the frames of a capture, shared by the readers of captures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.depth_agreement import DepthView, points_in_view
from pcdistill.scenes.checks.samples import evenly_spaced
from pcdistill.scenes.formats.ply import Ply
from pcdistill.scenes.frames import Frame, StoredFrame
from pcdistill.scenes.issues import report_issue
from pcdistill.scenes.origin import moved_pose
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Scan
from pcdistill.scenes.resampled_frames import ResampledFrame

_LOG = logging.getLogger(__name__)

MAX_VIDEO_FRAMES = 300
"""Frames of a video that are used where `frame_step` is left open; neighbours show the same."""

_CHECKED_FRAMES = 12
_MAX_PROJECTED = 200_000


@dataclass(frozen=True, eq=False)
class CaptureFrame(StoredFrame):
    """A frame that knows the size of its depth file, which often has fewer pixels."""

    depth_size: tuple[int, int] | None = None
    """(h, w), pixels, of `depth_path`; of the image's shape."""


def video_frame_step(scan: Scan, settings: ReaderSettings, frames: int) -> int:
    """Choose every how many-th frame of a video is used.

    Args:
        scan: for the log.
        settings: `frame_step` is taken where it is set.
        frames: how many the video has.

    Returns:
        `frame_step`, else the smallest step that leaves at most `MAX_VIDEO_FRAMES` frames.
    """
    if settings.frame_step is not None:
        return settings.frame_step
    step = max(-(-frames // MAX_VIDEO_FRAMES), 1)
    if step > 1:
        _LOG.info("%s: taking every %d-th of %d frames (`frame_step`)", scan.name, step, frames)
    return step


def check_frames(
    where: Path, frames: Sequence[Frame], missing: int, incomplete: int
) -> dict[str, Any]:
    """Refuse a capture without a frame; log those that were left out.

    Args:
        where: the capture, for messages.
        frames: those that are left.
        missing: how many have no finite pose.
        incomplete: how many lack a file.

    Returns:
        Their numbers, for the scene's provenance.

    Raises:
        SceneError: no frame is left.
    """
    total = len(frames) + missing + incomplete
    if not frames:
        raise SceneError(
            f"{where}: none of the {total} frames has both its image and a pose of finite numbers "
            f"({incomplete} lack a file or partner, {missing} a pose), expected at least one; "
            "export the capture again"
        )
    if missing:
        _LOG.warning(
            "%s: %d of %d frames left out, they have no finite pose", where, missing, total
        )
    if incomplete:
        _LOG.warning("%s: %d of %d frames left out, they lack a file", where, incomplete, total)
    return {
        "skipped_frames": missing + incomplete,
        "frames_without_pose": missing,
        "frames_without_file": incomplete,
    }


def sample_depth_views(frames: Sequence[Frame]) -> list[DepthView]:
    """Read the depth of some frames, spread over the scan, at its own size."""
    chosen = [at_depth_size(frames[i]) for i in evenly_spaced(len(frames), _CHECKED_FRAMES)]
    return [
        DepthView(depth, frame.intrinsics, frame.camera_to_world)
        for frame in chosen
        if (depth := frame.depth()) is not None
    ]


def at_depth_size(frame: Frame) -> Frame:
    """The frame with as many pixels as its depth file has, where they are known."""
    size = frame.depth_size if isinstance(frame, CaptureFrame) else None
    return frame if size is None or size == frame.image_size else ResampledFrame(frame, size)


def check_points_in_view(where: Path, frames: Sequence[Frame], surface: Ply) -> None:
    """Refuse poses under which no frame has a point of the surface before it.

    Args:
        where: the scan, for the message.
        frames: as the files have them.
        surface: of the same coordinate frame; its offset is taken off the cameras here.

    Raises:
        SceneError: none of the frames looked at sees a point.
    """
    points = surface.points
    if not frames or not torch.isfinite(points).all():
        return
    thinned = points[:: max(1, len(points) // _MAX_PROJECTED)].double()
    for frame in frames[:: max(1, len(frames) // _CHECKED_FRAMES)]:
        pose = moved_pose(frame.camera_to_world, surface.offset)
        if points_in_view(thinned, pose, frame.intrinsics, frame.image_size).inside.any():
            return
    report_issue(
        "geometry_disagrees",
        f"{where}: no frame looked at has a single point of the cloud in view, expected the frames "
        "to look at it; check that cameras and cloud are in one coordinate frame",
    )
