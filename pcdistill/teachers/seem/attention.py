"""Attention layers with norms behind them, as SEEM names them, and sine positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE = 10000.0


def sine_positions(height: int, width: int, like: Tensor) -> Tensor:
    """(H W, C) sine and cosine of normalized row, then of column; C and dtype as in `like`.

    Args:
        height: rows of the grid.
        width: its columns.
        like: (..., C) gives channels, dtype and device.

    Source: Carion et al., DETR, with positions normalized to (0, 2 pi].
    """
    half = like.shape[-1] // 2
    channel = torch.arange(half, device=like.device, dtype=like.dtype)
    period = TEMPERATURE ** (2 * torch.div(channel, 2, rounding_mode="floor") / half)
    axes = []
    for length in (height, width):
        place = torch.arange(1, length + 1, device=like.device, dtype=like.dtype)
        angle = (place / (length + 1e-6) * 2 * math.pi)[:, None] / period  # (L, C / 2)
        axes.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1))
    rows = axes[0][:, None].expand(height, width, half)
    columns = axes[1][None].expand(height, width, half)
    return torch.cat((rows, columns), dim=2).flatten(0, 1)


class EncoderLayer(nn.Module):
    """Self-attention over an image's cells, then a feed-forward net."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        """Create the layers.

        Args:
            channels: of the cells.
            heads: of the attention.
            hidden: width of the feed-forward net.
        """
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, cells: Tensor, positions: Tensor) -> Tensor:
        """(B, M, C) cells and their (M, C) positions -> (B, M, C)."""
        placed = cells + positions
        attended, _ = self.self_attn(placed, placed, cells, need_weights=False)
        cells = self.norm1(cells + attended)
        result: Tensor = self.norm2(cells + self.linear2(functional.relu(self.linear1(cells))))
        return result


class SelfAttention(nn.Module):
    """Queries attend to each other."""

    def __init__(self, channels: int, heads: int) -> None:
        """Create the layers for that many channels and heads."""
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, query_positions: Tensor) -> Tensor:
        """(B, Q, C) queries and their (Q, C) positions -> (B, Q, C)."""
        placed = queries + query_positions
        attended, _ = self.self_attn(placed, placed, queries, need_weights=False)
        result: Tensor = self.norm(queries + attended)
        return result


class CrossAttention(nn.Module):
    """Queries attend to the image's cells that are not blocked for them."""

    def __init__(self, channels: int, heads: int) -> None:
        """Create the layers for that many channels and heads."""
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        queries: Tensor,
        query_positions: Tensor,
        cells: Tensor,
        positions: Tensor,
        blocked: Tensor,
    ) -> Tensor:
        """Update the queries.

        Args:
            queries: (B, Q, C).
            query_positions: (Q, C).
            cells: (B, M, C).
            positions: (M, C) of the cells; part of the keys, not of the values.
            blocked: (B, Q, M) bool.

        Returns:
            (B, Q, C).
        """
        heads = self.multihead_attn.num_heads
        attended, _ = self.multihead_attn(
            queries + query_positions,
            cells + positions,
            cells,
            attn_mask=blocked.repeat_interleave(heads, dim=0),
            need_weights=False,
        )
        result: Tensor = self.norm(queries + attended)
        return result


class FeedForward(nn.Module):
    """Two linear layers and their sum with the input."""

    def __init__(self, channels: int, hidden: int) -> None:
        """Create the layers for that many channels and hidden units."""
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C)."""
        result: Tensor = self.norm(queries + self.linear2(functional.relu(self.linear1(queries))))
        return result
