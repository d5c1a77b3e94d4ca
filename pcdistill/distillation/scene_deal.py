"""Deal of the scenes of a global batch over the processes of a training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pcdistill.errors import ConfigError


def deal_scenes(sizes: Sequence[int], ranks: int) -> list[int]:
    """Give each scene of a batch to a process, so that all have about as many voxels.

    The largest scene first, each to the process that has least so far: the most and the least that
    a process has differ by at most one scene. Nothing but the arguments decides, so that every
    process deals alike. While there are at least as many scenes as processes, each has one.

    Args:
        sizes: voxels of each scene of the batch.
        ranks: number of processes.

    Returns:
        the process of each scene, in [0, ranks).

    Source: Graham, Bounds on multiprocessing timing anomalies, 1969 (longest processing time).
    """
    loads = [0] * ranks
    owners = [0] * len(sizes)
    for scene in sorted(range(len(sizes)), key=lambda scene: -sizes[scene]):
        rank = loads.index(min(loads))
        owners[scene] = rank
        loads[rank] += max(1, sizes[scene])
    return owners


def cut_evenly(batch: Sequence[int], parts: int) -> list[list[int]]:
    """Cut a batch into parts, one after the other, whose sizes differ by one at most.

    Args:
        batch: numbers of scenes.
        parts: how many there are, or as many as there are scenes.
    """
    parts = min(parts, len(batch))
    ends = [len(batch) * part // parts for part in range(parts + 1)]
    return [list(batch[a:b]) for a, b in pairwise(ends)]


def deal_epoch(
    batches: Sequence[Sequence[int]], sizes: Sequence[int], ranks: int, parts: int = 1
) -> list[int]:
    """Deal the scenes of each batch of an epoch.

    Args:
        batches: numbers of scenes, each once.
        sizes: voxels of each scene, by its number.
        ranks: number of processes.
        parts: that a batch is worked on in, as `cut_evenly` cuts; each is dealt by itself.

    Returns:
        the process of each scene in this epoch, by its number.
    """
    owners = [0] * len(sizes)
    for batch in (part for whole in batches for part in cut_evenly(whole, parts)):
        for scene, rank in zip(batch, deal_scenes([sizes[s] for s in batch], ranks), strict=True):
            owners[scene] = rank
    return owners


def require_work(ranks: int, scenes: int, batch_size: int, parts: int) -> None:
    """Refuse processes that would have nothing to do.

    Args:
        ranks: number of processes.
        scenes: that are learned from.
        batch_size: scenes of a global batch.
        parts: that a batch is worked on in.

    Raises:
        ConfigError: there are more processes than scenes in a step, or in a part of one.
    """
    together = min(scenes, batch_size) // parts
    if 1 < ranks > together:
        part = f"each of the {parts} parts of a step" if parts > 1 else "each step"
        raise ConfigError(
            f"{ranks} processes share the scenes of {part}, of which there are "
            f"{together} (distill.batch_size: {batch_size}, {scenes} training "
            "scenes); start fewer processes, or raise distill.batch_size"
        )


def count_voxels(points: Tensor, voxel_size: float) -> int:
    """Number of voxels of this size, in metres, that (N, 3) points occupy."""
    cells = (points.double() / voxel_size).floor().long()  # (N, 3)
    return len(torch.unique(cells, dim=0))
