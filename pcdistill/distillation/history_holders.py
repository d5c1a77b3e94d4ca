"""Which process holds the history of each scene, and how histories travel between processes."""

from __future__ import annotations

import torch

from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.history_file import HistoryFile
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble


class HistoryHolders:
    """Holders of the scenes of a training: a scene's history is where the scene is trained on.

    So it has one writer. Histories in memory are sent when a scene changes hands between two
    epochs, and when a state is collected; of those in a file, which all processes see, only their
    places are told.
    """

    def __init__(self, ranks: Ranks, scenes: SceneSource) -> None:
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
        if isinstance(ensemble.histories, HistoryFile):
            if before is not None:
                ensemble.histories.share([owner == self._ranks.rank for owner in before])
            return
        if before is not None:
            for scene, source, target in zip(range(len(owners)), before, owners, strict=True):
                self._move(ensemble, scene, source, target)
        self._drop_others(ensemble)

    def collect(self, ensemble: TemporalEnsemble) -> dict[str, torch.Tensor]:
        """State of the ensemble; of histories in memory in the first process only of all scenes."""
        if isinstance(ensemble.histories, HistoryFile):
            if self._owners is not None:
                mine = [owner == self._ranks.rank for owner in self._owners]
                ensemble.histories.share(mine)
            return ensemble.state_dict()
        if self._owners is not None and not self._ranks.is_alone:
            for scene, owner in enumerate(self._owners):
                self._move(ensemble, scene, owner, 0)
        state = ensemble.state_dict()
        self._drop_others(ensemble)
        return state

    def _move(self, ensemble: TemporalEnsemble, scene: int, source: int, target: int) -> None:
        """Copy the history of a scene from one process to another; all may call it."""
        if source == target or self._ranks.rank not in (source, target):
            return
        name = self._scenes.names[scene]
        if self._ranks.rank == source:
            scores = ensemble.history(name).cpu().contiguous()  # (N, P)
        else:
            shape = self._scenes.point_counts[scene], len(ensemble.text_embeddings)
            scores = torch.zeros(shape, dtype=torch.float32)  # (N, P)
        self._ranks.move(scores, source, target)
        if self._ranks.rank == target:
            ensemble.set_history(name, scores)

    def _drop_others(self, ensemble: TemporalEnsemble) -> None:
        for number, name in enumerate(self._scenes.names):
            if not self.holds(number):
                ensemble.drop_history(name)
