"""Checks of a student that learned: its losses are numbers, and it tells points apart."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from pcdistill.distillation import EpochResult, StudentInput, infer_point_features
from pcdistill.errors import TrainingError

_MIN_SPREAD = 1e-4
"""Length of the difference of two unit features below which they are the same."""


def require_finite_loss(student: str, result: EpochResult) -> None:
    """Refuse to go on after a step that left no numbers.

    Raises:
        TrainingError: a loss is not finite.
    """
    losses = (result.loss, result.ensemble_loss)
    if not all(math.isfinite(loss) for loss in losses):
        raise TrainingError(
            f"student {student}: the loss is {losses[0]:.3g} + {losses[1]:.3g} after epoch "
            f"{result.epoch}, expected finite numbers; lower distill.learning_rate "
            f"(it was {result.learning_rate:.2g})"
        )


def require_contrast(
    network: nn.Module,
    student: str,
    scene: str,
    cloud: StudentInput,
    voxel_size: float,
    device: torch.device,
) -> None:
    """Refuse a student that says the same of every point.

    Args:
        network: the student.
        student: its name.
        scene: name of a scene.
        cloud: what the student is given of the scene.
        voxel_size: metres.
        device: where to compute.

    Raises:
        TrainingError: the features of the scene are alike, or not finite.
    """
    features = infer_point_features(network, cloud, voxel_size, device)  # (N, D)
    directions = functional.normalize(features, dim=1)
    spread = float((directions - directions[:1]).norm(dim=1).max())
    if not spread > _MIN_SPREAD:
        raise TrainingError(
            f"student {student}: its features are the same for all {len(features)} points of "
            f"scene {scene}, expected some that differ; change distill.learning_rate or train for "
            "more epochs"
        )
