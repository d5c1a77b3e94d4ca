"""Deal of the scenes of a global batch over the processes of a training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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
    order: Sequence[int], sizes: Sequence[int], batch_size: int, ranks: int, parts: int = 1
) -> tuple[list[list[int]], list[int]]:
    """Cut an epoch into global batches and deal each.

    Args:
        order: numbers of all scenes, each once.
        sizes: voxels of each scene, by its number.
        batch_size: scenes of a global batch; the last one may have fewer.
        ranks: number of processes.
        parts: that a batch is worked on in, as `cut_evenly` cuts; each is dealt by itself.

    Returns:
        the batches: numbers of scenes.
        the process of each scene in this epoch, by its number.
    """
    batches = [list(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
    owners = [0] * len(sizes)
    for batch in (part for whole in batches for part in cut_evenly(whole, parts)):
        for scene, rank in zip(batch, deal_scenes([sizes[s] for s in batch], ranks), strict=True):
            owners[scene] = rank
    return batches, owners


def count_voxels(points: Tensor, voxel_size: float) -> int:
    """Number of voxels of this size, in metres, that (N, 3) points occupy."""
    cells = (points.double() / voxel_size).floor().long()  # (N, 3)
    return len(torch.unique(cells, dim=0))
