"""Frames of a `.sens` file, resized, with depth and colour on one pixel grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry import resize_intrinsics_openscene
from pcdistill.scenes.formats.sens import SensFile, SensRecord
from pcdistill.scenes.frames import check_camera, register_depth
from pcdistill.scenes.resampling import resize

_SAME_PLACE = 1e-5  # metres, and entries of a rotation

OPENSCENE_SIZE = (480, 640)
OPENSCENE_INTRINSICS = torch.tensor(
    [[577.870605, 0.0, 319.5], [0.0, 577.870605, 239.5], [0.0, 0.0, 1.0]], dtype=torch.float64
)
"""(3, 3) pixels of `OPENSCENE_SIZE`: the one camera OpenScene takes for every scan."""


@dataclass(frozen=True, eq=False)
class SensFrame:
    """One frame of a `.sens` file; its images are read and decoded when they are asked for."""

    name: str
    image_size: tuple[int, int]
    """(H, W), pixels, after resizing."""
    intrinsics: Tensor
    """(3, 3) float64, pixels, for `image_size`."""
    camera_to_world: Tensor
    """(4, 4) float64, metres, rigid."""
    file: SensFile
    record: SensRecord
    depth_scale: float
    """Counts per metre."""
    depth_to_image: Tensor | None
    """(4, 4) float64, metres, depth camera to this one; None stretches depth over the image."""

    def __post_init__(self) -> None:
        where = f"{self.file.path}, frame {self.name}"
        check_camera(where, self.intrinsics, self.camera_to_world)

    def image(self) -> Tensor:
        """(H, W, 3) uint8, red green blue.

        Raises:
            SceneError: the image is damaged.
        """
        return resize(self.file.color(self.record), self.image_size, "nearest-opencv")

    def depth(self) -> Tensor:
        """(H, W) float32, metres along the optical axis, 0 = unknown.

        Raises:
            SceneError: the image is damaged.
        """
        counts = self.file.depth_counts(self.record)
        depth = torch.from_numpy(counts.astype(np.float32) / np.float32(self.depth_scale))
        if self.depth_to_image is None:
            return resize(depth, self.image_size, "nearest-opencv")
        camera = self.file.header.depth_intrinsics
        identity = torch.eye(4, dtype=torch.float64)
        if float((self.depth_to_image - identity).abs().max()) < _SAME_PLACE:
            return register_depth(depth, camera, self.intrinsics, self.image_size)
        return reproject_depth(depth, camera, self.depth_to_image, self.intrinsics, self.image_size)


def subsampled_intrinsics(
    intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]
) -> Tensor:
    """Camera matrix of an image whose pixels were picked at floor(index * from / to).

    Picking moves the image by the part that floor cuts off: with from / to = p / q in lowest terms
    it is (q - 1) / 2q of an old pixel on average, 0 where every n-th pixel is picked.

    Args:
        intrinsics: (3, 3) float64, pixels, for images of `from_size`.
        from_size: (H, W) before.
        to_size: (H, W) after.

    Returns:
        (3, 3) float64; a copy.
    """
    resized = intrinsics.clone()
    for row, axis in ((0, 1), (1, 0)):
        before, after = from_size[axis], to_size[axis]
        steps = after // math.gcd(before, after)
        resized[row, 2] += (steps - 1) / (2 * steps)
        resized[row] *= after / before
    return resized


def openscene_intrinsics(image_size: tuple[int, int]) -> Tensor:
    """The (3, 3) float64 matrix OpenScene's preprocessing writes for images of `image_size`."""
    return resize_intrinsics_openscene(OPENSCENE_INTRINSICS, OPENSCENE_SIZE, image_size)


def reproject_depth(
    depth: Tensor,
    depth_intrinsics: Tensor,
    depth_to_image: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
) -> Tensor:
    """Depth as another camera beside the depth camera would measure it.

    Args:
        depth: (h, w) float32, metres, 0 = unknown.
        depth_intrinsics: (3, 3) float64, pixels, of `depth`.
        depth_to_image: (4, 4) float64, metres, depth camera to the other.
        intrinsics: (3, 3) float64, pixels, of the other camera.
        image_size: (H, W) of its images.

    Returns:
        (H, W) float32, metres: the nearest reading that falls on a pixel, 0 where none does. Where
        the images are finer than `depth`, readings fill blocks of pixels.
    """
    height, width = image_size
    v, u = torch.nonzero(depth > 0, as_tuple=True)
    metres = depth[v, u].double()
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=1).double()
    seen = (pixels @ torch.linalg.inv(depth_intrinsics).T) * metres[:, None]
    seen = seen @ depth_to_image[:3, :3].T + depth_to_image[:3, 3]
    in_front = seen[:, 2] > 0
    seen = seen[in_front]
    projected = seen @ intrinsics.T
    block = max(math.ceil(height / depth.shape[0]), math.ceil(width / depth.shape[1]))
    places = torch.round(projected[:, :2] / projected[:, 2:]).long()
    inside = (places >= 0).all(dim=1) & (places[:, 0] < width) & (places[:, 1] < height)
    places = places[inside] // block
    rows, columns = -(-height // block), -(-width // block)
    nearest = torch.full((rows * columns,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, places[:, 1] * columns + places[:, 0], seen[inside, 2], "amin")
    nearest[nearest.isinf()] = 0
    blocks = nearest.view(rows, columns)
    if block > 1:
        blocks = blocks.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
    return blocks[:height, :width].float().contiguous()
