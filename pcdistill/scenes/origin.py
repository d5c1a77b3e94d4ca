"""Offset of large coordinates: whole metres taken off a scan before it is rounded to float32.

Surveys lie hundreds of kilometres from the origin of their coordinates, where the 32-bit numbers
that everything here computes with are up to half a metre apart. One offset is therefore taken off
points and cameras alike, in 64 bits, as they are read; the scene's provenance tells the way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from pcdistill.geometry import place_keys
from pcdistill.scenes.frames import Frame, StoredFrame

MAX_COORDINATE = 1000.0
"""Metres from the origin up to which a scan stays where it is: float32 steps are 0.06 mm there."""

_MAX_ROWS = 200_000  # looked at, spread over all
_LARGEST = 1e30  # metres; float32 ends a little later
_CORE = 20.0  # times the distance between the quartiles: farther out are strays

SomeFrame = TypeVar("SomeFrame", bound=StoredFrame)


class Moved(NamedTuple):
    """Points near the origin, and what brought them there."""

    points: Tensor
    """(N, 3) float32, metres."""
    offset: Tensor
    """(3,) float64, metres, taken off."""


def no_offset() -> Tensor:
    """(3,) float64: that of a scan that stays where it is."""
    return torch.zeros(3, dtype=torch.float64)


def find_offset(points: Tensor) -> Tensor:
    """Whole metres that lie at the low corner of a scan far from its origin.

    Strays, masses of equal points and numbers that are not finite have no say: of the different
    points, those within 20 times the quartiles' distance from the median decide.

    Args:
        points: (N, 3) float64 or float32, metres: a surface, or the centres of cameras.

    Returns:
        (3,) float64, to be taken off; zero where the scan lies within `MAX_COORDINATE` of the
        origin, or reaches around it.
    """
    rows = points[:: max(1, len(points) // _MAX_ROWS)].double()
    usable = torch.isfinite(rows).all(dim=1) & (rows.abs() < _LARGEST).all(dim=1)
    rows = different_places(rows[usable])
    if len(rows) == 0:
        return no_offset()
    quartiles = torch.stack([_quantile(rows, fraction) for fraction in (0.25, 0.5, 0.75)])
    # a wall has no width along its normal: what is far is measured by the widest axis
    reach = _CORE * max(float((quartiles[2] - quartiles[0]).max()), 1.0)
    core = rows[((rows - quartiles[1]).abs() <= reach).all(dim=1)]
    if len(core) == 0:  # no point is near the middle of every axis
        core = rows
    low, high = core.amin(dim=0), core.amax(dim=0)
    farthest = float(torch.maximum(low.abs(), high.abs()).max())
    if farthest <= MAX_COORDINATE or float((high - low).max()) >= farthest:
        return no_offset()
    return torch.floor(low)


def near_origin(points: Tensor, offset: Tensor | None = None) -> Moved:
    """Points as 32-bit numbers, after what they need has been taken off in 64.

    Args:
        points: (N, 3) float64 or float32, metres.
        offset: (3,) float64 to take off; by default what `find_offset` finds.
    """
    offset = find_offset(points) if offset is None else offset
    if not offset.any():
        return Moved(points.float(), offset)
    return Moved((points.double() - offset).float(), offset)


def find_camera_offset(frames: Sequence[Frame]) -> Tensor:
    """(3,) float64, metres: `find_offset` of the cameras, for a scan whose surface is not known."""
    if not frames:
        return no_offset()
    return find_offset(torch.stack([frame.camera_to_world[:3, 3] for frame in frames]))


def move_frames(frames: Sequence[SomeFrame], offset: Tensor) -> list[SomeFrame]:
    """The same frames with `offset`, (3,) float64 metres, taken off their cameras' places."""
    if not offset.any():
        return list(frames)
    poses = [moved_pose(frame.camera_to_world, offset) for frame in frames]
    return [replace(f, camera_to_world=pose) for f, pose in zip(frames, poses, strict=True)]


def moved_pose(camera_to_world: Tensor, offset: Tensor) -> Tensor:
    """(4, 4) float64: the pose with `offset`, (3,) float64 metres, taken off the camera's place."""
    moved = camera_to_world.clone()
    moved[:3, 3] -= offset
    return moved


def describe_way_back(
    offset: Tensor,
    rotation: Tensor | None = None,
    metres_per_unit: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> dict[str, Any]:
    """What a scene's provenance holds so that its points can be given in the scan's own frame.

    Args:
        offset: (3,) float64, metres, taken off first.
        rotation: (3, 3) float64, that turned what was left; None where nothing was turned.
        metres_per_unit: of the files' coordinates, along each of their axes.
    """
    back = torch.eye(4, dtype=torch.float64)
    if rotation is not None:
        back[:3, :3] = rotation.T
    back[:3, 3] = offset
    found: dict[str, Any] = {"offset": offset.tolist(), "scene_to_source": back.tolist()}
    if metres_per_unit != (1.0, 1.0, 1.0):
        found["metres_per_unit"] = list(metres_per_unit)
    return found


def scene_to_source(provenance: Mapping[str, Any]) -> Tensor:
    """(4, 4) float64, rigid: from a scene's frame to that of its files, both in metres."""
    known = provenance.get("scene_to_source")
    if known is None:  # a scene whose points are the file's
        return torch.eye(4, dtype=torch.float64)
    return torch.tensor(known, dtype=torch.float64)


def different_places(points: Tensor) -> Tensor:
    """(M, 3) of (N, 3): each place once, in no particular order."""
    keys, order = torch.from_numpy(place_keys(points.numpy())).sort()
    first = torch.ones_like(keys, dtype=torch.bool)
    first[1:] = keys[1:] != keys[:-1]
    return points[order[first]]


def _quantile(rows: Tensor, fraction: float) -> Tensor:
    """(C,) of (N, C): a value that occurs, of each column."""
    return rows.kthvalue(1 + int(fraction * (len(rows) - 1)), dim=0).values
