"""Region adjacency graph of an image cut into a few hundred superpixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import watershed

Array = NDArray[Any]

_LIGHTNESS = 0.7
"""Weight of lightness against the two colour axes of Lab: shading changes it most."""
_TEXTURE = 0.7
"""Weight of the standard deviation inside a region against its mean colour."""
_SEARCH = 3
"""Pixels that a marker may move from its place on the grid to a flatter one."""


class RegionGraph(NamedTuple):
    """R regions of an image, and the E pairs of them that touch."""

    region_of_pixel: Array
    """(H, W) int64 in [0, R)."""
    areas: Array
    """(R,) float64, pixels."""
    appearance: Array
    """(R, 4) float64: weighted Lab mean and spread; distances are in units of Lab."""
    first: Array
    """(E,) int64, one region of each pair."""
    second: Array
    """(E,) int64, the other."""
    lengths: Array
    """(E,) float64, pixels that the two share as a border."""
    steps: Array
    """(E,) float64, how different they are: colour step plus edge strength, in units of Lab."""


def region_graph(image: Array, regions: int, edges: Array | None = None) -> RegionGraph:
    """Cut an image into about `regions` regions by a watershed of its colour gradient.

    Args:
        image: (H, W, 3) uint8 sRGB.
        regions: how many markers to spread; small images get fewer.
        edges: (H, W) float, >= 0, further edges that are added to the gradient, in units of Lab
            per pixel; None where there are none.

    Source: Meyer, Topographic distance and watershed lines, Signal Processing 38 (1994).
    """
    lab = rgb2lab(image)
    smooth = np.stack([ndimage.gaussian_filter(lab[..., c], 1.0) for c in range(3)], axis=-1)
    slopes = [ndimage.sobel(smooth[..., c], axis) / 8 for c in range(3) for axis in (0, 1)]
    gradient = np.sqrt(sum(slope**2 for slope in slopes))
    if edges is not None:
        gradient = gradient + edges
    flooded: Array = watershed(gradient, _markers(gradient, regions))  # type: ignore[no-untyped-call, unused-ignore]
    region_of_pixel = flooded.astype(np.int64) - 1
    areas, means, spread = _statistics(region_of_pixel, smooth)
    appearance = np.column_stack(
        [_LIGHTNESS * means[:, 0], means[:, 1], means[:, 2], _TEXTURE * spread]
    )
    first, second, lengths, edges = _borders(region_of_pixel, gradient, len(areas))
    steps = np.linalg.norm(appearance[first, :3] - appearance[second, :3], axis=1) + edges
    return RegionGraph(region_of_pixel, areas, appearance, first, second, lengths, steps)


def _markers(gradient: Array, regions: int) -> Array:
    """(H, W) int32: numbers from 1 at the flattest pixels near the nodes of a square grid."""
    height, width = gradient.shape
    spacing = max(np.sqrt(height * width / regions), 2.0)
    markers = np.zeros((height, width), dtype=np.int32)
    number = 0
    for row in np.arange(spacing / 2, height, spacing).astype(int):
        for column in np.arange(spacing / 2, width, spacing).astype(int):
            top, left = max(0, row - _SEARCH), max(0, column - _SEARCH)
            window = gradient[top : row + _SEARCH + 1, left : column + _SEARCH + 1]
            down, right = divmod(int(window.argmin()), window.shape[1])
            if markers[top + down, left + right] == 0:
                number += 1
                markers[top + down, left + right] = number
    if number == 0:  # an image of a single pixel
        markers[0, 0] = 1
    return markers


def _statistics(region_of_pixel: Array, smooth: Array) -> tuple[Array, Array, Array]:
    """Area (R,), mean colour (R, 3) and standard deviation over all channels (R,) per region."""
    flat, pixels = region_of_pixel.ravel(), smooth.reshape(-1, 3)
    areas = np.bincount(flat).astype(np.float64)
    means = np.column_stack([np.bincount(flat, pixels[:, c]) for c in range(3)]) / areas[:, None]
    squares = np.bincount(flat, ((pixels - means[flat]) ** 2).sum(axis=1)) / areas
    return areas, means, np.sqrt(squares)


def _borders(
    region_of_pixel: Array, gradient: Array, regions: int
) -> tuple[Array, Array, Array, Array]:
    """Pairs of touching regions with the length of their border and the mean gradient along it."""
    codes, slopes = [], []
    for here, there in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        a, b = region_of_pixel[here], region_of_pixel[there]
        border = a != b
        low, high = np.minimum(a[border], b[border]), np.maximum(a[border], b[border])
        codes.append(low * regions + high)
        slopes.append(np.maximum(gradient[here], gradient[there])[border])
    pairs, pair_of_border = np.unique(np.concatenate(codes), return_inverse=True)
    lengths = np.bincount(pair_of_border, minlength=len(pairs)).astype(np.float64)
    edges = np.bincount(pair_of_border, np.concatenate(slopes), minlength=len(pairs))
    return pairs // regions, pairs % regions, lengths, edges / np.maximum(lengths, 1)
