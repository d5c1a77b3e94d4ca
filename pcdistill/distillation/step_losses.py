"""The two losses of a training step: against the 2D targets and against the student's own past."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.distillation.ensemble_settings import EnsembleSettings
from pcdistill.distillation.loss_voxels import LossVoxels
from pcdistill.distillation.losses import (
    point_distillation_loss,
    self_distillation_loss,
    superpoint_distillation_loss,
)
from pcdistill.distillation.step_batches import StepBatch
from pcdistill.distillation.temporal_ensemble import PseudoLabels, TemporalEnsemble


def target_loss(
    output: Tensor, step: StepBatch, chosen: LossVoxels, target: Literal["point", "superpoint"]
) -> Tensor:
    """() loss against the fused 2D features of points or superpoints (Eq. 10).

    Args:
        output: (V, D) float, the student's.
        step: scenes and voxels of this process, of the step or a part of it.
        chosen: which of them take part.
        target: whether the features of points or the means of superpoints are learned.

    Returns:
        of several processes or parts, a summand.
    """
    student = output[chosen.voxels]  # (R, D)
    if target == "point":
        features = torch.cat([s.features for s in step.scenes if s.features is not None])  # (N, D)
        wanted = features.to(output.device)[chosen.points].float()  # (R, D)
        return point_distillation_loss(student, wanted) * chosen.shares[0]
    means = torch.cat([s.superpoint_means for s in step.scenes]).to(output.device)  # (S, D)
    return chosen.global_mean(superpoint_distillation_loss(student, chosen.superpoints, means))


def ensemble_loss(
    ensemble: TemporalEnsemble,
    output: Tensor,
    step: StepBatch,
    chosen: LossVoxels,
    settings: EnsembleSettings,
) -> Tensor:
    """() loss against pseudo labels of the temporal ensemble, updated first (Eq. 11 to 13).

    Args:
        ensemble: histories of the scenes of this process.
        output: (V, D) float, the student's.
        step: scenes and voxels of this process, of the step or a part of it.
        chosen: which of them take part.
        settings: how the histories label, and the temperature of the cross entropy.

    Returns:
        of several processes or parts, a summand.
    """
    said = functional.normalize(output, dim=1) if settings.unit_outputs else output  # (V, D)
    point_labels, superpoint_labels = [], []  # of each scene: (N of it,) and (S of it,) int64
    for scene, index in zip(step.scenes, step.batch.point_to_voxel, strict=True):
        if len(scene.points):
            if settings.decay < 1:
                ensemble.update(
                    scene.name,
                    said.detach(),
                    point_to_voxel=index,
                    superpoint_ids=scene.superpoint_ids,
                    count=len(scene.superpoint_means),
                )
            labels = ensemble.pseudo_labels(
                scene.name, scene.superpoint_ids, count=len(scene.superpoint_means)
            )
        else:
            labels = PseudoLabels(index.cpu(), index.cpu())  # of no point and no superpoint
        point_labels.append(labels.point)
        superpoint_labels.append(labels.superpoint)
    losses = self_distillation_loss(
        output[chosen.voxels],  # (R, D)
        chosen.superpoints,
        ensemble.text_embeddings.to(output.device),  # (P, D)
        torch.cat(point_labels).to(output.device)[chosen.points],  # (R,)
        torch.cat(superpoint_labels).to(output.device),  # (S,)
        settings.temperature,
        ensemble.class_of_prompt,
        unit_outputs=settings.unit_outputs,
    )
    return chosen.global_mean(losses)
