"""Prompt encoder and region decoder of TAP: from points to a token and masks for each region.

Modules bear the names of the keys in the official checkpoint.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.teachers.captions.tap.image_encoder import FeedForward

PI = 3.1415926
"""As the weights were trained with it."""
PAD_POINT = 4
"""Label of a point that says nothing about a place; 1 is one inside of the region."""
MASK_TOKENS = 4
"""Answers to one prompt: the first for boxes, the others for points (part, object, group)."""
HIDDEN = 2048
BLOCKS = 2


class PromptEncoder(nn.Module):
    """Random Fourier features of places, and a learned vector for each kind of point."""

    coord_matrix: Tensor

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.point_embed = nn.Embedding(5, channels)
        self.register_buffer("coord_matrix", torch.randn(2, channels // 2))

    def forward(self, points: Tensor) -> Tensor:
        """Encode point prompts.

        Args:
            points: (P, n, 3) float32, (x, y) pixels of the padded image and the kind of each.

        Returns:
            (P, n, C).
        """
        places = ((points[..., :2] + 0.5) / self.image_size).clamp(0, 1)
        kinds = points[..., 2].long()
        encoded = self._fourier(places) * (kinds != PAD_POINT)[..., None]
        result: Tensor = encoded + self.point_embed(kinds)
        return result

    def grid(self, height: int, width: int) -> Tensor:
        """(height * width, C): encoding of the middle of each cell, row by row."""
        device = self.coord_matrix.device
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return self._fourier(torch.stack([columns, rows], dim=-1)).flatten(0, 1)

    def _fourier(self, places: Tensor) -> Tensor:
        """(..., C) of places (..., 2) in [0, 1]; angles in float32 whatever the weights are."""
        angles = (places * (4 * PI) - 2 * PI) @ self.coord_matrix.float()
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.point_embed.weight.dtype)


class CrossAttention(nn.Module):
    """Attention with queries, keys and values of their own, in fewer channels if wished."""

    def __init__(self, channels: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.proj = nn.Linear(inner, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(P, n, C) of query (P, n, C), key and value (P, m, C)."""
        parts = (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        split = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(*split)  # (P, heads, n, inner / heads)
        result: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return result


class DecoderBlock(nn.Module):
    """Tokens attend to each other and the image, the image to the tokens."""

    def __init__(self, channels: int, heads: int, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = CrossAttention(channels, heads, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = CrossAttention(channels, heads, channels // 2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels, HIDDEN, nn.ReLU)
        self.norm3 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = CrossAttention(channels, heads, channels // 2)
        self.norm4 = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, image_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update tokens and image.

        Args:
            tokens: (P, n, C).
            image: (P, h * w, C).
            token_positions: (P, n, C), the tokens before the first block.
            image_positions: (h * w, C).
        """
        if self.is_first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            placed = tokens + token_positions
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens))
        placed_image = image + image_positions
        seen = self.cross_attn_token_to_image(tokens + token_positions, placed_image, image)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        told = self.cross_attn_image_to_token(placed_image, tokens + token_positions, tokens)
        return tokens, self.norm4(image + told)


class TwoWayTransformer(nn.Module):
    """Blocks of attention in both directions, and a last look of the tokens at the image."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DecoderBlock(channels, heads, number == 0) for number in range(BLOCKS)
        )
        self.final_attn_token_to_image = CrossAttention(channels, heads, channels // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, image: Tensor, image_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens (P, n, C) and image (P, h * w, C), of the same and positions (h * w, C)."""
        positions = tokens
        for block in self.blocks:
            tokens, image = block(tokens, image, positions, image_positions)
        placed = tokens + positions
        seen = self.final_attn_token_to_image(placed, image + image_positions, image)
        return self.norm(tokens + seen), image


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def forward(self, values: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Predictor(nn.Module):
    """Three linear layers with rectifiers between them."""

    def __init__(self, channels: int, out: int, hidden: int) -> None:
        super().__init__()
        sizes = (channels, hidden, hidden, out)
        self.layers = nn.ModuleList(
            nn.Linear(sizes[number], sizes[number + 1]) for number in range(3)
        )

    def forward(self, values: Tensor) -> Tensor:
        """(..., out) of (..., C)."""
        for layer in self.layers[:-1]:
            values = functional.relu(layer(values))
        result: Tensor = self.layers[-1](values)
        return result


class Regions(NamedTuple):
    """What the decoder tells of P prompts on one image, four answers to each."""

    scores: Tensor
    """(P, 4) float32, IoU that is expected of each answer's mask."""
    tokens: Tensor
    """(P, 4, C), the visual prompts of the text decoder."""
    mask_tokens: Tensor
    """(P, 4, C)."""
    image: Tensor
    """(P, C, h, w), the image as each prompt left it."""


class RegionDecoder(nn.Module):
    """Tokens, masks and embeddings of regions from image features and prompts."""

    def __init__(self, channels: int, semantic: int) -> None:
        """Build without weights: `channels` of the features, `semantic` of region embeddings."""
        super().__init__()
        self.transformer = TwoWayTransformer(channels, channels // 32)
        self.iou_token = nn.Embedding(1, channels)
        self.sem_tokens = nn.Embedding(MASK_TOKENS, channels)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, channels)
        self.output_conv = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, 2),
            ChannelNorm(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, 2, 2),
            nn.GELU(),
        )
        self.mask_pred = nn.ModuleList(
            Predictor(channels, channels // 8, channels) for _ in range(MASK_TOKENS)
        )
        self.iou_pred = Predictor(channels, MASK_TOKENS, channels)
        self.sem_pred = Predictor(channels, semantic, semantic)

    def forward(self, features: Tensor, prompts: Tensor, positions: Tensor) -> Regions:
        """Decode the prompts on one image.

        Args:
            features: (1, C, h, w) of the image encoder.
            prompts: (P, n, C) of the prompt encoder.
            positions: (h * w, C) of its grid.
        """
        count = len(prompts)
        own = torch.cat([self.sem_tokens.weight, self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), prompts], dim=1)
        image = features.flatten(2).transpose(1, 2).expand(count, -1, -1)  # (P, h * w, C)
        tokens, image = self.transformer(tokens, image, positions)
        return Regions(
            scores=self.iou_pred(tokens[:, MASK_TOKENS]).float(),
            tokens=tokens[:, :MASK_TOKENS],
            mask_tokens=tokens[:, MASK_TOKENS + 1 : 2 * MASK_TOKENS + 1],
            image=image.transpose(1, 2).unflatten(2, features.shape[2:]),
        )

    def masks(self, regions: Regions) -> Tensor:
        """(P, 4, 4 h, 4 w): logits of the masks of each answer."""
        upscaled = self.output_conv(regions.image)  # (P, C / 8, 4 h, 4 w)
        weights = torch.stack(
            [
                predict(regions.mask_tokens[:, number])
                for number, predict in enumerate(self.mask_pred)
            ],
            dim=1,
        )  # (P, 4, C / 8)
        return torch.einsum("pac,pchw->pahw", weights, upscaled)

    def embeddings(self, regions: Regions) -> Tensor:
        """(P, 4, semantic): embedding of each answer in the space of the concepts."""
        result: Tensor = self.sem_pred(regions.tokens)
        return result
