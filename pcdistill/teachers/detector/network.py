"""NanoDet-g, a one-stage detector of the 80 COCO classes: backbone, neck, a head per level.

Every convolution has a bias (batch norms are folded in) and, but for the neck and the last of each
head, a leaky ReLU. Modules stand in the order in which they compute.

Source: RangiLyu/nanodet (Apache-2.0), the configuration `nanodet-g`; Li et al., Generalized Focal
Loss, NeurIPS 2020, for what the head says.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.atomic_io import require_readable
from pcdistill.errors import ArtifactError, UnreadableError, file_trouble

CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)
"""Names of the score channels, as COCO has them."""
STRIDES = (8, 16, 32)
"""Pixels of the input per cell of each level, finest first."""
INPUT_SIZE = 416
"""Side of the square input, pixels."""
BINS = 11
"""Of the distribution of each side's distance: 0 to 10 strides."""

_SLOPE = 0.1
_MEAN = (103.53, 116.28, 123.675)
_DEVIATION = (57.375, 57.12, 58.395)
"""Of the channels blue, green, red in [0, 255]."""


class Level(NamedTuple):
    """What the head says of every cell of one level, row by row from the top left."""

    scores: Tensor
    """(B, cells, 80) float32 in [0, 1], one sigmoid a class."""
    distances: Tensor
    """(B, cells, 4 * 11) float32, logits of the distances to the left, top, right and bottom."""
    stride: int
    """Pixels of the input per cell."""


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.LeakyReLU(_SLOPE, inplace=True)
    )


class _Block(nn.Module):
    """Two convolutions; their results side by side, the later one first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels // 2)
        self.second = _convolution(channels // 2, channels // 2)

    def forward(self, values: Tensor) -> Tensor:
        once = self.first(values)
        return torch.cat([self.second(once), once], dim=1)


class _Stage(nn.Module):
    """Splits and joins: what went through the blocks, beside what entered them."""

    def __init__(self, inputs: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.entry = _convolution(inputs, channels, stride)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.exit = _convolution(channels, channels)

    def forward(self, values: Tensor) -> Tensor:
        entered = self.entry(values)
        return torch.cat([self.exit(self.blocks(entered)), entered], dim=1)


class Backbone(nn.Module):
    """Cross-stage partial network: features of 128, 256 and 512 channels at `STRIDES`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, 32, 2), nn.MaxPool2d(3, 2, padding=1))
        self.stage4 = _Stage(32, 32, blocks=1, stride=1)
        self.stage8 = _Stage(64, 64, blocks=2, stride=2)
        self.stage16 = _Stage(128, 128, blocks=2, stride=2)
        self.stage32 = _Stage(256, 256, blocks=3, stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of (B, 3, H, W), finest first."""
        at8 = self.stage8(self.stage4(self.stem(images)))
        at16 = self.stage16(at8)
        return at8, at16, self.stage32(at16)


class Neck(nn.Module):
    """Adds coarse levels to finer ones, then these back, each with 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral32 = nn.Conv2d(512, 128, 1)
        self.lateral16 = nn.Conv2d(256, 128, 1)
        self.lateral8 = nn.Conv2d(128, 128, 1)

    def forward(self, at8: Tensor, at16: Tensor, at32: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Levels of 128 channels, finest first, of those of the backbone."""
        down32 = self.lateral32(at32)
        down16 = self.lateral16(at16)
        down16 = down16 + _resize_like(down32, down16)
        down8 = self.lateral8(at8)
        down8 = down8 + _resize_like(down16, down8)
        up16 = down16 + _resize_like(down8, down16)
        up32 = down32 + _resize_like(up16, down32)
        return down8, up16, up32


class Head(nn.Module):
    """One level: scores of the classes and distances of the four sides for each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = _convolution(128, 128)
        self.output = nn.Conv2d(128, len(CLASSES) + 4 * BINS, 1)

    def forward(self, values: Tensor) -> Tensor:
        """(B, cells, 124) of features (B, 128, h, w)."""
        raw: Tensor = self.output(self.hidden(values))
        return raw.flatten(2).transpose(1, 2)


class NanoDet(nn.Module):
    """The detector; frozen weights come from `load_nanodet`."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Neck()
        self.head32 = Head()
        self.head16 = Head()
        self.head8 = Head()

    def forward(self, images: Tensor) -> tuple[Level, Level, Level]:
        """Levels, finest first, of (B, 3, 416, 416) float images from `prepare_images`."""
        at8, at16, at32 = self.neck(*self.backbone(images))
        raw = (self.head8(at8), self.head16(at16), self.head32(at32))
        fine, middle, coarse = (
            Level(one[..., : len(CLASSES)].sigmoid(), one[..., len(CLASSES) :], stride)
            for one, stride in zip(raw, STRIDES, strict=True)
        )
        return fine, middle, coarse


def _resize_like(values: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(values, other.shape[2:], mode="bilinear", align_corners=False)


def prepare_images(images: Tensor) -> Tensor:
    """The network's input (B, 3, 416, 416) float32 of (B, 3, H, W) uint8 RGB images.

    The aspect ratio is not kept; larger images are averaged as they shrink.
    """
    pixels = functional.interpolate(
        images.float(), (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True
    )
    mean, deviation = (pixels.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (pixels.flip(1) - mean) / deviation


def load_nanodet(path: Path) -> NanoDet:
    """Read weights in half precision; the network is frozen, in float32.

    Raises:
        ArtifactError: the file is missing, damaged or of another network.
        UnreadableError: it cannot be read.
    """
    try:
        require_readable(path)
    except FileNotFoundError:
        pass  # told below
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    network = NanoDet()
    try:
        with safe_open(path, framework="pt") as archive:
            weights = {key: archive.get_tensor(key).float() for key in archive.keys()}  # noqa: SIM118
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtifactError(
            f"{path}: not the weights of the detector ({error}); install pcdistill again"
        ) from None
    return network.eval().requires_grad_(False)
