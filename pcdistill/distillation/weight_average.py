"""Exponential moving average of a student's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_UPDATES = "updates"


class WeightAverage:
    """Average of the weights and of the statistics of batch norms; whole numbers are the last ones.

    It begins with the weights at the first step. Step n keeps min(decay, (1 + n) / (10 + n)) of the
    past, so that the first weights, which are random, are forgotten in a short training too.

    Source: Polyak & Juditsky, Acceleration of stochastic approximation by averaging, 1992; the
    warm-up is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            network: the student that learns; it stays as it is.
            decay: share of the past in each update, in (0, 1).
        """
        self._network = network
        self._decay = decay
        self._updates = 0
        self._average = _copied(network)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._updates += 1
        keep = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for key, value in self._network.state_dict().items():
            if value.is_floating_point():
                self._average[key].lerp_(value, 1 - keep)
            else:
                self._average[key].copy_(value)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Put the average into the network for the time of a block."""
        own = _copied(self._network)
        self._network.load_state_dict(self._average)
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def state(self) -> dict[str, Tensor]:
        """Collect the average and the number of updates, as named tensors."""
        return {_UPDATES: torch.tensor(self._updates), **self._average}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self._updates = int(state[_UPDATES])
        for key, value in self._average.items():
            value.copy_(state[key])


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
