"""Color names in plain English, for captions."""

from __future__ import annotations

import torch
from torch import Tensor

NAMED_COLORS: dict[str, tuple[int, int, int]] = {
    "white": (235, 235, 232),
    "grey": (140, 140, 140),
    "black": (35, 35, 38),
    "red": (180, 45, 45),
    "orange": (215, 125, 50),
    "yellow": (220, 195, 90),
    "green": (80, 135, 75),
    "blue": (65, 95, 165),
    "purple": (120, 75, 140),
    "pink": (215, 150, 165),
    "brown": (115, 75, 45),
    "beige": (205, 185, 155),
}
"""Name -> typical (red, green, blue) of an indoor surface of that colour."""


def color_name(rgb: Tensor) -> str:
    """Name of the nearest colour to `rgb` (3,) float in [0, 255]."""
    names = list(NAMED_COLORS)
    table = torch.tensor([NAMED_COLORS[name] for name in names], dtype=torch.float32)
    return names[int((table - rgb.float()).square().sum(dim=1).argmin())]


def main_color(pixels: Tensor) -> str | None:
    """Name of the colour of most of `pixels` (3, n) uint8; None where no single one covers half."""
    names = list(NAMED_COLORS)
    table = torch.tensor([NAMED_COLORS[name] for name in names], dtype=torch.float32)
    some = pixels[:, :: max(1, pixels.shape[1] // 2000)].float().T
    nearest = torch.cdist(some, table).argmin(dim=1)
    counts = torch.bincount(nearest, minlength=len(names))
    best = int(counts.argmax())
    return names[best] if 2 * int(counts[best]) > len(some) else None
