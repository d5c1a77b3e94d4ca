"""Scenes of a training that are read when a step needs them; the last ones are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

from torch import Tensor

from pcdistill.distillation.batches import TrainingScene

KEPT_BYTES = 256 << 20
"""Of scenes that stay in memory after a step; a small training reads each of its scenes once."""


class SceneSource:
    """Scenes by their numbers, of which memory holds as many as a bound allows.

    What a scene is does not depend on when or how often it is read. Several threads may ask.
    """

    def __init__(
        self,
        names: Sequence[str],
        point_counts: Sequence[int],
        superpoint_counts: Sequence[int],
        load: Callable[[int], TrainingScene],
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """Take the names; nothing is read yet.

        Args:
            names: of the scenes.
            point_counts: number of points of each.
            superpoint_counts: number of superpoints of each.
            load: reads the scene of a number.
            kept_bytes: bound on what is kept of scenes that were read; files that are only mapped
                count, too.
        """
        self.names = tuple(names)
        self.point_counts = tuple(point_counts)
        self.superpoint_counts = tuple(superpoint_counts)
        self._load = load
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[int, TrainingScene] = OrderedDict()  # least recently used first
        self._used_bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, scenes: Sequence[TrainingScene]) -> SceneSource:
        """Scenes that are in memory anyway."""
        names = [scene.name for scene in scenes]
        points = [len(scene.points) for scene in scenes]
        superpoints = [len(scene.superpoint_means) for scene in scenes]
        return cls(names, points, superpoints, scenes.__getitem__, kept_bytes=0)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> TrainingScene:
        """The scene of a number from 0.

        Raises:
            ValueError: it has another number of points or superpoints than was said.
            PcdistillError: what it is read from is missing or damaged.
        """
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        scene = self._load(number)
        found = len(scene.points), len(scene.superpoint_means)
        expected = self.point_counts[number], self.superpoint_counts[number]
        if found != expected:
            raise ValueError(
                f"scene '{scene.name}' has {found[0]} points and {found[1]} superpoints, expected "
                f"{expected[0]} and {expected[1]}"
            )
        self._keep(number, scene)
        return scene

    @cached_property
    def sees_color(self) -> bool:
        """Whether the student sees colours; the same for all scenes."""
        return self[0].colors is not None

    def _keep(self, number: int, scene: TrainingScene) -> None:
        size = _size(scene)
        if size > self._kept_bytes:
            return
        with self._lock:
            if number not in self._kept:
                self._used_bytes += size
            self._kept[number] = scene
            while self._used_bytes > self._kept_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._used_bytes -= _size(oldest)


def _size(scene: TrainingScene) -> int:
    return sum(part.nbytes for part in vars(scene).values() if isinstance(part, Tensor))
