"""Masks that a SEEM teacher makes of one image, its own way and the way of the SAS release."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.seem.post_processing import (
    panoptic_segments,
    resize_masks,
    semantic_scores,
)
from pcdistill.teachers.seem.vocabulary import (
    SeemVocabulary,
    class_noun,
    clean_name,
    released_vocabulary,
    seem_vocabulary,
)


class ImageQueries(NamedTuple):
    """What the network says of one image, and how the image was given to it."""

    logits: Tensor
    """(Q, C) float32."""
    mask_logits: Tensor
    """(Q, h, w) float32."""
    padded_size: tuple[int, int]
    """(H, W) pixels of the network's input."""
    network_size: tuple[int, int]
    """(H, W) pixels of its upper left part that is image."""
    image_size: tuple[int, int]
    """(H, W) pixels of the teacher's image."""

    def resized(self, size: tuple[int, int]) -> Tensor:
        """(Q, H, W) logits of the masks at that size."""
        sizes = (self.padded_size, self.network_size, size)
        return resize_masks(self.mask_logits[None], *sizes)[0]


class NamedMasks(NamedTuple):
    """Masks of an image, one class each."""

    mask_ids: Tensor
    """(H, W) int32 row of `categories`, -1 for none."""
    categories: list[int]
    """m, index of each mask's class."""


class MaskStyle(NamedTuple):
    """A way to come from queries to masks with nouns."""

    vocabulary: SeemVocabulary
    noun: Callable[[str], str]
    """What a class is called in captions."""
    masks: Callable[[ImageQueries, SeemVocabulary], NamedMasks]
    revision: str
    """Changes where the same weights give other masks."""
    caption_wording: str | None = None
    """How captions and nouns are joined, whatever the run says."""


def segment_masks(queries: ImageQueries, vocabulary: SeemVocabulary) -> NamedMasks:
    """Masks of the panoptic segments, cut at the size of the image."""
    masks = queries.resized(queries.image_size)
    segment_ids, segments = panoptic_segments(queries.logits, masks, vocabulary)
    return NamedMasks(segment_ids, [segment.category for segment in segments])


def released_masks(queries: ImageQueries, vocabulary: SeemVocabulary) -> NamedMasks:
    """Masks of each pair of panoptic segment and semantic class, at the network's size.

    The class of a pixel is the best of its semantic scores, whatever its segment is called; a pixel
    without a segment has a class, too, but an image without any segment is left out. Maps are
    resized by dropping pixels.

    Source: the release of SAS, `seem_feat`.
    """
    masks = queries.resized(queries.network_size)
    segment_ids, segments = panoptic_segments(queries.logits, masks, vocabulary)
    if not segments:
        nothing = torch.full(queries.image_size, -1, dtype=torch.int32, device=masks.device)
        return NamedMasks(nothing, [])
    semantic = semantic_scores(queries.logits, masks).argmax(dim=0)
    pairs = (segment_ids.long() + 1) * len(vocabulary.names) + semantic
    small = functional.interpolate(pairs[None, None].double(), size=queries.image_size)[0, 0]
    found, mask_ids = torch.unique(small.long(), return_inverse=True)
    return NamedMasks(mask_ids.int(), (found % len(vocabulary.names)).tolist())


MASK_STYLES = {
    "segments": MaskStyle(seem_vocabulary(), class_noun, segment_masks, "segments/1"),
    "released": MaskStyle(
        released_vocabulary(), clean_name, released_masks, "released/1", "release"
    ),
}
"""By name: each segment with its own class; and what the SAS release does, class counts and all."""
