"""Where the temporal ensemble keeps its histories: the interface, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

_SCORES = "scores/"


class Histories(Protocol):
    """(R, P) float32 scores of each scene by its name: a row for each point, or each superpoint."""

    def get(self, scene: str) -> Tensor | None:
        """Scores of a scene, not a copy; None where it has none yet."""

    def put(self, scene: str, scores: Tensor) -> None:
        """Keep a copy of scores in the place of what was kept of the scene."""

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes that have scores."""

    @property
    def nbytes(self) -> int:
        """Bytes of all scores together."""

    def state(self) -> dict[str, Tensor]:
        """What `load` takes."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave; whatever was here before is replaced."""


class MemoryHistories:
    """Histories in memory, on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._scores: dict[str, Tensor] = {}

    def get(self, scene: str) -> Tensor | None:
        """See `Histories`."""
        return self._scores.get(scene)

    def put(self, scene: str, scores: Tensor) -> None:
        """See `Histories`."""
        past = self._scores.get(scene)
        if past is not None and past.shape == scores.shape:
            past.copy_(scores)
        else:
            self._scores[scene] = scores.to(self._device, torch.float32, copy=True)

    @property
    def scenes(self) -> tuple[str, ...]:
        """See `Histories`; in the order in which they began."""
        return tuple(self._scores)

    @property
    def nbytes(self) -> int:
        """See `Histories`."""
        return sum(scores.nbytes for scores in self._scores.values())

    def state(self) -> dict[str, Tensor]:
        """All scores, not copies, by `scores/SCENE`."""
        return {_SCORES + scene: scores for scene, scores in self._scores.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Histories`."""
        self._scores = {}
        for scene, scores in stored_scores(state).items():
            self.put(scene, scores)


def stored_scores(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scores that a state holds itself, by scene."""
    return {
        key.removeprefix(_SCORES): value for key, value in state.items() if key.startswith(_SCORES)
    }
