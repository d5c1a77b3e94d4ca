"""Decoder of SEEM: queries that attend to an image and become a class and a mask each.

Source: X-Decoder and SEEM, of which the object queries are here; prompts by clicks or text have
weights in the checkpoint (`sem_seg_head.predictor.*`) that no object query looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.teachers.seem.attention import (
    CrossAttention,
    FeedForward,
    SelfAttention,
    sine_positions,
)
from pcdistill.teachers.seem.language_encoder import LanguageEncoder
from pcdistill.teachers.seem.pixel_decoder import PixelFeatures

LEVELS = 3
SPATIAL_MEMORIES = 32


class Prediction(NamedTuple):
    """Q queries of B images, told before the first layer of the decoder or after one of them."""

    logits: Tensor
    """(B, Q, C) similarity of each query with each class, times the model's scale."""
    mask_logits: Tensor
    """(B, Q, H / 4, W / 4); sigmoid >= 0.5 is inside."""
    mask_embeddings: Tensor
    """(B, Q, D), of which the masks are products with the pixels' features."""
    class_embeddings: Tensor
    """(B, Q, P) in the model's own text space, not normalized."""
    queries: Tensor
    """(B, Q, D) before the decoder's norm."""


class _MaskEmbedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, channels) for _ in range(3))

    def forward(self, queries: Tensor) -> Tensor:
        first, second, last = self.layers
        embedded: Tensor = last(functional.relu(second(functional.relu(first(queries)))))
        return embedded


class MaskDecoder(nn.Module):
    """Object queries and the layers that make classes and masks of them."""

    def __init__(
        self,
        channels: int,
        heads: int,
        hidden: int,
        layers: int,
        queries: int,
        language_encoder: LanguageEncoder,
    ) -> None:
        """Create the layers.

        Args:
            channels: D of queries and cells.
            heads: of every attention.
            hidden: width of the feed-forward nets.
            layers: each of cross-attention, self-attention and a feed-forward net.
            queries: Q.
            language_encoder: holds projection and scale of the comparison with classes.
        """
        super().__init__()
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttention(channels, heads) for _ in range(layers)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttention(channels, heads) for _ in range(layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FeedForward(channels, hidden) for _ in range(layers)
        )
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(LEVELS, channels)
        self.lang_encoder = language_encoder
        self.class_embed = nn.Parameter(torch.zeros(channels, language_encoder.dimensions))
        self.mask_embed = _MaskEmbedding(channels)
        self._add_prompt_weights(channels)

    def _add_prompt_weights(self, channels: int) -> None:
        """Of clicks and scribbles: part of every checkpoint, without influence on objects."""
        self.pn_indicator = nn.Embedding(2, channels)
        self.mask_sptial_embed = nn.ParameterList(
            nn.Parameter(torch.zeros(channels, channels)) for _ in range(LEVELS)
        )
        self.spatial_embed = nn.Embedding(SPATIAL_MEMORIES, channels)
        self.spatial_featured = nn.Embedding(SPATIAL_MEMORIES, channels)

    def forward(self, pixels: PixelFeatures, class_embeddings: Tensor) -> list[Prediction]:
        """Predict before the first layer and after every one; the last prediction counts.

        Args:
            pixels: of B images.
            class_embeddings: (C, P) float, unit length, in the model's own text space.
        """
        memory = [
            level.flatten(2).transpose(1, 2) + self.level_embed.weight[number]
            for number, level in enumerate(pixels.levels)
        ]
        sizes = [(level.shape[2], level.shape[3]) for level in pixels.levels]
        positions = [
            sine_positions(*size, cells) for size, cells in zip(sizes, memory, strict=True)
        ]
        batch = pixels.mask_features.shape[0]
        queries = self.query_feat.weight.expand(batch, -1, -1)
        places = self.query_embed.weight
        predictions = [self._predict(queries, pixels.mask_features, class_embeddings)]
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for number, (cross_attention, self_attention, feed_forward) in enumerate(layers):
            level = number % LEVELS
            blocked = open_blocked_rows(block_outside(predictions[-1].mask_logits, sizes[level]))
            queries = cross_attention(queries, places, memory[level], positions[level], blocked)
            queries = feed_forward(self_attention(queries, places))
            predictions.append(self._predict(queries, pixels.mask_features, class_embeddings))
        return predictions

    def _predict(
        self, queries: Tensor, mask_features: Tensor, class_embeddings: Tensor
    ) -> Prediction:
        normed = self.decoder_norm(queries)
        own_classes = normed @ self.class_embed
        mask_embeddings = self.mask_embed(normed)
        masks = torch.einsum("bqc,bchw->bqhw", mask_embeddings, mask_features)
        logits = self.lang_encoder.compare(own_classes, class_embeddings)
        return Prediction(logits, masks, mask_embeddings, own_classes, queries)


def block_outside(mask_logits: Tensor, size: Sequence[int]) -> Tensor:
    """(B, Q, h w) bool: cells outside of each query's mask, at a level of that size (h, w)."""
    small = functional.interpolate(
        mask_logits, size=tuple(size), mode="bilinear", align_corners=False
    )
    return small.flatten(2).sigmoid() < 0.5


def open_blocked_rows(blocked: Tensor) -> Tensor:
    """Unblock all cells (..., M) for a query that would see none of them."""
    return blocked & ~blocked.all(dim=-1, keepdim=True)
