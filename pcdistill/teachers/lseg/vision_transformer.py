"""Vision transformer (ViT) whose token features are read after several of its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_NORM_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) of (B, N, D)."""
        batch, count, width = tokens.shape
        per_head = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = per_head.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads) each
        mixed = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) of (B, N, D)."""
        changed: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return changed


class Block(nn.Module):
    """Transformer block with the normalization before attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) of (B, N, D)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        attended: Tensor = tokens + self.mlp(self.norm2(tokens))
        return attended


class PatchEmbedding(nn.Module):
    """One token for each square patch of the image."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, h * w, D) of (B, 3, H, W)."""
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


class VisionTransformer(nn.Module):
    """ViT for images of any size; its parameters carry the names of timm's.

    The final norm and the classifier of timm's model are not part of it: nothing reads them here.
    """

    def __init__(
        self, width: int, depth: int, heads: int, grid: int, patch: int, taps: Sequence[int]
    ) -> None:
        """Build the layers with random weights.

        Args:
            width: D, channels of a token.
            depth: blocks.
            heads: of the attention.
            grid: patches along a side of the images of the pre-training.
            patch: pixels along a side of a patch.
            taps: blocks, from 0, after which the tokens are given out.
        """
        super().__init__()
        self.patch = patch
        self.grid = grid
        self.taps = tuple(taps)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid * grid, width).normal_(std=0.02))
        self.patch_embed = PatchEmbedding(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1 + h * w, D) after each of the taps, of (B, 3, H, W); the class token is first."""
        tokens = self.embed(images)
        read = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in self.taps:
                read.append(tokens)
        return read

    def embed(self, images: Tensor) -> Tensor:
        """(B, 1 + h * w, D): class token and patches with their positions, of (B, 3, H, W)."""
        size = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        patches = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        return tokens + self.positions(size)

    def positions(self, size: tuple[int, int]) -> Tensor:
        """(1, 1 + h * w, D): position embeddings for a grid of (h, w) patches."""
        first, square = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        as_map = square.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)  # (1, D, g, g)
        resized = functional.interpolate(as_map, size, mode="bilinear", align_corners=False)
        return torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1)
