"""Pixel decoder of SEEM: a transformer encoder on the coarsest features, then an FPN.

Source: MaskFormer's `TransformerEncoderPixelDecoder`; no deformable attention. Names of the weights
as in SEEM's checkpoints (`sem_seg_head.pixel_decoder.*`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from pcdistill.teachers.seem.attention import EncoderLayer, sine_positions

GROUPS = 32


class PixelFeatures(NamedTuple):
    """What the pixel decoder makes of an image."""

    mask_features: Tensor
    """(B, C, H / 4, W / 4): a mask is the product of these and a query's mask embedding."""
    levels: tuple[Tensor, ...]
    """(B, C, h, w) at strides 32, 16 and 8: what the queries attend to."""
    encoded: Tensor
    """(B, C, H / 32, W / 32) after the transformer encoder."""


class _NormedConv(nn.Conv2d):
    """Convolution without bias, its norm inside, as detectron2 names them."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, channels_out)

    def forward(self, input: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(input))
        return normed


class _Encoder(nn.Module):
    def __init__(self, channels: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(channels, heads, hidden) for _ in range(layers))


class _Transformer(nn.Module):
    def __init__(self, channels: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.encoder = _Encoder(channels, heads, hidden, layers)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        cells = features.flatten(2).transpose(1, 2)
        positions = sine_positions(features.shape[2], features.shape[3], cells)
        for layer in self.encoder.layers:
            cells = layer(cells, positions)
        return cells.transpose(1, 2).reshape(features.shape)


class PixelDecoder(nn.Module):
    """Features of a backbone -> features of masks, and of three levels to attend to."""

    def __init__(
        self, backbone_channels: Sequence[int], channels: int, heads: int, hidden: int, layers: int
    ) -> None:
        """Create the layers.

        Args:
            backbone_channels: of the features at strides 4, 8, 16 and 32.
            channels: C of the result.
            heads: of the encoder's attention.
            hidden: width of its feed-forward nets.
            layers: of the encoder.
        """
        super().__init__()
        self.input_proj = nn.Conv2d(backbone_channels[3], channels, 1)
        self.transformer = _Transformer(channels, heads, hidden, layers)
        self.layer_4 = _NormedConv(channels, channels, 3)
        self.adapter_3 = _NormedConv(backbone_channels[2], channels, 1)
        self.layer_3 = _NormedConv(channels, channels, 3)
        self.adapter_2 = _NormedConv(backbone_channels[1], channels, 1)
        self.layer_2 = _NormedConv(channels, channels, 3)
        self.adapter_1 = _NormedConv(backbone_channels[0], channels, 1)
        self.layer_1 = _NormedConv(channels, channels, 3)
        self.mask_features = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> PixelFeatures:
        """See the backbone's features at strides 4, 8, 16 and 32."""
        encoded = self.transformer(self.input_proj(features[3]))
        finest = functional.relu(self.layer_4(encoded))
        levels = [finest]
        steps = (
            (self.adapter_3, self.layer_3, features[2]),
            (self.adapter_2, self.layer_2, features[1]),
            (self.adapter_1, self.layer_1, features[0]),
        )
        for adapter, layer, level in steps:
            size = (level.shape[2], level.shape[3])
            upsampled = functional.interpolate(finest, size=size, mode="nearest")
            finest = functional.relu(layer(adapter(level) + upsampled))
            levels.append(finest)
        return PixelFeatures(self.mask_features(finest), tuple(levels[:3]), encoded)
