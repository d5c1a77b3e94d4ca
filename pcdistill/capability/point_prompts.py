"""Prompt points for a segmenter, spread over a coarse mask."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pcdistill.capability.masks import check_mask
from pcdistill.geometry import chamfer_distance_transform

PromptMode = Literal["release", "inside"]


def prompt_points(mask: Tensor, count: int = 3, *, mode: PromptMode = "release") -> Tensor:
    """Spread points over a coarse mask, each as far from its rim as can be.

    The largest 8-connected components share the points: with three points, one component gets all
    three, two get two and one, three or more get one each. Within a component the pixel farthest
    from the outside comes first (5 x 5 chamfer distance; of equally far pixels the first in
    row-major order); it then counts as outside, and the next one is sought.

    `mode="release"` reproduces the published code to the pixel, including what it does in three
    corners: with two or more components the background is ranked among them by area, so a
    component larger than the background makes the background a place to point at; of components
    of equal area the first is taken each time; and when a component has fewer pixels than points,
    the image's first pixel is taken. `mode="inside"` does what the rules mean: every point lies in
    the mask, components of equal area take turns, and a component that has run out of pixels
    repeats its first point. The two agree everywhere else.

    Args:
        mask: (H, W) bool.
        count: how many points.
        mode: "release" or "inside".

    Returns:
        (count, 2) int64, (x, y) = (column, row), on the mask's device.

    Raises:
        ValueError: an empty mask (in which the release fails, too), another shape or dtype, a
            count below 1, or an unknown mode.

    Source: SAS 3.2 ("we sample several points within the coarse mask"); the rule is the release's.
    """
    check_mask("mask", mask)
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    if mode not in ("release", "inside"):
        raise ValueError(f"mode is '{mode}', expected 'release' or 'inside'")
    labels, components = ndimage.label(mask.cpu().numpy(), structure=np.ones((3, 3), dtype=int))
    if components == 0:
        raise ValueError(
            "mask is empty, expected at least one pixel; lower the threshold of the soft map or "
            "leave this image out"
        )
    areas = np.bincount(labels.ravel(), minlength=components + 1)
    ranked = _ranked_as_released(areas) if mode == "release" else _ranked(areas)
    points: list[tuple[int, int]] = []
    for rank, label in enumerate(ranked[:count]):
        fraction = count // len(ranked) + (rank < count % len(ranked))
        points += _farthest_points(labels == label, fraction, repeat=mode == "inside")
    return torch.tensor(points, dtype=torch.int64, device=mask.device)


def _ranked(areas: NDArray[np.int64]) -> list[int]:
    """Component labels (1 and up), largest first, equal ones in the order of their labels."""
    return [int(label) + 1 for label in np.argsort(-areas[1:], kind="stable")]


def _ranked_as_released(areas: NDArray[np.int64]) -> list[int]:
    """The labels that the release finds by looking areas up again, background (0) included."""
    if len(areas) == 2:
        return [1]
    ordered = np.sort(areas)[::-1]
    return [int(np.flatnonzero(areas == area)[0]) for area in ordered[1:]]


def _farthest_points(
    component: NDArray[np.bool_], count: int, repeat: bool
) -> list[tuple[int, int]]:
    """The `count` pixels (x, y) that are in turn farthest from the outside of one component."""
    left = component.copy()
    points: list[tuple[int, int]] = []
    for _ in range(count):
        if repeat and points and not left.any():
            points.append(points[0])
            continue
        row, column = divmod(int(chamfer_distance_transform(left).argmax()), left.shape[1])
        left[row, column] = False
        points.append((column, row))
    return points
