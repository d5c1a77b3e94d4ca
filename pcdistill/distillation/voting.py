"""Test-time augmentation: several looks at one cloud, each cut into other voxels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pcdistill.distillation.augmentation import augment_rotate_scale
from pcdistill.distillation.batches import StudentInput, even_shifts, make_voxel_batch


@dataclass(frozen=True)
class Looks:
    """Number of passes over a cloud, and how they differ."""

    count: int = 1
    """At least 1."""
    seed: int | None = None
    """Of the random turns and scales; None moves the cloud on the grid instead (`even_shifts`)."""

    def at(self, cloud: StudentInput) -> Iterator[StudentInput]:
        """Yield the cloud of each look.

        It is turned and scaled as OpenScene's loaders do, which augment in evaluation too; or moved
        on the grid, the first time not at all.

        Raises:
            ValueError: there is no look.
        """
        if self.count < 1:
            raise ValueError(f"the number of looks is {self.count}, expected at least 1")
        if self.seed is None:
            for shift in even_shifts(self.count):
                yield cloud._replace(grid_shift=shift)
            return
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.count):
            yield augment_rotate_scale(cloud, generator)


ONE_LOOK = Looks()


def voxel_features(
    points: Tensor, features: Tensor, seen: Tensor, voxel_size: float, looks: Looks
) -> tuple[Tensor, Tensor]:
    """Average features of points over looks, in each of which a voxel has those of its first point.

    Args:
        points: (N, 3) float, metres.
        features: (N, D) float.
        seen: (N,) bool, points that have a feature; the others count as zero.
        voxel_size: metres.
        looks: how the cloud is looked at.

    Returns:
        features: (N, D) float32.
        seen: (N,) bool, points whose voxel had a feature in the last look.

    Source: OpenScene, dataset/feature_loader.py and run/evaluate.py (feature_type "fusion"): of its
    runs, too, the last one says what has no feature.
    """
    known = features.float() * seen[:, None]  # (N, D)
    total, visible = torch.zeros_like(known), seen
    for first in speaking_points(points, voxel_size, looks):
        total += known[first]
        visible = seen[first]  # (N,) bool
    return total / looks.count, visible


def speaking_points(points: Tensor, voxel_size: float, looks: Looks) -> Iterator[Tensor]:
    """Yield for every look (N,) int64: of each point the first one in its voxel."""
    for look in looks.at(StudentInput(points)):
        batch = make_voxel_batch([look], voxel_size)
        yield batch.representative[0][batch.point_to_voxel[0]]
