"""Whether the poses, the depth images and the surface of a scan describe one and the same place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcdistill.geometry import back_project, invert_pose, project_to_pixels
from pcdistill.scenes.origin import moved_pose, no_offset

TOLERANCE = 0.25
"""Relative to the measured depth, as in the occlusion test of the paper's code."""
_TILES = 32  # across the image; a tile then holds some points of a mesh with centimetre edges
_LEAST_VALID = 0.5  # share of a tile's pixels that must have a reading
_MOST_POINTS = 200_000
_PIXEL_STEP = 4

_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class View:
    """What one frame says about the surface."""

    depth: Tensor
    """(H, W) float32, metres, 0 = unknown."""
    intrinsics: Tensor
    """(3, 3) float64, pixels."""
    camera_to_world: Tensor
    """(4, 4) float64, metres."""
    offset: Tensor = field(default_factory=no_offset)
    """(3,) float64, metres, that was taken off the place of the camera in the file."""


class Agreement(NamedTuple):
    """How well surface and depth fit, over tiles of the images that have both."""

    compared: int
    """Tiles with depth readings and with points of the surface."""
    share: float
    """Part of them in which the nearest point is at the measured depth, 0 to 1."""
    ratio: float
    """Median of distance to the nearest point over measured depth; 1 where all is right."""
    coverage: float
    """Part of the tiles with depth readings that have points of the surface, 0 to 1."""


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


def measure_agreement(
    views: Sequence[View], points: Tensor | None, *, tolerance: float = TOLERANCE
) -> Agreement:
    """Compare what is seen first along the rays of some frames with their depth.

    Points behind the first surface do not count, so that other rooms do not matter.

    Args:
        views: frames of one scan.
        points: (N, 3) float, metres: the surface; without it the depth images are compared with
            each other, each with what all others see.
        tolerance: relative to the measured depth, within which the two agree.
    """
    compared = agreeing = measured = 0
    ratios = []
    for view, surface in zip(views, _surfaces(views, points), strict=True):
        nearest, low, high = _tiles(view, surface)
        known = low.isfinite()
        both = known & nearest.isfinite()
        agree = (nearest >= (1 - tolerance) * low) & (nearest <= (1 + tolerance) * high)
        compared += int(both.sum())
        agreeing += int((agree & both).sum())
        measured += int(known.sum())
        ratios.append((2 * nearest / (low + high))[both])
    together = torch.cat(ratios) if ratios else torch.empty(0)
    return Agreement(
        compared,
        agreeing / max(compared, 1),
        float(together.median()) if len(together) else 0.0,
        compared / max(measured, 1),
    )


def move_views(views: Sequence[View], offset: Tensor) -> list[View]:
    """The same frames beside a surface from which `offset`, (3,) float64 metres, was taken."""
    return [
        replace(
            view,
            camera_to_world=moved_pose(view.camera_to_world, offset),
            offset=view.offset + offset,
        )
        for view in views
    ]


def reread(views: Sequence[View], poses: str, other: str) -> list[View]:
    """The same frames with their pose files read as `other` instead of as `poses`."""
    write, read = POSE_CONVENTIONS[poses].write, POSE_CONVENTIONS[other].read
    found = []
    for view in views:
        pose = read(write(moved_pose(view.camera_to_world, -view.offset)))
        found.append(replace(view, camera_to_world=moved_pose(pose, view.offset)))
    return found


def _surfaces(views: Sequence[View], points: Tensor | None) -> Iterator[Tensor]:
    """What each view is compared with, (N, 3) float64."""
    if points is not None:
        thinned = points[:: max(1, len(points) // _MOST_POINTS)].double()
        yield from itertools.repeat(thinned, len(views))
        return
    clouds = [_cloud(view) for view in views]
    for i in range(len(views)):
        others = clouds[:i] + clouds[i + 1 :]
        yield torch.cat(others) if others else torch.empty((0, 3), dtype=torch.float64)


def _cloud(view: View) -> Tensor:
    points, _ = back_project(view.depth, view.intrinsics, view.camera_to_world)
    return points[:: _PIXEL_STEP * _PIXEL_STEP].double()


def _tiles(view: View, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per tile: distance of the nearest point, lowest and highest depth; infinite where unknown."""
    height, width = view.depth.shape
    side = max(width // _TILES, 1)
    columns, rows = -(-width // side), -(-height // side)
    padded = F.pad(view.depth.double(), (0, columns * side - width, 0, rows * side - height))
    tiled = padded.view(rows, side, columns, side).permute(0, 2, 1, 3).reshape(rows * columns, -1)
    valid = tiled > 0
    low = torch.where(valid, tiled, torch.inf).amin(dim=1)
    high = tiled.amax(dim=1)
    low[valid.double().mean(dim=1) < _LEAST_VALID] = torch.inf

    pixels, z = project_to_pixels(points, invert_pose(view.camera_to_world), view.intrinsics)
    inside = (z > 0) & (pixels >= -0.5).all(dim=1)
    inside &= (pixels[:, 0] < width - 0.5) & (pixels[:, 1] < height - 0.5)
    tile = torch.round(pixels[inside]).long() // side
    nearest = torch.full((rows * columns,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, tile[:, 1] * columns + tile[:, 0], z[inside], "amin")
    return nearest, low, high
