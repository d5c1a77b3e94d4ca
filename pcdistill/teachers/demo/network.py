"""Small convolutional network of both demo teachers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.atomic_io import require_readable
from pcdistill.errors import ArtifactError, UnreadableError, file_trouble


@dataclass(frozen=True)
class NetworkShape:
    """What fixes the tensors of a `DemoNetwork`."""

    channels: tuple[int, int, int, int]
    """Feature channels at 1/2, 1/4, 1/8 and 1/16 of the input."""
    outputs: int
    """Channels of the result."""
    input_size: tuple[int, int]
    """(H, W) pixels to which every image is resized."""


def _convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DemoNetwork(nn.Module):
    """A U-shaped convolutional network whose result has half the resolution of its input."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        c1, c2, c3, c4 = shape.channels
        self.stem = nn.Sequential(_convolution(3, c1, 2, 5), _convolution(c1, c1))
        self.down2 = nn.Sequential(_convolution(c1, c2, 2), _convolution(c2, c2))
        self.down3 = nn.Sequential(_convolution(c2, c3, 2), _convolution(c3, c3))
        self.down4 = nn.Sequential(_convolution(c3, c4, 2), _convolution(c4, c4))
        self.context = nn.Sequential(nn.Linear(c4, c4), nn.ReLU(inplace=True))
        self.up3 = _convolution(c4 + c3, c3)
        self.up2 = _convolution(c3 + c2, c2)
        self.up1 = _convolution(c2 + c1, c2)
        self.head = nn.Conv2d(c2, shape.outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, h, w) float images of the input size to (B, outputs, h/2, w/2)."""
        at2 = self.stem(images)
        at4 = self.down2(at2)
        at8 = self.down3(at4)
        at16 = self.down4(at8)
        at16 = at16 + self.context(at16.mean(dim=(2, 3)))[:, :, None, None]
        up8 = self.up3(torch.cat([_resize_like(at16, at8), at8], dim=1))
        up4 = self.up2(torch.cat([_resize_like(up8, at4), at4], dim=1))
        up2 = self.up1(torch.cat([_resize_like(up4, at2), at2], dim=1))
        result: Tensor = self.head(up2)
        return result


def _resize_like(values: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(values, other.shape[2:], mode="bilinear", align_corners=False)


def prepare_images(images: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Turn (B, 3, H, W) uint8 into the network's float input, resized by area averaging."""
    scaled = images.float() / 127.5 - 1
    if tuple(scaled.shape[2:]) != tuple(input_size):
        scaled = functional.interpolate(scaled, input_size, mode="area")
    return scaled


def save_network(path: Path, network: DemoNetwork, details: Mapping[str, Any]) -> None:
    """Write weights in half precision together with their shape and `details` (JSON values).

    The same values give the same file, byte by byte: there is one entry of metadata, because the
    order of several is left to chance.

    Args:
        path: of the file.
        network: whose weights are written.
        details: JSON values, stored beside the shape.
    """
    weights = {}
    for key, value in network.state_dict().items():
        keep = value.half() if value.is_floating_point() else value
        weights[key] = keep.contiguous()
    header = {"shape": asdict(network.shape), "details": dict(details)}
    save_file(weights, path, metadata={"network": json.dumps(header)})


def load_network(path: Path) -> tuple[DemoNetwork, dict[str, Any]]:
    """Read what `save_network` wrote; the network is frozen, in float32.

    Raises:
        ArtifactError: the file is missing or damaged.
        UnreadableError: it cannot be read.
    """
    try:
        require_readable(path)
    except FileNotFoundError:
        pass  # told below
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    try:
        with safe_open(path, framework="pt") as archive:
            header = archive.metadata() or {}
            weights = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
        known = json.loads(header["network"])
        values, details = known["shape"], known["details"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not the weights of an embedded teacher ({error}); install pcdistill again"
        ) from None
    shape = NetworkShape(
        channels=tuple(values["channels"]),
        outputs=values["outputs"],
        input_size=tuple(values["input_size"]),
    )
    network = DemoNetwork(shape)
    network.load_state_dict(
        {key: v.float() if v.is_floating_point() else v for key, v in weights.items()}
    )
    return network.eval().requires_grad_(False), details
