"""Patches of the image sides of SigLIP2 and TIPSv2 as transformers builds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcdistill.teachers.patches.network import Colors, PatchNetwork, as_map, one_by_one

_AROUND_ZERO = Colors((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_AS_THEY_ARE = Colors((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class SiglipPatches(PatchNetwork):
    """Patches of SigLIP2 of one resolution: each is alone in the attention that pools them.

    Position embeddings are resized bicubically, as transformers does it.
    """

    def __init__(self, vision: Any) -> None:
        """Take the image side of a `SiglipModel`."""
        super().__init__(int(vision.config.patch_size), _AROUND_ZERO)
        self._vision = vision

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        seen = self._vision(pixel_values=images, interpolate_pos_encoding=True)
        return as_map(self._vision.head(one_by_one(seen.last_hidden_state)), grid)


class NaflexPatches(PatchNetwork):
    """Patches of SigLIP2 of any aspect ratio, whose positions were trained to be resized."""

    def __init__(self, vision: Any) -> None:
        """Take the image side of a `Siglip2Model`."""
        super().__init__(int(vision.config.patch_size), _AROUND_ZERO)
        self._vision = vision

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        batch, side = len(images), self.patch
        grid = (images.shape[2] // side, images.shape[3] // side)
        cut = images.reshape(batch, 3, grid[0], side, grid[1], side)
        patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, N, side * side * 3)
        shapes = torch.tensor([grid] * batch, device=images.device)
        seen = self._vision(pixel_values=patches, pixel_attention_mask=None, spatial_shapes=shapes)
        return as_map(self._vision.head(one_by_one(seen.last_hidden_state)), grid)


class TipsPatches(PatchNetwork):
    """Patches of TIPSv2: each passes the last layer alone, as in its authors' segmentation."""

    def __init__(self, vision: Any) -> None:
        """Take the image side of a `Tipsv2Model`."""
        super().__init__(int(vision.config.patch_size), _AS_THEY_ARE)
        self._vision = vision

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        vision = self._vision
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        tokens = vision.embeddings(images)  # (B, 1 + registers + N, C)
        *layers, last = vision.encoder.layer
        for layer in layers:
            tokens = layer(tokens)
        alone = last(one_by_one(tokens[:, 1 + vision.config.num_register_tokens :]))[:, 0]
        return as_map(vision.layernorm(alone), grid)
