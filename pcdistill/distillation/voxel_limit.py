"""Limit on the voxels of a batch: what has more is worked on in parts, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.step_batches import BatchPlan, PreparedScene
from pcdistill.errors import ConfigError

_LOG = logging.getLogger(__name__)


class VoxelLimit:
    """Cutter of batches, by the voxels that their scenes have in this step in all processes.

    So the parts, and what batch norms make of them, are the same for any number of processes.
    """

    def __init__(self, limit: int, ranks: Ranks, names: Sequence[str]) -> None:
        """Take the limit.

        Args:
            limit: voxels of a part, of all processes together; 0 for none.
            ranks: the processes.
            names: of all scenes.
        """
        self._limit = limit
        self._ranks = ranks
        self._names = tuple(names)
        self._has_told = False
        self._too_large: set[int] = set()

    def require_room(self, sizes: Sequence[int]) -> None:
        """Refuse scenes that do not fit in by themselves.

        Args:
            sizes: voxels of each scene as it was scanned.

        Raises:
            ConfigError: one of them is larger than the limit.
        """
        largest = max(range(len(sizes)), key=lambda scene: sizes[scene])
        if self._limit and sizes[largest] > self._limit:
            raise ConfigError(
                f"distill.max_voxels_per_batch is {self._limit} but scene '{self._names[largest]}' "
                f"has {sizes[largest]} voxels, expected at most as many; raise it, or cut that "
                "scene, or make distill.voxel_size larger"
            )

    def cut(
        self, plan: BatchPlan, prepared: Sequence[PreparedScene]
    ) -> list[tuple[BatchPlan, list[PreparedScene]]]:
        """Cut a batch into as few parts as the limit allows, in its order; called by all processes.

        A scene that is larger than the limit, as augmentation may make it, is a part of its own.

        Args:
            plan: of the batch.
            prepared: its scenes that this process has, in their order.
        """
        if not self._limit or len(plan.numbers) == 1:
            return [(plan, list(prepared))]
        of_mine = iter(prepared)
        here = {place: next(of_mine) for place, mine in enumerate(plan.is_mine) if mine}
        voxels = torch.zeros(len(plan.numbers), dtype=torch.int64)
        for place, one in here.items():
            voxels[place] = 0 if one.cloud is None else len(one.cloud.voxels.coords)
        sizes = self._ranks.add(voxels).tolist()
        ends = cut_by_size(sizes, self._limit)
        self._tell(plan, sizes, len(ends))
        parts, first = [], 0
        for end in ends:
            own = [here[place] for place in range(first, end) if place in here]
            parts.append((plan.part(first, end), own))
            first = end
        return parts

    def _tell(self, plan: BatchPlan, sizes: Sequence[int], parts: int) -> None:
        """Say once that batches are cut, and once of each scene that it is too large."""
        if not self._ranks.is_first:
            return
        if parts > 1 and not self._has_told:
            self._has_told = True
            _LOG.warning(
                "a batch of %d scenes has %d voxels, more than distill.max_voxels_per_batch (%d): "
                "it is worked on in %d parts, and so are others like it; the gradient is that of "
                "the whole, batch norms take the statistics of a part",
                *(len(sizes), sum(sizes), self._limit, parts),
            )
        for number, size in zip(plan.numbers, sizes, strict=True):
            if size > self._limit and number not in self._too_large:
                self._too_large.add(number)
                _LOG.warning(
                    "scene %s: %d voxels as it was augmented, more than "
                    "distill.max_voxels_per_batch (%d); it is worked on by itself",
                    *(self._names[number], size, self._limit),
                )


def cut_by_size(sizes: Sequence[int], limit: int) -> list[int]:
    """Ends of the fewest runs of neighbours whose sizes add up to the limit at most.

    What is larger by itself is a run of its own.
    """
    ends: list[int] = []
    total = 0
    for place, size in enumerate(sizes):
        if place > (ends[-1] if ends else 0) and total + size > limit:
            ends.append(place)
            total = 0
        total += size
    return [*ends, len(sizes)]
