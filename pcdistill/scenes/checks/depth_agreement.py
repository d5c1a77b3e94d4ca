"""Agreement of depth images, poses and surface: the nearest point per image tile against depth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import back_project, invert_pose, project_to_pixels
from pcdistill.scenes.checks.fit_thresholds import LOOSE_TOLERANCE

_TILES = 28  # along the geometric mean of an image's sides, where the surface is dense enough
_MAX_TILE = 1 / 6  # of the shorter side
_POINTS_PER_TILE = 8  # on average; with fewer, tiles look between them at what lies behind
_MIN_VALID = 0.5  # share of a tile's pixels that must have a reading
_MAX_POINTS = 200_000
_PIXEL_STEP = 4


@dataclass(frozen=True, eq=False)
class DepthView:
    """What one frame says about the surface."""

    depth: Tensor
    """(H, W) float32, metres, 0 = unknown."""
    intrinsics: Tensor
    """(3, 3) float64, pixels."""
    camera_to_world: Tensor
    """(4, 4) float64, metres."""


class DepthAgreement(NamedTuple):
    """How well surface and depth fit, over tiles of the images that have both."""

    compared: int
    """Tiles with depth readings and with points of the surface."""
    fraction: float
    """Part of them in which the nearest point is at the measured depth, 0 to 1."""
    ratio: float
    """Median of distance to the nearest point over measured depth; 1 where all is right."""
    coverage: float
    """Part of the tiles with depth readings that have points of the surface, 0 to 1."""
    before: float
    """Part of the compared ones in which the surface lies before the measured depth, 0 to 1: the
    camera would look through it. Where it lies behind, it may also have a hole."""

    @property
    def explained(self) -> float:
        """Part of the tiles with depth readings in which the surface is where they say, 0 to 1."""
        return self.fraction * self.coverage

    @property
    def not_contradicted(self) -> float:
        """Part that agrees of those that agree or have the surface before the depth, 0 to 1."""
        agreeing = self.fraction * self.compared
        return agreeing / max(agreeing + self.before * self.compared, 1.0)


def measure_agreement(
    views: Sequence[DepthView], points: Tensor | None, *, tolerance: float = LOOSE_TOLERANCE
) -> DepthAgreement:
    """Measure how well the nearest points along the rays of some frames fit their depth.

    Points behind the first surface do not count, so that other rooms do not matter.

    Args:
        views: frames of one scan.
        points: (N, 3) float, metres: the surface; without it the depth images are compared with
            each other, each with what all others see.
        tolerance: relative to the measured depth, within which the two agree.
    """
    compared = agreeing = before = measured = 0
    ratios = []
    for view, surface in zip(views, _surfaces(views, points), strict=True):
        nearest, low, high = tiles(view, surface)
        known = low.isfinite()
        both = known & nearest.isfinite()
        too_near = both & (nearest < (1 - tolerance) * low)
        agree = both & ~too_near & (nearest <= (1 + tolerance) * high)
        compared += int(both.sum())
        agreeing += int(agree.sum())
        before += int(too_near.sum())
        measured += int(known.sum())
        ratios.append((2 * nearest / (low + high))[both])
    together = torch.cat(ratios) if ratios else torch.empty(0)
    return DepthAgreement(
        compared,
        agreeing / max(compared, 1),
        float(together.median()) if len(together) else 0.0,
        compared / max(measured, 1),
        before / max(compared, 1),
    )


def _surfaces(views: Sequence[DepthView], points: Tensor | None) -> Iterator[Tensor]:
    """What each view is compared with, (N, 3) float64."""
    if points is not None:
        thinned = points[:: max(1, len(points) // _MAX_POINTS)].double()
        yield from itertools.repeat(thinned, len(views))
        return
    clouds = [_cloud(view) for view in views]
    for i in range(len(views)):
        others = clouds[:i] + clouds[i + 1 :]
        yield torch.cat(others) if others else torch.empty((0, 3), dtype=torch.float64)


def _cloud(view: DepthView) -> Tensor:
    points, _ = back_project(view.depth, view.intrinsics, view.camera_to_world)
    return points[:: _PIXEL_STEP * _PIXEL_STEP].double()


def tiles(view: DepthView, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the nearest point and the range of depth in each tile of an image.

    Args:
        view: the frame.
        points: (N, 3) float64, metres.

    Returns:
        nearest: (T,) float64, metres: distance of the nearest point; infinite without.
        low: (T,) float64, metres: smallest depth; infinite where half of it is unknown.
        high: (T,) float64, metres: largest depth.
    """
    height, width = view.depth.shape
    seen = points_in_view(points, view.camera_to_world, view.intrinsics, (height, width))
    side = _tile_side(height, width, len(seen.depth))
    columns, rows = -(-width // side), -(-height // side)
    padded = functional.pad(
        view.depth.double(), (0, columns * side - width, 0, rows * side - height)
    )
    tiled = padded.view(rows, side, columns, side).permute(0, 2, 1, 3).reshape(rows * columns, -1)
    valid = tiled > 0
    low = torch.where(valid, tiled, torch.inf).amin(dim=1)
    high = tiled.amax(dim=1)
    low[valid.double().mean(dim=1) < _MIN_VALID] = torch.inf

    tile = seen.pixels // side
    nearest = torch.full((rows * columns,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, tile[:, 1] * columns + tile[:, 0], seen.depth, "amin")
    return nearest, low, high


class PointsInView(NamedTuple):
    """The n of N points that lie before a camera and inside of its image."""

    inside: Tensor
    """(N,) bool, which they are."""
    pixels: Tensor
    """(n, 2) int64, (u, v) = (column, row)."""
    depth: Tensor
    """(n,) float, metres along the optical axis."""


def points_in_view(
    points: Tensor, camera_to_world: Tensor, intrinsics: Tensor, image_size: tuple[int, int]
) -> PointsInView:
    """Find the points of a cloud that a camera has in view, hidden or not.

    Args:
        points: (N, 3) float64, metres.
        camera_to_world: (4, 4) float64, metres.
        intrinsics: (3, 3) float64, pixels.
        image_size: (H, W), pixels.
    """
    height, width = image_size
    pixels, depth = project_to_pixels(points, invert_pose(camera_to_world), intrinsics)
    inside = (depth > 0) & (pixels >= -0.5).all(dim=1)
    inside &= (pixels[:, 0] < width - 0.5) & (pixels[:, 1] < height - 0.5)
    return PointsInView(inside, pixels[inside].round().long(), depth[inside])


def _tile_side(height: int, width: int, points: int) -> int:
    """Pixels along a tile: small, but wide enough for some points in each."""
    area = height * width
    wanted = max(math.sqrt(area) / _TILES, math.sqrt(_POINTS_PER_TILE * area / max(points, 1)))
    return max(1, round(min(wanted, min(height, width) * _MAX_TILE)))
