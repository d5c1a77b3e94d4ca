"""Named settings of the temporal ensemble: whose labels, from when, and how much they weigh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EnsemblePreset = Literal["targets", "paper", "release"]
"""Names of the settings below."""


@dataclass(frozen=True)
class EnsembleSettings:
    """How labels of the temporal ensemble join the distillation."""

    start: float
    """Share of the epochs after which it joins."""
    begins_with: Literal["student", "targets"]
    """First entry of a scene's history: what the student says of it when the ensemble joins, or
    the mean 2D features of its superpoints, which the student learns from."""
    decay: float
    """Alpha of Eq. 11; 1 keeps the first entry for good."""
    point_labels: Literal["point", "superpoint"]
    """Whether a point is labelled by its own history or by that of its superpoint."""
    unit_outputs: bool
    """Scale outputs to length 1, so that scores are cosines, in the history and in the loss. The
    distillation loss leaves the length free: with raw outputs the same temperature pulls harder the
    longer they have grown."""
    temperature: float
    """Divides the student's scores before the cross entropy of Eq. 13."""
    weight: float
    """Multiplies the self-distillation loss."""
    keep_superpoint_loss: bool
    """Whether the superpoint loss (Eq. 10) goes on beside it."""


PRESETS: dict[EnsemblePreset, EnsembleSettings] = {
    "targets": EnsembleSettings(
        start=0.7,
        begins_with="targets",
        decay=1.0,
        point_labels="superpoint",
        unit_outputs=True,
        temperature=0.1,
        weight=1.0,
        keep_superpoint_loss=True,
    ),
    "paper": EnsembleSettings(
        start=0.7,  # 3.5: the last 30 of 100 epochs
        begins_with="student",
        decay=0.9,  # not given
        point_labels="point",  # Eq. 12
        unit_outputs=False,
        temperature=1.0,  # not given
        weight=1.0,  # Eq. 13
        keep_superpoint_loss=True,  # 3.5: both
    ),
    "release": EnsembleSettings(
        start=0.7,
        begins_with="student",
        decay=0.9999,
        point_labels="superpoint",
        unit_outputs=False,
        temperature=1.0,
        weight=1.0,
        keep_superpoint_loss=False,
    ),
}
