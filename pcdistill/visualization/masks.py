"""Pictures of an image with a heat map or a mask in it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import require_shape
from pcdistill.visualization.colormaps import colorize_scores
from pcdistill.visualization.overlay import DIMMED

_HEAT_SHARE = 0.65
"""Of the colours of the heat map; the rest is the image in grey."""


def draw_heat(image: Tensor, heat: Tensor) -> Tensor:
    """Lay a heat map over an image.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) floating in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: shapes differ from the above.
    """
    require_shape("image", image, None, None, 3)
    require_shape("heat", heat, *image.shape[:2])
    colors = colorize_scores(heat.flatten(), low=0.0, high=1.0).view(image.shape)
    gray = image.float().mean(dim=2, keepdim=True)
    return (_HEAT_SHARE * colors.float() + (1 - _HEAT_SHARE) * gray).round().to(torch.uint8)


def draw_mask(image: Tensor, mask: Tensor) -> Tensor:
    """Darken an image, and take its colours away, outside of a mask.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: shapes differ from the above.
    """
    require_shape("image", image, None, None, 3)
    require_shape("mask", mask, *image.shape[:2])
    gray = image.float().mean(dim=2, keepdim=True).expand(image.shape)
    return torch.where(mask[..., None], image, (DIMMED * gray).to(torch.uint8))


def fit_width(image: Tensor, width: int) -> Tensor:
    """Shrink an (H, W, 3) uint8 picture to at most `width` pixels across; it is never enlarged."""
    require_shape("image", image, None, None, 3)
    if image.shape[1] <= width:
        return image
    size = (max(1, round(image.shape[0] * width / image.shape[1])), width)
    planes = image.permute(2, 0, 1)[None].float()
    shrunk = functional.interpolate(planes, size, mode="bilinear", antialias=True)
    return shrunk[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
