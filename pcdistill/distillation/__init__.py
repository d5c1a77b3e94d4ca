"""Distillation of fused 2D features into a 3D student: losses, temporal ensemble, trainer."""

from typing import TYPE_CHECKING

from pcdistill.lazy_face import lazy_face

if TYPE_CHECKING:
    from pcdistill.distillation.batch_cache import mixed_seed
    from pcdistill.distillation.batches import INPUT_CHANNELS, StudentInput, TrainingScene
    from pcdistill.distillation.best_weights import BestWeights
    from pcdistill.distillation.distributed import Ranks, current_ranks, joined_ranks
    from pcdistill.distillation.losses import (
        DistillationLosses,
        point_distillation_loss,
        self_distillation_loss,
        superpoint_distillation_loss,
    )
    from pcdistill.distillation.scene_source import KEPT_BYTES, SceneSource
    from pcdistill.distillation.schedule import (
        linear_learning_rate,
        one_cycle_learning_rate,
        openscene_release_learning_rate,
        polynomial_learning_rate,
    )
    from pcdistill.distillation.settings import TrainerSettings
    from pcdistill.distillation.student_features import features_by_look, infer_point_features
    from pcdistill.distillation.temporal_ensemble import PseudoLabels, TemporalEnsemble
    from pcdistill.distillation.trainer import Trainer
    from pcdistill.distillation.training_results import EpochResult, StepResult
    from pcdistill.distillation.voting import Looks, speaking_points, voxel_features
    from pcdistill.distillation.voxel_average import voxel_means

__all__ = [
    "INPUT_CHANNELS",
    "KEPT_BYTES",
    "BestWeights",
    "DistillationLosses",
    "EpochResult",
    "Looks",
    "PseudoLabels",
    "Ranks",
    "SceneSource",
    "StepResult",
    "StudentInput",
    "TemporalEnsemble",
    "Trainer",
    "TrainerSettings",
    "TrainingScene",
    "current_ranks",
    "features_by_look",
    "infer_point_features",
    "joined_ranks",
    "linear_learning_rate",
    "mixed_seed",
    "one_cycle_learning_rate",
    "openscene_release_learning_rate",
    "point_distillation_loss",
    "polynomial_learning_rate",
    "self_distillation_loss",
    "speaking_points",
    "superpoint_distillation_loss",
    "voxel_features",
    "voxel_means",
]

__getattr__ = lazy_face(__name__, __file__)
