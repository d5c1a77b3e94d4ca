"""Check of the up axis, by how cameras are held and by the largest level surface."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import estimate_normals
from pcdistill.scenes.checks.findings import Finding
from pcdistill.scenes.checks.samples import SceneSample

_MAX_POINTS = 12_000
_HELD_UPRIGHT = 0.6  # length of the mean of the cameras' up directions
_TURNED = 60.0  # degrees
_TILTED = 8.0  # degrees; floors of captures are level within 3
_PARALLEL = math.cos(math.radians(8))
_LEVEL_SHARE = 0.08  # of the normals, that make a floor


def check_axis(capture: SceneSample, up_setting: str) -> list[Finding]:
    """Check that the z axis of a scan points up.

    Args:
        capture: what was looked at.
        up_setting: the axis that was taken for up when it was read: z, y or -y.
    """
    poses = torch.stack([s.camera_to_world for s in capture.sights]) if capture.sights else None
    if poses is None or len(poses) < 3:
        return []
    mean = -poses[:, :3, 1].mean(dim=0)
    held = float(mean.norm())
    if held < _HELD_UPRIGHT:
        return []
    up = functional.normalize(mean, dim=0)
    normals = _normals(capture)
    floor, fraction = _level(normals, up)
    if fraction >= _LEVEL_SHARE:
        up = floor
    level_now = _parallel(normals, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    angle = math.degrees(math.acos(min(1.0, max(-1.0, float(up[2])))))
    numbers = (
        f"the cameras' own up direction is {angle:.0f} degrees from z, they agree on it by "
        f"{held:.2f} of 1; {fraction:.0%} of the surface is level to it"
    )
    if angle > _TURNED:
        axis = int(up.abs().argmax())
        name = ("-" if float(up[axis]) < 0 else "") + "xyz"[axis]
        return [
            Finding(
                "axis_up",
                "The scan is upside down: its z axis points down."
                if name == "-z"
                else f"The scan lies on its side: {name} points up, not z.",
                "sure" if held > 0.75 and fraction >= _LEVEL_SHARE else "likely",
                numbers,
                _mend(name, up_setting),
                lifting_works=True,
            )
        ]
    if angle > _TILTED and fraction >= _LEVEL_SHARE and level_now < fraction / 2:
        return [
            Finding(
                "axis_tilted",
                f"The scan is tilted: its floor is {angle:.0f} degrees off level.",
                "likely",
                numbers,
                "turn poses and surface together until the floor is level",
                lifting_works=True,
            )
        ]
    return []


def _mend(name: str, up_setting: str) -> str:
    if name in ("y", "-y") and up_setting == "z":
        return f"set `up_axis: {name}`"
    if up_setting != "z":
        return "leave the setting `up_axis` at z, or set it to the axis that points up in the files"
    return f"turn poses and surface together so that {name} becomes z"


def _normals(capture: SceneSample) -> Tensor:
    """(n, 3) float64 directions of some of the surface."""
    points = capture.points[:: max(1, len(capture.points) // _MAX_POINTS)]
    if len(points) < 200:
        return torch.empty((0, 3), dtype=torch.float64)
    return estimate_normals(points).double()


def _level(normals: Tensor, up: Tensor) -> tuple[Tensor, float]:
    """The direction nearest to `up_axis` in which much of the surface faces, and how much of it."""
    direction = up
    for degrees in (30.0, 20.0, 12.0, 8.0):
        along = normals @ direction
        near = along.abs() > math.cos(math.radians(degrees))
        if int(near.sum()) < 20:
            return up, 0.0
        facing = normals[near] * along[near].sign()[:, None]
        direction = functional.normalize(facing.median(dim=0).values, dim=0)
    return direction, _parallel(normals, direction)


def _parallel(normals: Tensor, direction: Tensor) -> float:
    if len(normals) == 0:
        return 0.0
    return float(((normals @ direction).abs() > _PARALLEL).double().mean())
