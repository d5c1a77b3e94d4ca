"""Image resampling: nearest pixel, linear interpolation, means of areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Resampling = Literal["nearest", "nearest-opencv", "linear", "area", "antialias"]


def resize(pixels: Tensor, image_size: tuple[int, int], resampling: Resampling) -> Tensor:
    """Sample an image at another size; its borders stay on its borders.

    Args:
        pixels: (h, w) or (h, w, channels), uint8; float32 as well, but for the last two rules.
        image_size: (H, W) wanted.
        resampling: what a new pixel is made of:

            * `nearest`: the pixel at floor(index * h / H);
            * `nearest-opencv`: the same in the rounded arithmetic of OpenCV's resize, in which a
              whole number may come out as the one below it;
            * `linear`: the four pixels around its place, weighed as OpenCV's resize does;
            * `area`: the mean of the pixels it covers or, where the image grows, the four around
              its place; halves are rounded up. At half the size this is `linear` as well;
            * `antialias`: all pixels that it covers or touches, the nearer the more.

    Returns:
        (H, W) or (H, W, channels), dtype as given; integers are rounded.
    """
    height, width = pixels.shape[:2]
    if (height, width) == image_size:
        return pixels
    if resampling == "nearest" or resampling == "nearest-opencv":
        places = _nearest_opencv if resampling == "nearest-opencv" else _nearest
        return pixels[places(height, image_size[0])][:, places(width, image_size[1])]
    if resampling == "linear":
        return _resize_linear(pixels, image_size)
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    resized = torch.empty((*image_size, planes.shape[2]), dtype=pixels.dtype)
    for channel in range(planes.shape[2]):  # floats take four times the memory
        plane = planes[None, None, :, :, channel].float()
        resized[..., channel] = _WEIGHED[resampling](plane, image_size)[0, 0].to(pixels.dtype)
    return resized if pixels.ndim == 3 else resized[..., 0]


def _nearest(before: int, after: int) -> Tensor:
    """(after,) int64: the old index of each new row or column."""
    return torch.arange(after) * before // after


def _nearest_opencv(before: int, after: int) -> Tensor:
    """(after,) int64: the old index of each new row or column, in OpenCV's arithmetic."""
    step = 1.0 / (after / before)
    return (torch.arange(after, dtype=torch.float64) * step).floor().long().clamp(max=before - 1)


def _resize_linear(pixels: Tensor, image_size: tuple[int, int]) -> Tensor:
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    resized = (
        functional.interpolate(  # in double: halves stay halves, and are rounded like OpenCV's
            planes.permute(2, 0, 1)[None].double(),
            size=image_size,
            mode="bilinear",
            align_corners=False,
        )[0].permute(1, 2, 0)
    )
    if not pixels.dtype.is_floating_point:
        resized = resized.round()
    resized = resized.to(pixels.dtype).contiguous()
    return resized if pixels.ndim == 3 else resized[..., 0]


def _mean_of_area(plane: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(1, 1, H, W) float32, whole numbers from 0 to 255."""
    if image_size[0] <= plane.shape[2] and image_size[1] <= plane.shape[3]:
        resized = functional.interpolate(plane, size=image_size, mode="area")
    else:
        resized = functional.interpolate(
            plane, size=image_size, mode="bilinear", align_corners=False
        )
    return (resized + 0.5).floor().clamp(0, 255)


def _antialiased(plane: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(1, 1, H, W) float32, whole numbers from 0 to 255."""
    resized = functional.interpolate(plane, size=image_size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255)


_WEIGHED: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "area": _mean_of_area,
    "antialias": _antialiased,
}
