"""LSeg's image network: a ViT and a dense prediction head into the space of CLIP's texts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.teachers.lseg.vision_transformer import VisionTransformer

MULTIPLE = 32
"""Pixels that both sides of an image must be a multiple of."""
STRIDE = 2
"""Pixels of the image along a side of a cell of the features."""


class LSegSizes(NamedTuple):
    """Sizes of the network; the defaults are those of `demo_e200.ckpt`."""

    width: int = 1024
    depth: int = 24
    heads: int = 16
    grid: int = 24
    patch: int = 16
    taps: tuple[int, int, int, int] = (5, 11, 17, 23)
    reassemble: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    """Channels of the four levels, finest first."""
    fusion: int = 256
    """Channels of the head."""
    dimensions: int = 512
    """Channels of the features, those of CLIP's texts."""


class ProjectReadout(nn.Module):
    """Mixes the class token into every patch token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) of (B, 1 + N, D)."""
        patches = tokens[:, 1:]
        mixed: Tensor = self.project(torch.cat([patches, tokens[:, :1].expand_as(patches)], dim=2))
        return mixed


class Reassemble(nn.ModuleDict):
    """Turns tokens into a map of one level; the keys are the positions in the official list."""

    def __init__(self, width: int, channels: int, resize: nn.Module | None) -> None:
        parts: dict[str, nn.Module] = {
            "0": ProjectReadout(width),
            "3": nn.Conv2d(width, channels, 1),
        }
        if resize is not None:
            parts["4"] = resize
        super().__init__(parts)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, C, h', w') of (B, 1 + h * w, D) and the (h, w) of its patches."""
        as_map = self["0"](tokens).transpose(1, 2).unflatten(2, grid)
        level: Tensor = self["3"](as_map)
        if "4" in self:
            level = self["4"](level)
        return level


class Encoder(nn.Module):
    """The ViT, and the reassembly of its tokens into four levels."""

    def __init__(self, sizes: LSegSizes) -> None:
        super().__init__()
        self.model = VisionTransformer(
            sizes.width, sizes.depth, sizes.heads, sizes.grid, sizes.patch, sizes.taps
        )
        fine, middle, same, coarse = sizes.reassemble
        self.act_postprocess1 = Reassemble(
            sizes.width, fine, nn.ConvTranspose2d(fine, fine, 4, stride=4)
        )
        self.act_postprocess2 = Reassemble(
            sizes.width, middle, nn.ConvTranspose2d(middle, middle, 2, stride=2)
        )
        self.act_postprocess3 = Reassemble(sizes.width, same, None)
        self.act_postprocess4 = Reassemble(
            sizes.width, coarse, nn.Conv2d(coarse, coarse, 3, stride=2, padding=1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Levels at 1/4, 1/8, 1/16 and 1/32 of the resolution of (B, 3, H, W) images."""
        grid = (images.shape[2] // self.model.patch, images.shape[3] // self.model.patch)
        steps = (
            self.act_postprocess1,
            self.act_postprocess2,
            self.act_postprocess3,
            self.act_postprocess4,
        )
        return [step(tokens, grid) for step, tokens in zip(steps, self.model(images), strict=True)]


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with batch norm, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, h, w) of (B, C, h, w)."""
        changed = self.bn1(self.conv1(functional.relu(values)))
        changed = self.bn2(self.conv2(functional.relu(changed)))
        total: Tensor = changed + values
        return total


class Fusion(nn.Module):
    """Adds a level to the coarser path and doubles the resolution (a block of RefineNet)."""

    def __init__(self, channels: int, *, with_level: bool = True) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        if with_level:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)

    def forward(self, path: Tensor, level: Tensor | None = None) -> Tensor:
        """(B, C, 2h, 2w) of (B, C, h, w)."""
        if level is not None:
            path = path + self.resConfUnit1(level)
        doubled = functional.interpolate(
            self.resConfUnit2(path), scale_factor=2, mode="bilinear", align_corners=True
        )
        projected: Tensor = self.out_conv(doubled)
        return projected


class Head(nn.Module):
    """Fuses four levels into features at half the image's resolution.

    The official coarsest block also owns a unit for a level that it never gets; here it has none.
    """

    def __init__(self, sizes: LSegSizes) -> None:
        super().__init__()
        wide = sizes.fusion
        one, two, three, four = (
            nn.Conv2d(channels, wide, 3, padding=1, bias=False) for channels in sizes.reassemble
        )
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = one, two, three, four
        self.refinenet1 = Fusion(wide)
        self.refinenet2 = Fusion(wide)
        self.refinenet3 = Fusion(wide)
        self.refinenet4 = Fusion(wide, with_level=False)
        self.head1 = nn.Conv2d(wide, sizes.dimensions, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(B, 512, H / 2, W / 2), not normalized, of the encoder's levels."""
        fine, middle, same, coarse = levels
        path = self.refinenet4(self.layer4_rn(coarse))
        path = self.refinenet3(path, self.layer3_rn(same))
        path = self.refinenet2(path, self.layer2_rn(middle))
        path = self.refinenet1(path, self.layer1_rn(fine))
        raw: Tensor = self.head1(path)
        return raw


class LSegNetwork(nn.Module):
    """Features of images in the text space of CLIP ViT-B/32; random until weights are loaded.

    Source: Li et al., Language-driven Semantic Segmentation, ICLR 2022; parameters carry the names
    of isl-org/lang-seg. Its text tower is the frozen one of CLIP and is not part of this module.
    """

    def __init__(self, sizes: LSegSizes | None = None) -> None:
        super().__init__()
        sizes = sizes or LSegSizes()
        self.pretrained = Encoder(sizes)
        self.scratch = Head(sizes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 512, H / 2, W / 2) float32 of unit length along the channels.

        Args:
            images: (B, 3, H, W) from `prepare_images`; H and W multiples of 32.

        Raises:
            ValueError: a side is not a multiple of 32.
        """
        return functional.normalize(self.raw_features(images), dim=1)

    def raw_features(self, images: Tensor) -> Tensor:
        """(B, 512, H / 2, W / 2) float32 before they are given unit length; arguments as above."""
        height, width = images.shape[2:]
        if height % MULTIPLE or width % MULTIPLE or not height or not width:
            raise ValueError(f"images have {width}x{height} pixels, expected multiples of 32")
        images = images.to(self.pretrained.model.cls_token.dtype)
        raw: Tensor = self.scratch(self.pretrained(images))
        return raw.float()


def prepare_images(images: Tensor) -> Tensor:
    """The network's input (B, 3, H, W) float32 in [-1, 1] of (B, 3, H, W) uint8 RGB images."""
    return images.float() / 127.5 - 1
