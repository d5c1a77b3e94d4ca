"""Sizes of a Segment Anything network, read off the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class SamLayout(NamedTuple):
    """What distinguishes one Segment Anything network from another."""

    image_size: int
    """Side in pixels of the square that images are resized and padded to."""
    patch_size: int
    width: int
    """Channels of the image encoder."""
    depth: int
    heads: int
    hidden: int
    """Channels inside the image encoder's blocks."""
    window: int
    """Side in patches of the windows in which most blocks attend; 0 where all attend to all."""
    global_blocks: tuple[int, ...]
    """Blocks in which every patch attends to all."""
    prompt_width: int
    """Channels of the prompt encoder and mask decoder."""
    mask_channels: int
    masks: int
    """Masks that the decoder gives besides the one for several points."""
    decoder_depth: int
    decoder_hidden: int
    score_depth: int
    score_hidden: int

    @property
    def official_name(self) -> str | None:
        """Name of the published network with these sizes."""
        return next((name for name, layout in OFFICIAL.items() if layout == self), None)


def _published(
    width: int, depth: int, heads: int, global_blocks: tuple[int, int, int, int]
) -> SamLayout:
    encoder = (width, depth, heads, 4 * width, 14, global_blocks)
    return SamLayout(1024, 16, *encoder, 256, 16, 3, 2, 2048, 3, 256)


OFFICIAL: dict[str, SamLayout] = {
    "sam-vit-b": _published(768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": _published(1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": _published(1280, 32, 16, (7, 15, 23, 31)),
}
"""Published networks by the names of their weights.

Source: facebookresearch/segment-anything, build_sam.py."""


def read_layout(weights: Mapping[str, Tensor]) -> SamLayout:
    """Read the sizes of a network off its tensors.

    Args:
        weights: by the names of package segment-anything; on any device, the meta device too.

    Raises:
        KeyError: a tensor that every such network has is not there; the key is its name.
    """
    width, _, patch_size, _ = weights["image_encoder.patch_embed.proj.weight"].shape
    grid = weights["image_encoder.pos_embed"].shape[1]
    depth = _count(weights, "image_encoder.blocks.")
    spans = [
        (weights[f"image_encoder.blocks.{block}.attn.rel_pos_h"].shape[0] + 1) // 2
        for block in range(depth)
    ]
    head_width = weights["image_encoder.blocks.0.attn.rel_pos_h"].shape[1]
    score = "mask_decoder.iou_prediction_head.layers."
    return SamLayout(
        image_size=grid * patch_size,
        patch_size=patch_size,
        width=width,
        depth=depth,
        heads=width // head_width,
        hidden=weights["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
        window=min((span for span in spans if span < grid), default=0),
        global_blocks=tuple(block for block, span in enumerate(spans) if span >= grid),
        prompt_width=weights["image_encoder.neck.0.weight"].shape[0],
        mask_channels=weights["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        masks=weights["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        decoder_depth=_count(weights, "mask_decoder.transformer.layers."),
        decoder_hidden=weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        score_depth=_count(weights, score),
        score_hidden=weights[f"{score}0.weight"].shape[0],
    )


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules there are below a name."""
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})
