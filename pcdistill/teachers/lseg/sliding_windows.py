"""Evaluation of a dense network at several scales, in sliding windows and mirrored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

PADDING = -1.0
"""Of an input in [-1, 1]: black."""

DenseNetwork = Callable[[Tensor], Tensor]
"""(1, D, h, w) of (1, 3, H, W); h and w are those of the input or a fraction of them."""


class WindowSettings(NamedTuple):
    """How an image is cut into inputs of the network."""

    base_size: int
    """Pixels of the image's longer side at scale 1."""
    crop_size: int
    """Pixels along a side of the square that the network sees at once."""
    scales: tuple[float, ...]
    flip: bool = True
    """Whether the mirrored image is seen as well."""


def resized_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(H, W) of an image when its longer side is resized to `long_side`, as the authors round."""
    height, width = size
    if height > width:
        return long_side, int(width * long_side / height + 0.5)
    return int(height * long_side / width + 0.5), long_side


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly with aligned corners, as all of the official evaluation."""
    return functional.interpolate(images, size, mode="bilinear", align_corners=True)


def pad_to_square(images: Tensor, side: int) -> Tensor:
    """Pad (B, 3, H, W) at the bottom and the right with black up to `side` pixels."""
    bottom, right = (max(0, side - length) for length in images.shape[2:])
    return functional.pad(images, (0, right, 0, bottom), value=PADDING)


def add_mirrored(network: DenseNetwork, images: Tensor) -> Tensor:
    """(1, D, h, w): answer for (1, 3, H, W), plus the one for the mirrored image mirrored back."""
    return network(images) + network(images.flip(3)).flip(3)


def level_sizes(size: tuple[int, int], settings: WindowSettings) -> list[tuple[int, int]]:
    """(H, W) to which an image is resized at every scale."""
    return [resized_size(size, math.ceil(settings.base_size * one)) for one in settings.scales]


def evaluate_levels(
    network: DenseNetwork, image: Tensor, settings: WindowSettings
) -> Iterator[Tensor]:
    """Answers at every scale, (1, D, h, w) of the size of the image at that scale.

    Source: the multi-scale evaluation of isl-org/lang-seg (after PyTorch-Encoding), with sums over
    an image and its mirror image. Windows overlap by a third and are averaged; the last ones are
    padded, not moved.

    Args:
        network: answers at the resolution of its input.
        image: (1, 3, H, W) in [-1, 1].
        settings: how it is cut.
    """
    for size in level_sizes((image.shape[2], image.shape[3]), settings):
        padded = pad_to_square(resize(image, size), settings.crop_size)
        yield _average_windows(network, padded, settings)[:, :, : size[0], : size[1]]


def _average_windows(network: DenseNetwork, image: Tensor, settings: WindowSettings) -> Tensor:
    """(1, D, H, W): mean of the windows that see a pixel of (1, 3, H, W)."""
    side = settings.crop_size
    height, width = image.shape[2:]
    total: Tensor | None = None
    count = image.new_zeros(1, 1, height, width)
    for top in _window_starts(height, side):
        for left in _window_starts(width, side):
            window = image[:, :, top : top + side, left : left + side]
            rows, columns = window.shape[2:]
            padded = pad_to_square(window, side)
            answer = add_mirrored(network, padded) if settings.flip else network(padded)
            if total is None:
                total = answer.new_zeros(1, answer.shape[1], height, width)
            total[:, :, top : top + rows, left : left + columns] += answer[:, :, :rows, :columns]
            count[:, :, top : top + rows, left : left + columns] += 1
            del answer
    if total is None:
        raise ValueError(f"an image of {width}x{height} pixels has no window")
    return total.div_(count)


def _window_starts(length: int, side: int) -> range:
    """First pixels of the windows of `side` pixels along one axis."""
    step = int(side * (2 / 3))
    return range(0, step * math.ceil((length - side) / step) + 1, step)


def sum_levels(levels: Iterable[Tensor], size: tuple[int, int]) -> Tensor:
    """(1, D, H, W): sum of the answers at all scales, each resized to the (H, W) of the image.

    Raises:
        ValueError: there is no level.
    """
    total: Tensor | None = None
    for level in levels:
        resized = resize(level, size)
        total = resized if total is None else total.add_(resized)
    if total is None:
        raise ValueError("there is no scale to sum over")
    return total
