"""Which process has each scene of a training in this epoch, and so writes its history."""

from __future__ import annotations

import torch

from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.history_file import HistoryFile
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble


class HistoryHolders:
    """Holders of the scenes of a training: a scene's history is written where it is trained on.

    So it has one writer. Several processes have one file of histories, in which all see all; where
    scenes change hands between two epochs, or a state is collected, they tell each other the places
    in it.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._owners: list[int] | None = None

    def holds(self, scene: int) -> bool:
        """Whether this process has the scene of this number."""
        return self._owners is None or self._owners[scene] == self._ranks.rank

    def forget(self) -> None:
        """Every process knows the places of all histories."""
        self._owners = None

    def hand_over(self, ensemble: TemporalEnsemble | None, owners: list[int]) -> None:
        """Leave the history of each scene to its new owner.

        Args:
            ensemble: histories; None before it joins.
            owners: process that has each scene from now on.
        """
        if ensemble is not None:
            self._share(ensemble)
        self._owners = owners

    def collect(self, ensemble: TemporalEnsemble) -> dict[str, torch.Tensor]:
        """State of the ensemble, with the histories of all scenes or the places of all."""
        self._share(ensemble)
        return ensemble.state_dict()

    def _share(self, ensemble: TemporalEnsemble) -> None:
        if isinstance(ensemble.histories, HistoryFile) and self._owners is not None:
            mine = [owner == self._ranks.rank for owner in self._owners]
            ensemble.histories.share(mine)
