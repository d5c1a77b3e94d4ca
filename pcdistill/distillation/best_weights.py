"""The weights that were measured best so far in a training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_MIOU, _EPOCH, _WEIGHTS = "best/miou", "best/epoch", "best/weights/"


class BestWeights:
    """A copy of the best weights, the earlier ones of equals."""

    def __init__(self) -> None:
        self.miou = -math.inf
        """Per cent; minus infinity before the first measurement."""
        self.epoch = 0
        """Number of epochs after which it was measured."""
        self.weights: dict[str, Tensor] = {}
        """As `nn.Module.state_dict` names them."""

    def offer(self, miou: float, epoch: int, network: nn.Module) -> None:
        """Keep the weights of a network if they are better than those before.

        Args:
            miou: per cent.
            epoch: number of epochs done.
            network: the student that was measured.
        """
        if miou > self.miou:
            self.miou, self.epoch = miou, epoch
            self.weights = {k: v.detach().clone() for k, v in network.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """Collect everything as named tensors; nothing before the first measurement."""
        if not self.weights:
            return {}
        known = {_MIOU: torch.tensor(self.miou, dtype=torch.float64)}
        known[_EPOCH] = torch.tensor(self.epoch)
        return known | {_WEIGHTS + key: value for key, value in self.weights.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, which may stand among other tensors."""
        if _MIOU in state:
            self.miou, self.epoch = float(state[_MIOU]), int(state[_EPOCH])
            self.weights = {
                key.removeprefix(_WEIGHTS): value.clone()
                for key, value in state.items()
                if key.startswith(_WEIGHTS)
            }
