"""Deal of the scenes of a global batch over the processes of a training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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


def deal_epoch(
    order: Sequence[int], sizes: Sequence[int], batch_size: int, ranks: int
) -> tuple[list[list[int]], list[int]]:
    """Cut an epoch into global batches and deal each.

    Args:
        order: numbers of all scenes, each once.
        sizes: voxels of each scene, by its number.
        batch_size: scenes of a global batch; the last one may have fewer.
        ranks: number of processes.

    Returns:
        the batches: numbers of scenes.
        the process of each scene in this epoch, by its number.
    """
    batches = [list(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
    owners = [0] * len(sizes)
    for batch in batches:
        for scene, rank in zip(batch, deal_scenes([sizes[s] for s in batch], ranks), strict=True):
            owners[scene] = rank
    return batches, owners


def count_voxels(points: Tensor, voxel_size: float) -> int:
    """Number of voxels of this size, in metres, that (N, 3) points occupy."""
    cells = (points.double() / voxel_size).floor().long()  # (N, 3)
    return len(torch.unique(cells, dim=0))
