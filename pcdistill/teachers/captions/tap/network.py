"""TAP, "Tokenize Anything via Prompting": captions of regions that points lie in.

Source: Pan et al., ECCV 2024; checkpoints of baaivision/tokenize-anything (Apache-2.0) load here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pcdistill.teachers.captions.tap.image_encoder import ImageEncoder
from pcdistill.teachers.captions.tap.region_decoder import PromptEncoder, RegionDecoder
from pcdistill.teachers.captions.tap.text_decoder import TextDecoder

MEAN = (103.53, 116.28, 123.675)
DEVIATION = (57.375, 57.12, 58.395)
"""Of pixels, in the order blue, green, red."""
TEXT_LENGTH = 40
"""Positions of the text decoder, which no weight tells."""
START, END = 1, 2
"""Tokens at which a text begins and ends."""


class TapSizes(NamedTuple):
    """What a checkpoint tells of its network by the shapes of its weights."""

    depth: int
    channels: int
    heads: int
    patch: int
    window: int
    image_size: int
    features: int
    semantic: int
    text_depth: int
    text_channels: int
    vocabulary: int


def read_sizes(state: Mapping[str, Tensor]) -> TapSizes:
    """Sizes of the network whose weights are in `state`.

    Raises:
        KeyError: a weight that tells one of them is missing.
    """
    patches, channels = state["image_encoder.pos_embed.weight"].shape
    heads, places = state["image_encoder.blocks.0.attn.rel_pos_embed.weight"].shape
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    vocabulary, text_channels = state["text_decoder.transformer.tok_embeddings.weight"].shape
    return TapSizes(
        depth=_count(state, "image_encoder.blocks."),
        channels=channels,
        heads=heads,
        patch=patch,
        window=(isqrt(places) + 1) // 2,
        image_size=isqrt(patches) * patch,
        features=state["prompt_encoder.point_embed.weight"].shape[1],
        semantic=state["image_decoder.sem_pred.layers.0.weight"].shape[0],
        text_depth=_count(state, "text_decoder.transformer.blocks."),
        text_channels=text_channels,
        vocabulary=vocabulary,
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of different numbers that follow a prefix."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


class Tap(nn.Module):
    """Image encoder, prompt encoder, region decoder and text decoder."""

    pixel_mean: Tensor
    pixel_rsig: Tensor

    def __init__(self, sizes: TapSizes, text_length: int = TEXT_LENGTH) -> None:
        """Build without weights.

        Args:
            sizes: of the layers.
            text_length: positions of the text decoder.
        """
        super().__init__()
        self.image_size = sizes.image_size
        self.register_buffer("pixel_mean", torch.tensor(MEAN))
        self.register_buffer("pixel_rsig", torch.tensor(DEVIATION).reciprocal())
        self.image_encoder = ImageEncoder(
            depth=sizes.depth,
            channels=sizes.channels,
            heads=sizes.heads,
            patch=sizes.patch,
            window=sizes.window,
            image_size=sizes.image_size,
            out=sizes.features,
        )
        self.prompt_encoder = PromptEncoder(sizes.features, sizes.image_size)
        self.image_decoder = RegionDecoder(sizes.features, sizes.semantic)
        self.text_decoder = TextDecoder(
            depth=sizes.text_depth,
            channels=sizes.text_channels,
            heads=sizes.text_channels // 64,
            prompt=sizes.features,
            vocabulary=sizes.vocabulary,
            length=text_length,
        )

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Features (B, C, h, w) of padded images (B, size, size, 3) uint8, blue first."""
        normalised = (pixels.to(self.pixel_mean) - self.pixel_mean) * self.pixel_rsig
        result: Tensor = self.image_encoder(normalised.permute(0, 3, 1, 2))
        return result

    def best_tokens(self, features: Tensor, points: Tensor) -> Tensor:
        """(P, C): visual token of the answer to each prompt that expects the best mask.

        The first answer is meant for boxes and left out.

        Args:
            features: (1, C, h, w) of one image.
            points: (P, n, 3) float32, (x, y) pixels of the padded image and the kind of each.
        """
        grid = self.prompt_encoder.grid(features.shape[2], features.shape[3])
        regions = self.image_decoder(features, self.prompt_encoder(points), grid)
        best = regions.scores[:, 1:].argmax(dim=1) + 1
        chosen: Tensor = regions.tokens[torch.arange(len(best), device=best.device), best]
        return chosen

    def write(self, visual: Tensor) -> Tensor:
        """(P, length - 1) int64 tokens of the captions of visual tokens (P, C)."""
        pad = self.text_decoder.transformer.tok_embeddings.num_embeddings - 1
        tokens: Tensor = self.text_decoder(visual, START, END, pad)
        return tokens


def pad_image(image: Tensor, size: int) -> tuple[Tensor, float]:
    """Resize an image so that it fits a square, and pad it at the bottom and the right.

    Args:
        image: (3, H, W) uint8, RGB.
        size: side of the square, pixels.

    Returns:
        padded: (size, size, 3) uint8, blue first.
        scale: pixels of the square for one of the image.
    """
    height, width = image.shape[1:]
    scale = size / min(height, width)
    if round(scale * max(height, width)) > size:
        scale = size / max(height, width)
    pixels: Any = image.flip(0).permute(1, 2, 0).cpu().numpy()
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (int(width * scale + 0.5), int(height * scale + 0.5)), Image.Resampling.BILINEAR
    )
    padded = torch.tensor(MEAN).to(torch.uint8).repeat(size, size, 1)
    padded[: resized.height, : resized.width] = torch.from_numpy(np.array(resized))
    return padded, scale
