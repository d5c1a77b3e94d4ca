"""Dense teachers of the text encoder's own model: unit features of single patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.errors import ConfigError
from pcdistill.teachers.base import FeatureMap, TeacherSetup
from pcdistill.teachers.patches.network import PatchNetwork

SHORT_SIDE = 512
"""Pixels of the shorter side of the input, about: MaskCLIP's for COCO-Stuff (2048 x 512, ratio
kept)."""
VERSION = 1
"""Of how an image is looked at: other features need another one."""


class ImageTextEncoder(Protocol):
    """A text encoder whose model has an image side with patches in the same space."""

    name: str
    text_space: str
    dimensions: int
    dense_teacher: str
    """Name of the teacher that reads the image side."""

    @property
    def provenance(self) -> dict[str, str]:
        """File, revision, license and training of the weights, which are those of both sides."""
        ...

    def load_image_side(self) -> PatchNetwork:
        """Read the image side, in float32 on the CPU."""
        ...


class PatchTeacher:
    """Features of single patches by the image side of the run's own text encoder.

    An image is resized with its aspect ratio to a shorter side of about 512 pixels and padded to
    whole patches; the features keep the resolution of the patches, in half precision. On a GPU the
    network computes in half precision too. Weights are read at the first image.

    Source: Zhou et al., Extract Free Dense Labels from CLIP, ECCV 2022.
    """

    def __init__(self, name: str, example: str, setup: TeacherSetup) -> None:
        """Find the weights of the text encoder.

        Args:
            name: of the teacher.
            example: a text encoder whose image side it reads, for the message.
            setup: of the run.

        Raises:
            ConfigError: the run's text encoder has no image side that this teacher reads, or its
                weights are not on this machine.
        """
        if getattr(setup.text_encoder, "dense_teacher", None) != name:
            raise ConfigError(
                f"teacher '{name}' reads the image side of the run's text encoder, such as "
                f"'{example}', but that of the run gives '{setup.text_encoder.text_space}'; change "
                "run.teachers or run.text_encoder"
            )
        self._encoder = cast(ImageTextEncoder, setup.text_encoder)
        self._device = setup.device
        self.name = name
        self.text_space = self._encoder.text_space
        self.dimensions = self._encoder.dimensions
        self.provenance = dict(self._encoder.provenance)
        self.provenance["revision"] += f"/{name}/{VERSION}"

    def __call__(self, image: Tensor) -> FeatureMap:
        """See a (3, H, W) uint8 image."""
        return self.predict_batch(image[None])[0]

    def predict_batch(self, images: Tensor) -> Sequence[FeatureMap]:
        """See (B, 3, H, W) uint8 images."""
        size = (images.shape[2], images.shape[3])
        network = self._network
        with torch.inference_mode():
            prepared, covered = prepare_images(images.to(self._device), network.patch)
            features = network(prepared).half()
        reach = None if covered == (float(size[0]), float(size[1])) else covered
        return [FeatureMap(one, size, covered=reach) for one in features]

    @cached_property
    def _network(self) -> PatchNetwork:
        network = self._encoder.load_image_side().to(self._device)
        return network.half() if self._device.type == "cuda" else network


def prepare_images(images: Tensor, patch: int) -> tuple[Tensor, tuple[float, float]]:
    """Resize images with their aspect ratio and pad them to whole patches.

    The shorter side is the multiple of the patch next to `SHORT_SIDE`, but never so long that there
    are more patches than pixels. The padding repeats the border and lies below and to the right.

    Args:
        images: (B, 3, H, W) uint8.
        patch: pixels along a side of a patch.

    Returns:
        images: (B, 3, H', W') float32 in [0, 1].
        covered: (H, W) pixels of the image that these span, padding included.
    """
    height, width = images.shape[2], images.shape[3]
    short = min(height, width)
    scale = patch * min(max(1, round(SHORT_SIDE / patch)), short) / short
    resized = (max(1, round(height * scale)), max(1, round(width * scale)))
    pad = (-resized[0] % patch, -resized[1] % patch)
    inside = functional.interpolate(
        images.float(), resized, mode="bicubic", align_corners=False, antialias=True
    )
    padded = functional.pad(inside / 255, (0, pad[1], 0, pad[0]), mode="replicate")
    covered = (
        (resized[0] + pad[0]) * height / resized[0],
        (resized[1] + pad[1]) * width / resized[1],
    )
    return padded.clamp(0, 1), covered
