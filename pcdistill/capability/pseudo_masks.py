"""Pseudo masks: where in a generated image its class is, or why that is not known."""

from __future__ import annotations

from enum import Enum

from torch import Tensor

from pcdistill.capability.interfaces import GeneratedImage, Segmenter
from pcdistill.capability.masks import binarize_attention, clean_mask
from pcdistill.capability.point_prompts import prompt_points

_NEARLY_ALL = 0.95
"""Share of the image from which a mask says that everything is the object."""
_HALF = 0.5
"""Share of the coarse mask that a mask has to hold, and of the image that a coarse mask has to fill
before a mask of everything is believed."""


class NoMask(Enum):
    """Why a generated image has no pseudo mask; such an image is counted and left out."""

    NO_COARSE_REGION = "no coarse region"
    """The heat map is nowhere above the threshold."""
    EMPTY = "empty mask"
    """The segmenter found nothing at the points."""
    EVERYTHING = "mask of everything"
    """It found 95 % of the image or more, of which the heat map has less than half."""
    OFF_THE_HEAT_MAP = "mask off the heat map"
    """It found less than half of where the heat map is above the threshold."""


def coarse_mask(attention: Tensor, threshold: float, *, clean_border: bool) -> Tensor:
    """Find roughly where the class is: the region in which prompt points are put.

    Args:
        attention: (H, W) floating in [0, 1], heat map of the class.
        threshold: above which a pixel is of the class, in [0, 1).
        clean_border: clear the rim of the image, as the released code does (`clean_mask`) and the
            paper does not say. Attention of a diffusion model is often high in the corners for no
            reason.

    Returns:
        (H, W) bool; all False where the map is nowhere above the threshold.

    Raises:
        ValueError: the map is not (H, W) or not finite, or the threshold is out of its range.

    Source: SAS, section 3.2 ("binarizing the cross-attention map"); SAS release, mask refinement.
    """
    hot = binarize_attention(attention, threshold)
    return clean_mask(hot) if clean_border and bool(hot.any()) else hot


def pseudo_mask(
    generated: GeneratedImage,
    segmenter: Segmenter,
    threshold: float,
    prompts: int,
    *,
    clean_border: bool,
) -> Tensor | NoMask:
    """Find the class in a generated image: points in its coarse mask, outlined by a segmenter.

    The published method takes every mask; here a mask has to agree with the heat map that it was
    asked for with (see `NoMask`). The shares were chosen on 504 images of the embedded generator,
    whose outlines are known, with seeds that no run has. They leave out 17 of the 42 masks of the
    superpixel segmenter whose IoU with the true outline is below 0.5, 4 of the 462 others (walls
    of which the heat map shows a part), and all of 1,799 outlines of other objects in these images.
    A mask may be much larger than the coarse mask: of what SAM finds on images of Stable Diffusion
    5 to 40 % are above the threshold.

    Args:
        generated: image and heat map.
        segmenter: outlines what the points lie on.
        threshold: of the heat map.
        prompts: how many points.
        clean_border: as in `coarse_mask`.

    Returns:
        (H, W) bool, or the reason for which there is none.

    Raises:
        ValueError: as in `coarse_mask` and `prompt_points`.

    Source: SAS, section 3.2: threshold the map, spread points, let the segmenter refine.
    """
    coarse = coarse_mask(generated.attention, threshold, clean_border=clean_border)
    if not bool(coarse.any()):
        return NoMask.NO_COARSE_REGION
    mask = segmenter(generated.image, prompt_points(coarse, prompts, mode="inside"))
    if not bool(mask.any()):
        return NoMask.EMPTY
    hot = binarize_attention(generated.attention, threshold)
    if _share(mask) >= _NEARLY_ALL:
        return mask if _share(hot) >= _HALF else NoMask.EVERYTHING
    if bool((coarse & ~hot).any()):  # blocks in the middle, because only the rim is hot
        coarse = hot
    return mask if _share(mask[coarse]) >= _HALF else NoMask.OFF_THE_HEAT_MAP


def _share(mask: Tensor) -> float:
    return int(mask.sum()) / mask.numel()
