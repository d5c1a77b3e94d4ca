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
    parts: Sequence[StepBatch], limit: int, generator: torch.Generator, ranks: Ranks
) -> list[LossVoxels]:
    """Choose voxels whose representative point is seen, at most `limit` in all parts of a step.

    They are drawn from those of all processes, by every process alike.

    Args:
        parts: scenes and voxels of this process, in the parts that are worked on one by one.
        limit: of all parts and processes together; 0 takes all.
        generator: of the draw; the same in every process.
        ranks: the processes.

    Returns:
        the voxels of each part; their shares are those of the whole step.
    """
    seen = [_seen_voxels(part) for part in parts]  # of each part and scene (V of it,) bool
    kept = _draw(parts, seen, limit, generator, ranks)
    found, places = [], []
    for part, of_scenes, chosen in zip(parts, seen, kept, strict=True):
        scenes, batch, _ = part
        first_points = _running_starts([len(scene.points) for scene in scenes])
        points = torch.cat(  # (V,) int64 in [0, N)
            [r + first for r, first in zip(batch.representative, first_points, strict=True)]
        )
        voxels = torch.cat(of_scenes).nonzero()[:, 0]  # (R,) int64 in [0, V)
        voxels = voxels if chosen is None else voxels[chosen.to(voxels.device)]
        points = points[voxels]
        found.append((voxels, points))
        places.append(_superpoints(scenes, points.device)[points])
    shares = _shares(places, ranks)
    return [
        LossVoxels(*one, superpoints, share)
        for one, superpoints, share in zip(found, places, shares, strict=True)
    ]


def _seen_voxels(part: StepBatch) -> list[Tensor]:
    """Of each scene (V of it,) bool: whether the point that stands for the voxel is seen."""
    device = part.batch.coords.device
    pairs = zip(part.scenes, part.batch.representative, strict=True)
    return [scene.seen.to(device)[representative] for scene, representative in pairs]


def _draw(
    parts: Sequence[StepBatch],
    seen: Sequence[Sequence[Tensor]],
    limit: int,
    generator: torch.Generator,
    ranks: Ranks,
) -> list[Tensor | None]:
    """Of each part (R before,) bool, which of its seen voxels are drawn; None for all of them."""
    everything: list[Tensor | None] = [None] * len(parts)
    if not limit:
        return everything
    is_mine = [mine for part in parts for mine in part.is_mine]
    counts = torch.zeros(len(is_mine), dtype=torch.int64)  # seen voxels of each scene
    if any(is_mine):
        here = [
            int(s.sum()) for part, own in zip(parts, seen, strict=True) for s in _own(part, own)
        ]
        counts[torch.tensor(is_mine)] = torch.tensor(here)
    of_scene = ranks.add(counts).tolist()
    if sum(of_scene) <= limit:
        return everything
    drawn = torch.randperm(sum(of_scene), generator=generator)[:limit]  # (limit,)
    kept = torch.zeros(sum(of_scene), dtype=torch.bool)
    kept[drawn] = True
    of_scenes = iter(torch.split(kept, of_scene))
    chosen: list[Tensor | None] = []
    for part in parts:
        own = [(is_here, next(of_scenes)) for is_here in part.is_mine]
        mine = [one for is_here, one in own if is_here]
        chosen.append(torch.cat(mine) if mine else None)
    return chosen


def _own(part: StepBatch, of_scenes: Sequence[Tensor]) -> Sequence[Tensor]:
    """What belongs to scenes that this process has: nothing, where it has only a stand-in."""
    return of_scenes if any(part.is_mine) else ()


def _shares(superpoints: Sequence[Tensor], ranks: Ranks) -> list[tuple[float, float]]:
    """What each part has of all rows and of their superpoints.

    Args:
        superpoints: of each part (R of it,), the superpoint of each row.
        ranks: the processes.
    """
    if ranks.is_alone and len(superpoints) == 1:
        return [(1.0, 1.0)]
    counts = [n for ids in superpoints for n in (len(ids), len(torch.unique(ids)))]
    totals = ranks.gather(counts).view(-1, len(superpoints), 2).sum(dim=(0, 1)).tolist()
    pairs = zip(counts[::2], counts[1::2], strict=True)
    return [(rows / max(1, totals[0]), own / max(1, totals[1])) for rows, own in pairs]


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
