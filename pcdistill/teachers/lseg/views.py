"""Ways of LSeg to look at an image: one input, a padded square, or windows at several scales."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.base import FeatureMap
from pcdistill.teachers.lseg.network import MULTIPLE, STRIDE, LSegNetwork
from pcdistill.teachers.lseg.sliding_windows import (
    WindowSettings,
    add_mirrored,
    evaluate_levels,
    pad_to_square,
    resize,
    resized_size,
    sum_levels,
)

FAST_SIDE = 480
"""Pixels of the longer side in one input: the size that LSeg was trained at."""
PAPER_SIDE = 640
"""Pixels of the padded square in SAS."""
DFF_SETTINGS = WindowSettings(520, 480, (0.75, 1.0, 1.25, 1.75))
"""Of distilled-feature-fields, with which neural fields were trained on LSeg."""
DFF_SIDE = 480
"""Pixels to which the longer side of an image is shrunk there; the map is as large."""


def view_whole(network: LSegNetwork, image: Tensor) -> FeatureMap:
    """Run once on the whole image, without padding or mirror image: the fast way.

    Args:
        network: of LSeg.
        image: (1, 3, H, W) in [-1, 1].

    Returns:
        Unit features at half the resolution of an input whose longer side has 480 pixels, or twice
        that of a small image. The sides are rounded to multiples of 32, so the aspect ratio changes
        by a few percent.
    """
    size = (image.shape[2], image.shape[3])
    longer = min(FAST_SIDE, STRIDE * max(size))
    height, width = (
        min(_multiple(side + MULTIPLE // 2), _multiple(STRIDE * whole))
        for side, whole in zip(resized_size(size, longer), size, strict=True)
    )
    found = network(_resize_whole(image, (height, width)))[0]
    return FeatureMap(found.half(), size, align_corners=True)


def view_square(network: LSegNetwork, image: Tensor, side: int | None = PAPER_SIDE) -> FeatureMap:
    """Run on the image padded to a square, and on its mirror image: the way of SAS and OpenScene.

    Their code crops the map to the first H rows and W columns of the image, whatever its size is.
    That is right where the square is twice as long as the image (320x240 in 640x640); of 640x480
    the map would be 320x320, with rows of padding, and no longer fit the image. Here a map tells
    how far it reaches, and is sampled by position in the image. For 320x240 both agree to 0.13
    rows: the height is resized with aligned corners, 240 -> 480, and read back at half of 640.

    Args:
        network: of LSeg.
        image: (1, 3, H, W) in [-1, 1].
        side: pixels of the square; None: twice the longer side, as OpenScene chose for every data
            set. It is never larger than that, and a multiple of 32.

    Returns:
        Mean of the unit features of the two, half the official sum and as there of a length
        below 1 where they differ, at half the resolution of the square. Cells in the padding are
        left out.
    """
    size = (image.shape[2], image.shape[3])
    twice = STRIDE * max(size)
    side = _multiple(twice if side is None else min(side, twice))
    inner = resized_size(size, side)
    square = pad_to_square(resize(image, inner), side)
    found = add_mirrored(network, square)[0] / 2
    cells = found.shape[1]
    steps = [  # cells of the map for a pixel of the image, corners aligned twice
        (cells - 1) / (side - 1) * max(1, resized - 1) / max(1, whole - 1)
        for resized, whole in zip(inner, size, strict=True)
    ]
    rows, columns = (int(step * (whole - 1)) + 1 for step, whole in zip(steps, size, strict=True))
    return FeatureMap(
        found[:, :rows, :columns].half(),
        size,
        align_corners=True,
        covered=(1 + (rows - 1) / steps[0], 1 + (columns - 1) / steps[1]),
    )


def view_windows(network: LSegNetwork, image: Tensor) -> FeatureMap:
    """Run in windows at four scales, mirrored too: the way of distilled-feature-fields.

    Their code squeezes every image into 320x240 or 480x360; here it keeps its aspect ratio, and the
    longer side has at most 480 pixels.

    Args:
        network: of LSeg.
        image: (1, 3, H, W) in [-1, 1].

    Returns:
        Unit features at the resolution of the shrunk image.
    """
    size = (image.shape[2], image.shape[3])
    small = size if max(size) <= DFF_SIDE else resized_size(size, DFF_SIDE)
    levels = evaluate_levels(partial(_full_features, network), resize(image, small), DFF_SETTINGS)
    total = sum_levels(levels, small)
    return FeatureMap(functional.normalize(total[0], dim=0).half(), size)


def _multiple(length: int) -> int:
    """Largest multiple of 32 that is no larger than a length, at least 32."""
    return max(MULTIPLE, length // MULTIPLE * MULTIPLE)


def _full_features(network: LSegNetwork, image: Tensor) -> Tensor:
    """(1, 512, H, W) unit features at the resolution of the input, upsampled before the norm."""
    raw = network.raw_features(image)
    return functional.normalize(resize(raw, (image.shape[2], image.shape[3])), dim=1)


def _resize_whole(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (1, 3, H, W), averaging where it gets smaller."""
    if size[0] * size[1] >= image.shape[2] * image.shape[3]:
        return resize(image, size)
    return functional.interpolate(image, size, mode="bilinear", antialias=True)


LSEG_VIEWS: dict[str, Callable[[LSegNetwork, Tensor], FeatureMap]] = {
    "lseg": view_square,
    "lseg-openscene": partial(view_square, side=None),
    "lseg-multiscale": view_windows,
    "lseg-fast": view_whole,
}
"""Every way by the name of the teacher that uses it."""
