"""Which process holds the history of each scene, and how histories travel between processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble


class HistoryHolders:
    """Holders of the scenes of a training: a scene's history is where the scene is trained on.

    So it has one writer, and nothing is sent but when a scene changes hands between two epochs, or
    when a state is collected.
    """

    def __init__(self, ranks: Ranks, scenes: Sequence[TrainingScene]) -> None:
        self._ranks = ranks
        self._scenes = scenes
        self._owners: list[int] | None = None

    def holds(self, scene: int) -> bool:
        """Whether this process has the scene of this number."""
        return self._owners is None or self._owners[scene] == self._ranks.rank

    def forget(self) -> None:
        """Every process was given all histories."""
        self._owners = None

    def hand_over(self, ensemble: TemporalEnsemble | None, owners: list[int]) -> None:
        """Give the history of each scene to its new owner.

        Args:
            ensemble: histories of this process; None before it joins.
            owners: process that has each scene from now on.
        """
        before, self._owners = self._owners, owners
        if ensemble is None or self._ranks.is_alone:
            return
        if before is not None:
            for scene, source, target in zip(self._scenes, before, owners, strict=True):
                self._move(ensemble, scene, source, target)
        self._drop_others(ensemble)

    def collect(self, ensemble: TemporalEnsemble) -> dict[str, torch.Tensor]:
        """State of the ensemble; in the first process with the histories of all scenes."""
        if self._owners is not None and not self._ranks.is_alone:
            for scene, owner in zip(self._scenes, self._owners, strict=True):
                self._move(ensemble, scene, owner, 0)
        state = ensemble.state_dict()
        self._drop_others(ensemble)
        return state

    def _move(
        self, ensemble: TemporalEnsemble, scene: TrainingScene, source: int, target: int
    ) -> None:
        """Copy the history of a scene from one process to another; all may call it."""
        if source == target or self._ranks.rank not in (source, target):
            return
        if self._ranks.rank == source:
            scores = ensemble.history(scene.name).cpu().contiguous()  # (N, P)
        else:
            shape = len(scene.points), len(ensemble.text_embeddings)
            scores = torch.zeros(shape, dtype=torch.float32)  # (N, P)
        self._ranks.move(scores, source, target)
        if self._ranks.rank == target:
            ensemble.set_history(scene.name, scores)

    def _drop_others(self, ensemble: TemporalEnsemble) -> None:
        for number, scene in enumerate(self._scenes):
            if not self.holds(number):
                ensemble.drop_history(scene.name)
