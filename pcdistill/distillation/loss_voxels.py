"""Voxels of a step that the losses use, drawn from those of all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.losses import DistillationLosses
from pcdistill.distillation.step_batches import StepBatch


class LossVoxels(NamedTuple):
    """R voxels of a batch that take part in its losses."""

    voxels: Tensor
    """(R,) int64 in [0, V), rows of the student's output."""
    points: Tensor
    """(R,) int64 in [0, N), the point that stands for each, counted through the whole batch."""
    superpoints: Tensor
    """(R,) int64 in [0, S), the superpoint of each, counted through the whole batch."""
    shares: tuple[float, float]
    """Which part of these voxels of all processes, and of their superpoints, is here."""

    def global_mean(self, losses: DistillationLosses) -> Tensor:
        """() what this process has of the two means over all processes."""
        return losses.point * self.shares[0] + losses.superpoint * self.shares[1]


def choose_voxels(
    step: StepBatch,
    is_mine: Sequence[bool],
    limit: int,
    generator: torch.Generator,
    ranks: Ranks,
) -> LossVoxels:
    """Choose voxels whose representative point is seen, at most `limit`.

    They are drawn from those of all processes, by every process alike.

    Args:
        step: scenes and voxels of this process.
        is_mine: of all scenes of the global batch, which this process has.
        limit: of all processes together; 0 takes all.
        generator: of the draw; the same in every process.
        ranks: the processes.
    """
    scenes, batch = step
    device = batch.coords.device
    first_points = _running_starts([len(scene.points) for scene in scenes])
    seen = [  # of each scene (V of it,) bool
        s.seen.to(device)[r] for s, r in zip(scenes, batch.representative, strict=True)
    ]
    points = torch.cat(  # (V,) int64 in [0, N)
        [r + first for r, first in zip(batch.representative, first_points, strict=True)]
    )
    voxels = torch.cat(seen).nonzero()[:, 0]  # (R,) int64 in [0, V)
    if limit:
        counts = torch.zeros(len(is_mine), dtype=torch.int64)  # seen voxels of each scene
        if any(is_mine):
            counts[torch.tensor(is_mine)] = torch.tensor([int(part.sum()) for part in seen])
        of_scene = ranks.add(counts).tolist()
        if sum(of_scene) > limit:
            drawn = torch.randperm(sum(of_scene), generator=generator)[:limit]  # (limit,)
            kept = torch.zeros(sum(of_scene), dtype=torch.bool)
            kept[drawn] = True
            parts = zip(torch.split(kept, of_scene), is_mine, strict=True)
            here = [part for part, mine in parts if mine]
            voxels = voxels[torch.cat(here).to(device)] if here else voxels
    points = points[voxels]
    superpoints = _superpoints(scenes, device)[points]
    return LossVoxels(voxels, points, superpoints, _shares(superpoints, ranks))


def _shares(superpoints: Tensor, ranks: Ranks) -> tuple[float, float]:
    """Which part of the rows, whose superpoints (R,) are given, and of these is here."""
    if ranks.is_alone:
        return 1.0, 1.0
    rows, distinct = ranks.shares(len(superpoints), len(torch.unique(superpoints)))
    return rows, distinct


def _superpoints(scenes: Sequence[TrainingScene], device: torch.device) -> Tensor:
    """(N,) int64 in [0, S): superpoint of each point, counted through the whole batch."""
    first = _running_starts([len(scene.superpoint_means) for scene in scenes])
    return torch.cat([s.superpoint_ids.to(device) + f for s, f in zip(scenes, first, strict=True)])


def _running_starts(sizes: Sequence[int]) -> list[int]:
    """Sum of all sizes before each."""
    starts = [0]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    return starts
