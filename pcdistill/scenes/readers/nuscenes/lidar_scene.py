"""LiDAR scenes of nuScenes, whichever layout their files are in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Refusal, Scan
from pcdistill.scenes.readers.nuscenes.tables import LABEL_SET
from pcdistill.scenes.resampled_frames import ResizedFrame
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)

REFUSED: Mapping[str, Refusal] = {
    **{
        name: Refusal(
            f"{{folder}}: `{{name}}` is {{value}}, but in nuScenes {why}; leave the setting out"
        )
        for name, why in {
            "depth_scale": "there are no depth images",
            "up_axis": "z points up",
            "pose_convention": "the layout says what its poses are",
            "surface_file": "the points are those of the LiDAR",
            "align_axes": "x points forward already",
        }.items()
    },
    "frame_step": Refusal(
        "{folder}: `frame_step` is {value}, but in nuScenes the frames of a scan are cameras of "
        "one moment; leave the setting out, or list fewer scans",
        allowed=(1,),
    ),
}
"""Settings that would be without effect on LiDAR scans from a car."""

MAX_RANGE = 500.0
"""Metres; the LiDAR sees about 100."""


class LidarCloud(NamedTuple):
    """The LiDAR points of a moment."""

    points: Tensor
    """(N, 3) float32, metres."""
    labels: Tensor | None
    """(N,) int64, categories of the label set."""
    sweep_points: int
    """How many of them were measured before the moment."""


class CameraRig(NamedTuple):
    """The images of a moment, and the cameras that were left out."""

    frames: list[ResizedFrame]
    without_file: list[str]
    without_pose: list[str]


def build_keyframe_scene(
    scan: Scan,
    settings: ReaderSettings,
    moment: str | Path,
    cloud: LidarCloud,
    cameras: CameraRig,
    provenance: dict[str, Any],
) -> Scene:
    """Build the scene of a moment; cameras that were left out are counted and logged.

    Args:
        scan: its name.
        settings: as given.
        moment: what the log calls it.
        cloud: its points, in the car's frame.
        cameras: its images.
        provenance: added to what every moment's provenance has.
    """
    if cameras.without_file:
        _LOG.warning("%s: files are missing of %s", moment, ", ".join(cameras.without_file))
    if cameras.without_pose:
        _LOG.warning("%s: the pose of %s is not finite", moment, ", ".join(cameras.without_pose))
    return Scene(
        name=scan.name,
        points=cloud.points,
        labels=cloud.labels,
        frames=tuple(cameras.frames),
        label_set=None if cloud.labels is None else LABEL_SET,
        provenance={
            **provenance,
            "sweep_points": cloud.sweep_points,
            "intrinsics": settings.intrinsics,
            "skipped_frames": len(cameras.without_file) + len(cameras.without_pose),
            "frames_without_file": cameras.without_file,
            "frames_without_pose": cameras.without_pose,
        },
    )
