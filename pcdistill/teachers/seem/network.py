"""The whole network of SEEM, in the layout of its official checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.teachers.seem.focal_net import FocalNet
from pcdistill.teachers.seem.language_encoder import LanguageEncoder
from pcdistill.teachers.seem.mask_decoder import MaskDecoder, Prediction
from pcdistill.teachers.seem.pixel_decoder import PixelDecoder

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
STRIDE = 32
"""Height and width of the network's input are multiples of this, in pixels."""


@dataclass(frozen=True)
class SeemSizes:
    """Sizes of the network; by default those of SEEM Focal-L."""

    backbone_channels: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    channels: int = 512
    """Of pixel decoder and queries."""
    heads: int = 8
    hidden: int = 2048
    """Width of the feed-forward nets of pixel decoder and queries."""
    encoder_layers: int = 6
    decoder_layers: int = 9
    queries: int = 101
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    text_context: int = 77
    words: int = 49408
    text_dimensions: int = 512


class _Head(nn.Module):
    def __init__(self, sizes: SeemSizes) -> None:
        super().__init__()
        widths = [sizes.backbone_channels << stage for stage in range(4)]
        self.pixel_decoder = PixelDecoder(
            widths, sizes.channels, sizes.heads, sizes.hidden, sizes.encoder_layers
        )
        language_encoder = LanguageEncoder(
            sizes.text_width,
            sizes.text_heads,
            sizes.text_layers,
            sizes.text_context,
            sizes.words,
            sizes.text_dimensions,
        )
        self.predictor = MaskDecoder(
            sizes.channels,
            sizes.heads,
            sizes.hidden,
            sizes.decoder_layers,
            sizes.queries,
            language_encoder,
        )


class SeemNetwork(nn.Module):
    """Images and class embeddings -> a class and a mask of every query."""

    def __init__(self, sizes: SeemSizes | None = None) -> None:
        """Create the layers; the weights come from a checkpoint."""
        super().__init__()
        sizes = sizes or SeemSizes()
        self.backbone = FocalNet(sizes.backbone_channels, sizes.depths)
        self.sem_seg_head = _Head(sizes)
        self.register_buffer("dilation_kernel", torch.ones(1, 1, 3, 3))  # of clicks

    @property
    def language_encoder(self) -> LanguageEncoder:
        """The text tower, of which class embeddings come."""
        return self.sem_seg_head.predictor.lang_encoder

    def forward(self, images: Tensor, class_embeddings: Tensor) -> Prediction:
        """Predict the queries' classes and masks.

        Args:
            images: (B, 3, H, W) float, as `normalize_and_pad` makes them.
            class_embeddings: (C, P) float, unit length, of the language encoder.
        """
        pixels = self.sem_seg_head.pixel_decoder(self.backbone(images))
        return cast(Prediction, self.sem_seg_head.predictor(pixels, class_embeddings)[-1])


def normalize_and_pad(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB, 0..255 -> float32, padded right and below with 0 to multiples of 32."""
    mean = images.new_tensor(PIXEL_MEAN, dtype=torch.float32)[:, None, None]
    std = images.new_tensor(PIXEL_STD, dtype=torch.float32)[:, None, None]
    height, width = images.shape[2:]
    padding = (0, -width % STRIDE, 0, -height % STRIDE)
    return functional.pad((images.float() - mean) / std, padding)
