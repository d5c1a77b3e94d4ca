"""Binary masks: thresholding, clean-up, IoU."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry import require_finite, require_shape

_REFERENCE_SIDE = 512
"""Side in pixels of the images for which the release's distances are given."""


def binarize_attention(soft: Tensor, threshold: float = 0.7) -> Tensor:
    """Pixels (H, W) bool where `soft` (H, W), in [0, 1], is above the release's threshold.

    Raises:
        ValueError: not two-dimensional, not finite, or a threshold outside [0, 1).
    """
    require_shape("soft", soft, None, None)
    require_finite("soft", soft)
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected 0 <= threshold < 1")
    return soft > threshold


def clean_mask(mask: Tensor, border: int | None = None, minimum: int = 10) -> Tensor:
    """Drop what touches the rim of the image, where attention is often high for no reason.

    The rim is cleared; if fewer than `minimum` pixels remain, four blocks of 2 x 2 pixels near the
    centre are set, because that is where a generated object usually is. In an image of 512 x 512
    pixels this is the release's clean-up; in other sizes the rim is the same fraction, 70 / 512,
    of each side, and so are the positions of the blocks.

    Args:
        mask: (H, W) bool.
        border: width of the rim in pixels; None means 70 / 512 of each side.
        minimum: pixels below which a mask is as good as empty.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: not (H, W) bool, or a negative border or minimum.

    Source: SAS release, mask refinement.
    """
    check_mask("mask", mask)
    if (border is not None and border < 0) or minimum < 0:
        raise ValueError(f"border is {border} and minimum is {minimum}, expected both >= 0")
    height, width = mask.shape
    rows, columns = (
        border if border is not None else round(side * 70 / _REFERENCE_SIDE)
        for side in (height, width)
    )
    cleaned = torch.zeros_like(mask)
    inside = (slice(rows, max(rows, height - rows)), slice(columns, max(columns, width - columns)))
    cleaned[inside] = mask[inside]
    if int(cleaned.sum()) < minimum:
        for row in (240, 270):
            for column in (240, 270):
                top = row * height // _REFERENCE_SIDE
                left = column * width // _REFERENCE_SIDE
                cleaned[top : top + 2, left : left + 2] = True
    return cleaned


def mask_iou(predicted: Tensor, reference: Tensor) -> Tensor:
    """Intersection over union of masks.

    Two empty masks have IoU 0: nothing was shown and nothing found, which is no sign of skill.

    Args:
        predicted: (..., H, W) bool.
        reference: (..., H, W) bool, the same shape.

    Returns:
        (...,) float64 in [0, 1].

    Raises:
        ValueError: other dtypes or shapes.

    Source: SAS, Eq. 3-4 (one image).
    """
    intersection, union = intersection_and_union(predicted, reference)
    return intersection.double() / union.clamp(min=1).double()


def intersection_and_union(predicted: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (...,) int64 in both and in either of two stacks of masks (..., H, W) bool.

    Raises:
        ValueError: other dtypes or shapes.
    """
    for name, masks in (("predicted", predicted), ("reference", reference)):
        if masks.dtype != torch.bool or masks.ndim < 2:
            raise ValueError(
                f"{name} is {masks.dtype} of shape {tuple(masks.shape)}, expected bool (..., H, W)"
            )
    if predicted.shape != reference.shape:
        raise ValueError(
            f"predicted has shape {tuple(predicted.shape)} but reference has "
            f"{tuple(reference.shape)}, expected the same"
        )
    return (predicted & reference).sum(dim=(-2, -1)), (predicted | reference).sum(dim=(-2, -1))


def check_mask(name: str, mask: Tensor) -> None:
    """Check that an argument is one mask.

    Raises:
        ValueError: not two-dimensional or not bool.
    """
    require_shape(name, mask, None, None)
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} is {mask.dtype}, expected bool")
