"""Image encoder of TAP: a vision transformer whose windows are joined by convolutions.

Modules bear the names of the keys in the official checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS = 4
"""Places, evenly over the depth, at which windows exchange what they know."""


class PatchEmbedding(nn.Module):
    """Tokens of square patches."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, h, w, C) of (B, 3, H, W)."""
        tokens: Tensor = self.proj(images).permute(0, 2, 3, 1)
        return tokens


class PositionEmbedding(nn.Module):
    """One learned vector for each patch of the image."""

    def __init__(self, channels: int, patches: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(patches, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the positions to (B, h, w, C)."""
        return tokens + self.weight.view(tokens.shape[1:])


class RelativePositions(nn.Module):
    """Attention bias of two places in a window, by their distance in rows and columns."""

    index: Tensor

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # (L, 2)
        apart = places[:, None] - places[None, :] + window - 1  # (L, L, 2), from 0
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1])

    def forward(self) -> Tensor:
        """(heads, L, L) for the L places of a window."""
        return self.weight[:, self.index]


class WindowAttention(nn.Module):
    """Self-attention inside of windows."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.rel_pos_embed = RelativePositions(heads, window)

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, L, C) of the same."""
        windows, length, channels = tokens.shape
        parts = self.qkv(tokens).view(windows, length, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (windows, heads, L, C / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value, self.rel_pos_embed())
        result: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return result


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, channels: int, hidden: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.activation = activation()

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) of the same."""
        result: Tensor = self.fc2(self.activation(self.fc1(tokens)))
        return result


class EncoderBlock(nn.Module):
    """Attention in windows and a feed-forward layer, normalised before each."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels, 4 * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, L, C) of the same."""
        tokens = tokens + self.attn(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class Bottleneck(nn.Module):
    """Residual block of three convolutions over the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 2
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, h, w) of the same."""
        hidden = functional.gelu(self.norm1(self.conv1(values)))
        hidden = functional.gelu(self.norm2(self.conv2(hidden)))
        result: Tensor = values + self.norm3(self.conv3(hidden))
        return result


class Neck(nn.Module):
    """Features for the decoder at the resolution of the patches."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        lateral = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))
        output = nn.Sequential(nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out))
        self.lateral_conv = nn.ModuleList([lateral])  # one level of a pyramid
        self.output_conv = nn.ModuleList([output])

    def forward(self, values: Tensor) -> Tensor:
        """(B, out, h, w) of (B, C, h, w)."""
        result: Tensor = self.output_conv[0](self.lateral_conv[0](values))
        return result


class ImageEncoder(nn.Module):
    """Vision transformer with windows, residual convolutions at four depths, and a neck."""

    def __init__(
        self,
        *,
        depth: int,
        channels: int,
        heads: int,
        patch: int,
        window: int,
        image_size: int,
        out: int,
    ) -> None:
        """Build without weights.

        Args:
            depth: blocks.
            channels: of a token.
            heads: of attention.
            patch: side of a patch, pixels.
            window: side of a window, patches.
            image_size: side of the square image, pixels.
            out: channels of the result.
        """
        super().__init__()
        self.window = window
        self.patch_embed = PatchEmbedding(channels, patch)
        self.pos_embed = PositionEmbedding(channels, (image_size // patch) ** 2)
        self.blocks = nn.ModuleList(EncoderBlock(channels, heads, window) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.cross_conv = nn.ModuleList(Bottleneck(channels) for _ in range(CONVOLUTIONS))
        self.neck = Neck(channels, out)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, out, h, w) of normalised images (B, 3, size, size)."""
        tokens = self.pos_embed(self.patch_embed(images))  # (B, h, w, C)
        size = (tokens.shape[1], tokens.shape[2])
        windows = split_windows(tokens, self.window)
        group = len(self.blocks) // CONVOLUTIONS
        for number, block in enumerate(self.blocks):
            windows = block(windows)
            last = number == len(self.blocks) - 1
            if last:
                windows = self.norm(windows)
            place, rest = divmod(number + 1, group)
            if rest == 0 and place <= CONVOLUTIONS:
                values = join_windows(windows, self.window, size).permute(0, 3, 1, 2)
                tokens = self.cross_conv[place - 1](values).permute(0, 2, 3, 1)
                windows = split_windows(tokens, self.window)
        result: Tensor = self.neck(join_windows(windows, self.window, size).permute(0, 3, 1, 2))
        return result


def split_windows(tokens: Tensor, window: int) -> Tensor:
    """(B * windows, window**2, C) of (B, h, w, C)."""
    batch, height, width, channels = tokens.shape
    parts = tokens.view(batch, height // window, window, width // window, window, channels)
    return parts.transpose(2, 3).reshape(-1, window**2, channels)


def join_windows(windows: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """(B, h, w, C) of the result of `split_windows` for tokens of that size (h, w)."""
    height, width = size
    channels = windows.shape[2]
    parts = windows.view(-1, height // window, width // window, window, window, channels)
    return parts.transpose(2, 3).reshape(-1, height, width, channels)
