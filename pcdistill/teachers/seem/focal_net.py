"""FocalNet backbone with layer scale and norms behind each branch, as SEEM uses it.

Source: Yang et al., Focal Modulation Networks, NeurIPS 2022; names of the weights as in SEEM's
checkpoints (`backbone.*`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

FOCAL_LEVELS = 4
FIRST_KERNEL = 3
"""Pixels; the kernel of level l is this plus 2 l."""


class FocalModulation(nn.Module):
    """Modulates every position by a gated sum of its surroundings at several ranges."""

    def __init__(self, channels: int) -> None:
        """Create the layers for that many channels."""
        super().__init__()
        self.f = nn.Linear(channels, 2 * channels + FOCAL_LEVELS + 1)
        self.h = nn.Conv2d(channels, channels, 1)
        self.proj = nn.Linear(channels, channels)
        kernels = [FIRST_KERNEL + 2 * level for level in range(FOCAL_LEVELS)]
        self.focal_layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels, bias=False),
                nn.GELU(),
            )
            for k in kernels
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        channels = features.shape[-1]
        mixed = self.f(features).permute(0, 3, 1, 2)
        query, context, gates = mixed.split((channels, channels, FOCAL_LEVELS + 1), dim=1)
        total = torch.zeros_like(query)
        for level, layer in enumerate(self.focal_layers):
            context = layer(context)
            total = total + context * gates[:, level : level + 1]
        whole_image = functional.gelu(context.mean(dim=(2, 3), keepdim=True))
        total = (total + whole_image * gates[:, FOCAL_LEVELS:]) / (FOCAL_LEVELS + 1)
        modulated: Tensor = self.proj((query * self.h(total)).permute(0, 2, 3, 1))
        return modulated


class _FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.fc2(functional.gelu(self.fc1(features)))
        return result


class FocalBlock(nn.Module):
    """Focal modulation, then a feed-forward net, each normalized, scaled and added."""

    def __init__(self, channels: int) -> None:
        """Create the layers for that many channels."""
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.ones(channels))
        self.gamma_2 = nn.Parameter(torch.ones(channels))
        self.norm1 = nn.LayerNorm(channels)
        self.modulation = FocalModulation(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _FeedForward(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        features = features + self.gamma_1 * self.norm1(self.modulation(features))
        result: Tensor = features + self.gamma_2 * self.norm2(self.mlp(features))
        return result


class PatchEmbedding(nn.Module):
    """Strided convolution, then a norm over the channels."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        """Create the layers.

        Args:
            channels_in: of the input.
            channels_out: of the result.
            kernel: pixels.
            stride: pixels; the padding is (kernel - 1) // 2, but 2 for the stem's 7.
        """
        super().__init__()
        padding = 2 if stride == 4 else 1
        self.proj = nn.Conv2d(channels_in, channels_out, kernel, stride, padding)
        self.norm = nn.LayerNorm(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, C')."""
        result: Tensor = self.norm(self.proj(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return result


class _Stage(nn.Module):
    def __init__(self, channels: int, depth: int, *, is_last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FocalBlock(channels) for _ in range(depth))
        self.downsample = None if is_last else PatchEmbedding(channels, 2 * channels, 3, 2)

    def forward(self, features: Tensor) -> Tensor:
        for block in self.blocks:
            features = block(features)
        return features


class FocalNet(nn.Module):
    """Four stages of focal blocks; the features of each, at strides 4, 8, 16 and 32."""

    def __init__(self, channels: int, depths: Sequence[int]) -> None:
        """Create the layers.

        Args:
            channels: of the first stage; each next one has twice as many.
            depths: blocks of the four stages.
        """
        super().__init__()
        self.patch_embed = PatchEmbedding(3, channels, 7, 4)
        widths = [channels << stage for stage in range(len(depths))]
        self.layers = nn.ModuleList(
            _Stage(width, depth, is_last=width == widths[-1])
            for width, depth in zip(widths, depths, strict=True)
        )
        for stage, width in enumerate(widths):
            self.add_module(f"norm{stage}", nn.LayerNorm(width))

    def forward(self, images: Tensor) -> list[Tensor]:
        """See (B, 3, H, W) normalized images, H and W multiples of 32.

        Returns:
            Of each stage (B, C 2^s, H / 2^(s + 2), W / 2^(s + 2)).
        """
        features = self.patch_embed(images.permute(0, 2, 3, 1))
        levels = []
        for number, stage in enumerate(cast(Iterable[_Stage], self.layers)):
            features = stage(features)
            normalized = self.get_submodule(f"norm{number}")(features)
            levels.append(normalized.permute(0, 3, 1, 2))
            if stage.downsample is not None:
                features = stage.downsample(features)
        return levels
