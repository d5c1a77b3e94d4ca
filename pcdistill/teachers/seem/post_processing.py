"""Classes and masks of SEEM's queries -> semantic scores and panoptic segments of an image.

Source: MaskFormer, X-Decoder and SEEM (`semantic_inference`, `panoptic_inference`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.seem.vocabulary import SeemVocabulary

MIN_SCORE = 0.4
"""Probability that a query's class must exceed; SEEM's demo setting, which SAS uses."""
MIN_VISIBLE = 0.8
"""Share of a mask that other masks must leave, else it is dropped."""


class Segment(NamedTuple):
    """One panoptic segment."""

    category: int
    """Index of its class."""
    query: int
    """Row of the query whose mask it is, or the first of them where masks are merged."""
    is_thing: bool
    """Whether its class is countable."""


def resize_masks(
    mask_logits: Tensor,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Resize the logits of masks from the network's grid to an image.

    Args:
        mask_logits: (B, Q, h, w) float.
        padded_size: (H, W) pixels of the network's input.
        image_size: (H, W) pixels of its upper left part that is image.
        output_size: (H, W) pixels of the result.

    Returns:
        (B, Q, H, W) float; bilinear to the padded input, cropped, then bicubic.
    """
    padded = functional.interpolate(
        mask_logits, size=padded_size, mode="bilinear", align_corners=False
    )
    return functional.interpolate(
        padded[:, :, : image_size[0], : image_size[1]],
        size=output_size,
        mode="bicubic",
        align_corners=False,
        antialias=True,
    )


def semantic_scores(logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Scores of every class but the last in every pixel, summed over the queries.

    Args:
        logits: (Q, C) float.
        mask_logits: (Q, H, W) float.

    Returns:
        (C - 1, H, W) float.
    """
    probability = logits.softmax(dim=-1)[:, :-1]
    return torch.einsum("qc,qhw->chw", probability, mask_logits.sigmoid())


def panoptic_segments(
    logits: Tensor,
    mask_logits: Tensor,
    vocabulary: SeemVocabulary,
    *,
    min_score: float = MIN_SCORE,
    min_visible: float = MIN_VISIBLE,
) -> tuple[Tensor, list[Segment]]:
    """Divide an image between the masks of its queries.

    A pixel goes to the mask with the highest product of class score and mask probability, where
    it is inside of that mask.

    Args:
        logits: (Q, C) float.
        mask_logits: (Q, H, W) float.
        vocabulary: of the C classes.
        min_score: that a class must exceed.
        min_visible: share of a mask, in [0, 1], below which it is dropped.

    Returns:
        segment_ids: (H, W) int32, row of the second value, -1 where there is no segment.
        segments: in the order of the queries.
    """
    scores, categories = logits.softmax(dim=-1).max(dim=-1)
    queries = ((categories != vocabulary.void) & (scores > min_score)).nonzero()[:, 0]
    segment_ids = torch.full(
        mask_logits.shape[1:], -1, dtype=torch.int32, device=mask_logits.device
    )
    if len(queries) == 0:
        return segment_ids, []
    masks = mask_logits[queries].sigmoid()
    owner = (scores[queries, None, None] * masks).argmax(dim=0)  # (H, W)
    segments: list[Segment] = []
    stuff: dict[int, int] = {}
    for row, query in enumerate(queries.tolist()):
        inside = masks[row] >= 0.5
        won = owner == row
        visible = won & inside
        if not visible.any() or int(won.sum()) / int(inside.sum()) < min_visible:
            continue
        category = int(categories[query])
        is_thing = category in vocabulary.things
        number = len(segments) if is_thing else stuff.setdefault(category, len(segments))
        if number == len(segments):
            segments.append(Segment(category, query, is_thing))
        segment_ids[visible] = number
    return segment_ids, segments
