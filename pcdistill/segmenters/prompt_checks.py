"""Check of an image and of the points that a segmenter is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry import require_shape


def check_point_prompts(image: Tensor, points: Tensor) -> None:
    """Check that points lie in an image.

    Args:
        image: (3, H, W) uint8 RGB.
        points: (P, 2) integers, (x, y) = (column, row), P >= 1.

    Raises:
        ValueError: other shapes or dtypes, no point, or a point outside the image.
    """
    require_shape("image", image, 3, None, None)
    require_shape("points", points, None, 2)
    if image.dtype != torch.uint8:
        raise ValueError(f"image is {image.dtype}, expected uint8")
    if len(points) == 0:
        raise ValueError("points is empty, expected at least one point on the object")
    height, width = int(image.shape[1]), int(image.shape[2])
    lowest, highest = (edge.cpu() for edge in (points.amin(dim=0), points.amax(dim=0)))
    if bool((lowest < 0).any()) or bool((highest >= torch.tensor([width, height])).any()):
        raise ValueError(
            f"points range from {lowest.tolist()} to {highest.tolist()}, expected (x, y) inside "
            f"the image of {width} x {height} pixels"
        )
