"""Named tensors from which a training goes on: optimizer, and where within an epoch it paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcdistill.distillation.distributed import Ranks

_FIRST, _SECOND = "exp_avg/", "exp_avg_sq/"


class HalfEpoch(NamedTuple):
    """Where a training paused within an epoch."""

    step: int
    """Steps of the epoch that are done."""
    totals: Tensor
    """(2,) float32: what this process has of the two losses, summed over these steps."""
    effort: Tensor
    """(4,) float64: the same of gradient norm, voxels, seconds and seconds of waiting."""
    generator: Tensor
    """(B,) uint8: state of the epoch's generator."""

    def state(self, ranks: Ranks) -> dict[str, Tensor]:
        """The same as named tensors, with the losses of all processes."""
        return {
            "half/step": torch.tensor(self.step),
            "half/totals": ranks.add(self.totals.clone()),
            "half/effort": ranks.add(self.effort.clone()),
            "half/generator": self.generator,
        }


def read_half_epoch(state: Mapping[str, Tensor], ranks: Ranks) -> HalfEpoch | None:
    """Where training paused; None where that was between epochs."""
    if "half/step" not in state:
        return None
    totals, effort = (state[f"half/{key}"] * float(ranks.is_first) for key in ("totals", "effort"))
    return HalfEpoch(int(state["half/step"]), totals, effort, state["half/generator"])


def optimizer_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What Adam knows of each parameter that had a gradient, by the parameter's name."""
    state: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        moments = optimizer.state.get(parameter, {})
        if moments:
            state[_FIRST + name] = moments["exp_avg"]
            state[_SECOND + name] = moments["exp_avg_sq"]
            state["step"] = moments["step"]
    return state


def optimizer_shapes(network: nn.Module) -> dict[str, torch.Size]:
    """Shapes of what `optimizer_state` collects after a step with all gradients."""
    shapes = {"step": torch.Size()}
    for name, parameter in network.named_parameters():
        shapes |= {_FIRST + name: parameter.shape, _SECOND + name: parameter.shape}
    return shapes


def load_optimizer_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    """Give Adam back what `optimizer_state` collected."""
    for name, parameter in network.named_parameters():
        if _FIRST + name in state:
            optimizer.state[parameter] = {
                "step": state["step"].clone(),
                "exp_avg": state[_FIRST + name].to(parameter.device).clone(),
                "exp_avg_sq": state[_SECOND + name].to(parameter.device).clone(),
            }


def entries_under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose key begins with a prefix, without it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
