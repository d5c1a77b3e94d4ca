"""One change of the weights: summed and clipped gradients, an optimizer's step, an average."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.training_state import (
    entries_under,
    load_optimizer_state,
    optimizer_shapes,
    optimizer_state,
)
from pcdistill.distillation.weight_average import WeightAverage

_SCALE, _SINCE, _AVERAGE = "scaler/scale", "scaler/since", "average/"


class WeightUpdate:
    """Optimizer of a student, with what stands between a loss and its step.

    Several processes add their gradients up before anything else is done with them, so that all
    clip by the same norm and all leave out the same steps.
    """

    def __init__(
        self, network: nn.Module, settings: TrainerSettings, device: torch.device, ranks: Ranks
    ) -> None:
        """Prepare the optimizer.

        Args:
            network: the student, on its device.
            settings: optimizer, clipping, average and precision.
            device: of the student.
            ranks: the processes that train together.
        """
        self._network = network
        self._ranks = ranks
        self._max_norm = settings.max_gradient_norm
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        self._optimizer = kind(
            network.parameters(),
            settings.learning_rate,
            betas=(0.9, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=device.type == "cpu",  # one call instead of a dozen small ones a parameter
        )
        self._scaler = (
            torch.amp.GradScaler(device.type) if settings.precision == "float16" else None
        )
        self.average = WeightAverage(network, settings.ema_decay) if settings.ema_decay else None
        """Average of the weights; None where there is none."""

    def set_learning_rate(self, rate: float) -> None:
        """Set the rate of the next step."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss () to those that are there."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self) -> float:
        """Change the weights by the gradients of all processes, and forget these.

        With float16 a step whose gradients are not finite is left out, and the losses are scaled
        less from then on.

        Returns:
            length of the gradient of all weights together, before it is clipped.
        """
        self._ranks.add_gradients(self._network)
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        lengths = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm = float(torch.linalg.vector_norm(torch.stack(lengths)))
        if self._max_norm and norm > self._max_norm:
            for gradient in gradients:
                gradient.mul_(self._max_norm / norm)
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Collect what the optimizer, the scaler and the average know, as named tensors."""
        state = optimizer_state(self._network, self._optimizer)
        if self._scaler is not None:
            known = self._scaler.state_dict()
            state[_SCALE] = torch.tensor(known["scale"], dtype=torch.float64)
            state[_SINCE] = torch.tensor(known["_growth_tracker"])
        if self.average is not None:
            state |= {_AVERAGE + key: value for key, value in self.average.state().items()}
        return state

    def required_shapes(self) -> dict[str, torch.Size]:
        """Shapes of what a state after the first step has, by name."""
        own = {key: value.shape for key, value in self.state().items()}
        return {**own, **optimizer_shapes(self._network)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        load_optimizer_state(self._network, self._optimizer, state)
        if self._scaler is not None:
            known = self._scaler.state_dict()
            own = {"scale": float(state[_SCALE]), "_growth_tracker": int(state[_SINCE])}
            self._scaler.load_state_dict({**known, **own})
        if self.average is not None:
            self.average.load_state(entries_under(state, _AVERAGE))
