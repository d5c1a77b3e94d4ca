"""The last epochs of a student's training with labels of its past, every part of which can vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.distillation import (
    PseudoLabels,
    SceneSource,
    StudentInput,
    TemporalEnsemble,
    TrainerSettings,
    TrainingScene,
    infer_point_features,
    mixed_seed,
    superpoint_distillation_loss,
)
from pcdistill.distillation.batch_cache import VoxelBatchCache
from pcdistill.distillation.batches import Batch
from pcdistill.distillation.schedule import scheduled_learning_rate
from pcdistill.distillation.student_features import forward_batch
from pcdistill.geometry import superpoint_mean

from .ensemble_settings import LabelSettings

CPU = torch.device("cpu")
MOST = 10.0
"""Largest weight of a rare class."""


class Texts(NamedTuple):
    """What labels are chosen from, as vectors."""

    label_set: Tensor
    """(K, D) float32, unit rows."""
    vocabulary: Tensor
    """(W, D) float32, unit rows."""

    def of(self, settings: LabelSettings) -> Tensor:
        """Those that a setting chooses from."""
        return self.label_set if settings.words == "label set" else self.vocabulary


class KeptBatches:
    """Voxel batches of the last epochs with their kernel maps, the same for every setting."""

    def __init__(
        self, scenes: Sequence[TrainingScene], settings: TrainerSettings, seed: int
    ) -> None:
        self._scenes, self._settings, self._seed = scenes, settings, seed
        self._caches: dict[int, VoxelBatchCache] = {}

    def sample(self, scene: int, epoch: int, generator: torch.Generator) -> Batch:
        """One scene as `VoxelBatchCache.sample` gives it to the trainer."""
        number = epoch // self._settings.revoxelize_every
        if number not in self._caches:
            self._caches[number] = VoxelBatchCache(
                SceneSource.of(self._scenes),
                self._settings.voxel_size,
                turn=self._settings.augment == "grid",
                seed=self._seed,
                device=CPU,
                revoxelize_every=self._settings.revoxelize_every,
            )
        cache = self._caches[number]
        return cache.sample(scene, epoch, cache.draw(generator))


class LabelLoss:
    """Cross entropy against labels of the history (Eq. 11 to 13) or of the targets."""

    def __init__(
        self, settings: LabelSettings, text: Tensor, scenes: Sequence[TrainingScene]
    ) -> None:
        self._settings, self._text = settings, text
        self._ensemble = TemporalEnsemble(text, settings.decay, point_labels=settings.point_labels)
        self._targets = {s.name: (s.superpoint_means.float() @ text.T).argmax(1) for s in scenes}
        self._joined: set[str] = set()
        self._counts: dict[str, Tensor] = {}

    def begin(self, network: nn.Module, scenes: Sequence[TrainingScene], voxel_size: float) -> None:
        """Give every scene its first history."""
        for scene in scenes:
            cloud = StudentInput(scene.points, scene.normals, scene.colors)
            features = infer_point_features(network, cloud, voxel_size, CPU)  # (N, D)
            length = features.norm(dim=1).mean()
            if self._settings.begins_with == "targets":
                means = scene.superpoint_means.float()[scene.superpoint_ids]  # (N, D)
                features = functional.normalize(means, dim=1) * length
            if self._settings.unit:
                features = functional.normalize(features, dim=1)
            self._ensemble.initialize(
                scene.name,
                features,
                superpoint_ids=scene.superpoint_ids,
                count=len(scene.superpoint_means),
            )

    def __call__(self, scene: TrainingScene, output: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """() loss of one step, after the history was updated.

        Args:
            scene: of N points and S superpoints.
            output: (V, D) of the student.
            batch: the scene's V voxels.
            rows: (R,) int64, voxels that take part.
        """
        settings, count = self._settings, len(scene.superpoint_means)
        features = functional.normalize(output, dim=1) if settings.unit else output  # (V, D)
        labels = self._labels(scene, features.detach(), batch.point_to_voxel[0])
        points = batch.representative[0][rows]  # (R,)
        ids = scene.superpoint_ids[points]  # (R,)
        of_points, of_superpoints = self._counting(scene, labels)
        weight = self._class_weights(scene, labels)
        scores = features[rows] @ self._text.T / settings.temperature  # (R, K)
        if settings.unit:
            means = functional.normalize(superpoint_mean(output[rows], ids, count), dim=1)
            pooled = means @ self._text.T / settings.temperature  # (S, K)
        else:
            pooled = superpoint_mean(scores, ids, count)  # (S, K)
        here = of_points[points]  # (R,) bool
        present = (torch.bincount(ids, minlength=count) > 0) & of_superpoints  # (S,) bool
        if not bool(here.any()) or not bool(present.any()):
            return output.sum() * 0
        point = functional.cross_entropy(scores[here], labels.point[points][here], weight)
        superpoint = functional.cross_entropy(pooled[present], labels.superpoint[present], weight)
        return point + superpoint

    def _labels(self, scene: TrainingScene, features: Tensor, index: Tensor) -> PseudoLabels:
        """Labels after the update with features (V, D); (N,) voxel of each point."""
        settings, ensemble = self._settings, self._ensemble
        if settings.decay < 1:
            ensemble.update(
                scene.name,
                features,
                point_to_voxel=index,
                superpoint_ids=scene.superpoint_ids,
                count=len(scene.superpoint_means),
            )
        labels = ensemble.pseudo_labels(
            scene.name, scene.superpoint_ids, count=len(scene.superpoint_means)
        )
        if settings.half:
            ensemble.histories.put(scene.name, ensemble.history(scene.name).half().float())
        return labels

    def _counting(self, scene: TrainingScene, labels: PseudoLabels) -> tuple[Tensor, Tensor]:
        """(N,) and (S,) bool: labels that count."""
        settings, ids = self._settings, scene.superpoint_ids
        point = torch.ones(len(ids), dtype=torch.bool)
        superpoint = torch.ones(len(scene.superpoint_means), dtype=torch.bool)
        target = self._targets[scene.name]  # (S,)
        agrees = labels.point == target[ids]  # (N,)
        if settings.join_agreement and scene.name not in self._joined:
            if float(agrees[scene.seen].float().mean()) < settings.join_agreement:
                return point & False, superpoint & False
            self._joined.add(scene.name)
        if settings.agreeing:
            point, superpoint = point & agrees, superpoint & (labels.superpoint == target)
        if settings.kept < 1:
            scores = self._ensemble.history(scene.name)  # (N, K) or (S, K)
            if self._ensemble.of_superpoints:
                pooled = _margin(scores)  # (S,)
                margin = pooled[ids]  # (N,)
            else:
                pooled = _margin(superpoint_mean(scores, ids, len(superpoint)))  # (S,)
                margin = _margin(scores)  # (N,)
            seen = torch.unique(ids[scene.seen])
            point &= margin >= margin[scene.seen].quantile(1 - settings.kept)
            superpoint &= pooled >= pooled[seen].quantile(1 - settings.kept)
        return point, superpoint

    def _class_weights(self, scene: TrainingScene, labels: PseudoLabels) -> Tensor | None:
        """(K,) weight of each class by how seldom it is among the labels of all scenes so far."""
        if not self._settings.balance:
            return None
        classes = len(self._text)
        self._counts[scene.name] = torch.bincount(labels.point[scene.seen], minlength=classes)
        counts = torch.stack(list(self._counts.values())).sum(dim=0).float()  # (K,)
        frequency = counts / counts.sum() * (counts > 0).sum()  # 1 where all are alike
        weight = frequency.clamp(min=1e-9) ** -self._settings.balance
        return weight.clamp(max=MOST)


def _margin(scores: Tensor) -> Tensor:
    """(R,) how far the best of (R, K) scores is ahead of the second."""
    best = scores.topk(2, dim=1).values  # (R, 2)
    return best[:, 0] - best[:, 1]


def train_on(
    network: nn.Module,
    state: Mapping[str, Tensor],
    scenes: Sequence[TrainingScene],
    labels: LabelSettings,
    text: Tensor,
    settings: TrainerSettings,
    seed: int,
    batches: KeptBatches,
) -> None:
    """Train from a hand-over to the last epoch.

    With the published settings the student is that of `Trainer`, to the bit.

    Args:
        network: the student; gets the weights of the state.
        state: what `Trainer.state` gave between two epochs.
        scenes: one is a step.
        labels: how labels take part.
        text: (K, D) float32, what they are chosen from.
        settings: of the training, with one scene a step and all voxels.
        seed: of the training.
        batches: voxels of the scenes.
    """
    network.load_state_dict(_under(state, "model/"))
    optimizer = torch.optim.Adam(
        network.parameters(),
        settings.learning_rate,
        betas=(0.9, settings.adam_beta2),
        fused=True,
    )
    first, second = _under(state, "exp_avg/"), _under(state, "exp_avg_sq/")
    for name, parameter in network.named_parameters():
        optimizer.state[parameter] = {
            "step": state["step"].clone(),
            "exp_avg": first[name].clone(),
            "exp_avg_sq": second[name].clone(),
        }
    loss_of_labels = LabelLoss(labels, text, scenes) if labels.weight else None
    joins = max(int(state["epoch"]), settings.epochs - labels.epochs)
    for epoch in range(int(state["epoch"]), settings.epochs):
        generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
        order = torch.randperm(len(scenes), generator=generator).tolist()
        if loss_of_labels is not None and epoch == joins:
            loss_of_labels.begin(network, scenes, settings.voxel_size)
        network.train()
        for step, number in enumerate(order):
            scene = scenes[number]
            _set_rate(optimizer, settings, epoch * len(order) + step, len(order))
            batch = batches.sample(number, epoch, generator)
            output = forward_batch(network, batch).float()  # (V, D)
            rows = scene.seen[batch.representative[0]].nonzero()[:, 0]  # (R,)
            loss = output.sum() * 0
            with_labels = loss_of_labels is not None and epoch >= joins
            if labels.cosine or not with_labels:
                loss = loss + cosine_loss(scene, output, batch, rows)
            if loss_of_labels is not None and with_labels:
                loss = loss + labels.weight * loss_of_labels(scene, output, batch, rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def cosine_loss(scene: TrainingScene, output: Tensor, batch: Batch, rows: Tensor) -> Tensor:
    """() distillation loss (Eq. 10) of rows (R,) of the student's output (V, D)."""
    ids = scene.superpoint_ids[batch.representative[0][rows]]  # (R,)
    return superpoint_distillation_loss(output[rows], ids, scene.superpoint_means).total


def _set_rate(
    optimizer: torch.optim.Optimizer, settings: TrainerSettings, iteration: int, steps: int
) -> None:
    rate = scheduled_learning_rate(
        settings.schedule,
        iteration,
        settings.epochs * steps,
        base=settings.learning_rate,
        final=settings.final_learning_rate,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
