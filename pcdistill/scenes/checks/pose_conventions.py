"""Pose conventions: OpenCV or OpenGL camera axes, camera-to-world or world-to-camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.geometry import invert_pose

_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


class PoseConvention(NamedTuple):
    """What pose files may hold."""

    read: Callable[[Tensor], Tensor]
    """Turns it into our camera_to_world (+x right, +y down, +z forward)."""
    write: Callable[[Tensor], Tensor]
    """The other way."""


POSE_CONVENTIONS: Mapping[str, PoseConvention] = {
    "camera_to_world": PoseConvention(lambda pose: pose, lambda pose: pose),
    "world_to_camera": PoseConvention(invert_pose, invert_pose),
    "camera_to_world_opengl": PoseConvention(
        lambda pose: pose @ _OPENGL, lambda pose: pose @ _OPENGL
    ),
    "world_to_camera_opengl": PoseConvention(
        lambda pose: invert_pose(pose) @ _OPENGL, lambda pose: invert_pose(pose @ _OPENGL)
    ),
}
"""The OpenGL cameras look along -z with +y up."""
