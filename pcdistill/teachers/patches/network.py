"""Network that embeds every patch of an image in a text space, as a module."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Colors(NamedTuple):
    """What a network subtracts of a color in [0, 1], and divides by, for red, green, blue."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class PatchNetwork(nn.Module):
    """Network of single patches: each is embedded as if it were all that the last attention sees.

    With one token alone the weight of attention is 1 whatever queries and keys are, so that what is
    left of the last attention is the path of its values: the "value trick" of MaskCLIP. All layers
    before it see the whole image.

    Source: Zhou et al., Extract Free Dense Labels from CLIP, ECCV 2022.
    """

    def __init__(self, patch: int, colors: Colors) -> None:
        """Remember what the input is made of.

        Args:
            patch: pixels along a side of a patch.
            colors: of the training's normalization.
        """
        super().__init__()
        self.patch = patch
        self.register_buffer("_mean", torch.tensor(colors.mean)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(colors.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed the patches of images.

        Args:
            images: (B, 3, H, W) float in [0, 1], H and W multiples of the patch.

        Returns:
            (B, D, H / patch, W / patch) float32 of unit length along the channels.
        """
        mean, std = self.get_buffer("_mean"), self.get_buffer("_std")
        normalized = (images.to(mean.dtype) - mean) / std
        return functional.normalize(self.embed(normalized).float(), dim=1)

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images, of any length."""


def one_by_one(tokens: Tensor) -> Tensor:
    """(B * N, 1, C): sequences of one token each, of (B, N, C)."""
    return tokens.flatten(0, 1)[:, None]


def as_map(embedded: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, D, h, w) of (B * h * w, D), rows of patches first."""
    return embedded.reshape(-1, *grid, embedded.shape[-1]).permute(0, 3, 1, 2)


def resize_positions(positions: Tensor, known: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Position embeddings for another number of patches, bicubically.

    Args:
        positions: (h * w, C), without those of other tokens.
        known: (h, w) of them.
        grid: (h', w') that is wanted.

    Returns:
        (h' * w', C).
    """
    if known == grid:
        return positions
    as_image = positions.float().reshape(1, *known, -1).permute(0, 3, 1, 2)  # (1, C, h, w)
    resized = functional.interpolate(
        as_image, grid, mode="bicubic", align_corners=False, antialias=True
    )
    return resized[0].flatten(1).T.to(positions.dtype)
