"""How a 3D student learns from fused 2D features: losses, memory of past outputs, schedule."""

from pcdistill.distillation.losses import (
    DistillationLosses,
    point_distillation_loss,
    self_distillation_loss,
    superpoint_distillation_loss,
)
from pcdistill.distillation.schedule import (
    linear_learning_rate,
    one_cycle_learning_rate,
    polynomial_learning_rate,
    released_learning_rate,
)
from pcdistill.distillation.temporal_ensemble import PseudoLabels, TemporalEnsemble

__all__ = [
    "DistillationLosses",
    "PseudoLabels",
    "TemporalEnsemble",
    "linear_learning_rate",
    "one_cycle_learning_rate",
    "point_distillation_loss",
    "polynomial_learning_rate",
    "released_learning_rate",
    "self_distillation_loss",
    "superpoint_distillation_loss",
]
