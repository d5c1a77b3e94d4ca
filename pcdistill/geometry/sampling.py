"""Sampling of low-resolution feature maps at single pixels, without upsampling them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry.checks import require_shape

_STRIP_ELEMENTS = {False: 1 << 19, True: 1 << 26}
"""Float32 numbers of a map that are widened at a time, on the CPU and on CUDA: 2 and 256 MiB."""


def sample_feature_map(
    feature_map: Tensor,
    image_size: tuple[int, int],
    pixels: Tensor,
    *,
    align_corners: bool = False,
    covered: tuple[float, float] | None = None,
) -> Tensor:
    """Features at integer pixels of an image, from a map of lower (or any other) resolution.

    Equals resizing the map bilinearly to (D, H, W) and indexing it at the pixels, but touches
    only the four map cells around each pixel: memory is M x D, never H x W x D.

    Args:
        feature_map: (D, h, w) float.
        image_size: (H, W) of the image that the map describes.
        pixels: (M, 2) integer, (column, row), inside the image.
        align_corners: as in `torch.nn.functional.interpolate`.
        covered: (H, W) pixels, not always whole, that the map spans from the top left corner, where
            these are not the image's. Pixels beyond the last cell get what that holds.

    Returns:
        (M, D) float32.

    Raises:
        ValueError: wrong shape, an empty map, pixels that are not integers or outside the image.
    """
    parts = list(
        iter_feature_samples(
            feature_map, image_size, pixels, align_corners=align_corners, covered=covered
        )
    )
    if not parts:
        return feature_map.new_zeros((0, feature_map.shape[0]), dtype=torch.float32)
    if len(parts) == 1:
        return parts[0][1][parts[0][0].argsort()]
    order = torch.cat([index for index, _ in parts]).argsort()
    return torch.cat([samples for _, samples in parts])[order]


def iter_feature_samples(
    feature_map: Tensor,
    image_size: tuple[int, int],
    pixels: Tensor,
    *,
    align_corners: bool = False,
    covered: tuple[float, float] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample a feature map some rows at a time, so that little is held at once.

    Args:
        feature_map: as `sample_feature_map`, whose errors are the same.
        image_size: as there.
        pixels: as there.
        align_corners: as there.
        covered: as there.

    Yields:
        index: (m,) int64, rows of `pixels`; every row comes once.
        samples: (m, D) float32, the features there.
    """
    require_shape("feature_map", feature_map, None, None, None)
    require_shape("pixels", pixels, None, 2)
    height, width = image_size
    channels, map_height, map_width = feature_map.shape
    if map_height < 1 or map_width < 1:
        raise ValueError(f"feature_map has shape {tuple(feature_map.shape)}, expected h, w >= 1")
    if pixels.is_floating_point() or pixels.is_complex():
        raise ValueError(f"pixels have dtype {pixels.dtype}, expected integers (column, row)")
    if len(pixels) == 0:
        return
    columns, rows = pixels.to(feature_map.device).unbind(1)
    for name, position, size in (("column", columns, width), ("row", rows, height)):
        low, high = (int(value) for value in position.aminmax())
        if low < 0 or high >= size:
            raise ValueError(
                f"pixels have a {name} range [{low}, {high}], expected inside [0, {size - 1}]"
            )
    budget = _STRIP_ELEMENTS[feature_map.device.type == "cuda"]
    strip_height = max(1, budget // max(1, map_width * channels))
    spanned_height, spanned_width = covered or image_size
    top, bottom, bottom_share = _cells(rows, map_height, spanned_height, align_corners)
    left, right, right_share = _cells(columns, map_width, spanned_width, align_corners)
    strip = top // strip_height
    order = strip.argsort(stable=True)
    first = 0
    for number, count in enumerate(torch.bincount(strip).tolist()):
        index = order[first : first + count]
        first += count
        for chosen in torch.split(index, max(1, budget // max(1, channels))):
            begin = number * strip_height
            rows_of_map = feature_map[:, begin : begin + strip_height + 1]
            yield (
                chosen,
                _mix(
                    rows_of_map.float().flatten(1).T.contiguous(),  # (cells, D)
                    (top[chosen] - begin) * map_width,
                    (bottom[chosen] - begin) * map_width,
                    (left[chosen], right[chosen]),
                    (bottom_share[chosen], right_share[chosen]),
                ),
            )


def _mix(
    table: Tensor,
    top_row: Tensor,
    bottom_row: Tensor,
    columns: tuple[Tensor, Tensor],
    shares: tuple[Tensor, Tensor],
) -> Tensor:
    """(M, D): four rows of a table (cells, D) for each point, weighted bilinearly."""
    (left, right), (bottom_share, right_share) = columns, shares
    cells = torch.stack(
        [top_row + left, top_row + right, bottom_row + left, bottom_row + right], dim=1
    )
    left_share, top_share = 1 - right_share, 1 - bottom_share
    weights = torch.stack(
        [
            top_share * left_share,
            top_share * right_share,
            bottom_share * left_share,
            bottom_share * right_share,
        ],
        dim=1,
    )
    return functional.embedding_bag(cells, table, mode="sum", per_sample_weights=weights)


def _cells(
    position: Tensor, map_size: int, spanned: float, align_corners: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The two map cells around each pixel along one axis, and the share of the second."""
    if align_corners:
        scale = (map_size - 1) / (spanned - 1) if spanned > 1 else 0.0
        source = position.float() * scale
    else:
        source = ((position.float() + 0.5) * (map_size / spanned) - 0.5).clamp_(min=0)
    first = source.long().clamp_(max=map_size - 1)
    second = (first + 1).clamp_(max=map_size - 1)
    return first, second, source - first
