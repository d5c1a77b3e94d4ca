"""Overlay of projected points on a photograph, to judge poses and occlusion by eye."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry import require_shape

DIMMED = 0.45
"""Brightness of the photograph under the points."""


def overlay_points(image: Tensor, pixels: Tensor, colors: Tensor, *, radius: int = 1) -> Tensor:
    """Draw points as small squares over a darkened image.

    Args:
        image: (H, W, 3) uint8.
        pixels: (M, 2) int64, (u, v) = (column, row), inside the image.
        colors: (M, 3) uint8.
        radius: pixels; a square has 2 radius + 1 of them along its side.

    Returns:
        (H, W, 3) uint8; where points meet, the later one is seen.

    Raises:
        ValueError: shapes differ from the above.
    """
    require_shape("image", image, None, None, 3)
    require_shape("pixels", pixels, None, 2)
    require_shape("colors", colors, pixels.shape[0], 3)
    height, width = image.shape[:2]
    last = torch.full((height * width,), -1, dtype=torch.int64)  # point seen at each pixel
    order = torch.arange(len(pixels))
    steps = range(-radius, radius + 1)
    for right in steps:
        for down in steps:
            column = (pixels[:, 0] + right).clamp(0, width - 1)
            row = (pixels[:, 1] + down).clamp(0, height - 1)
            last.scatter_reduce_(0, row * width + column, order, "amax")
    dimmed = (image.float() * DIMMED).to(torch.uint8)
    if len(pixels) == 0:
        return dimmed
    last = last.view(height, width, 1)
    return torch.where(last >= 0, colors[last[..., 0].clamp(min=0)], dimmed)
