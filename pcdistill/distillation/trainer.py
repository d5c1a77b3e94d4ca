"""Training of a student on fused 2D features, an epoch at a time, resumable after each.

Letters: N points and V voxels of all scenes of a batch together, S their superpoints, R voxels that
take part in the losses of a step, D channels of the student and the text, P prompts, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pcdistill.distillation.augmentation import augment_on_grid, augment_rotate_scale
from pcdistill.distillation.batch_cache import VoxelBatchCache, mixed_seed
from pcdistill.distillation.batches import Batch, StudentInput, TrainingScene, make_voxel_batch
from pcdistill.distillation.losses import (
    point_distillation_loss,
    self_distillation_loss,
    superpoint_distillation_loss,
)
from pcdistill.distillation.schedule import scheduled_learning_rate
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.student_features import (
    forward_batch,
    has_fast_bfloat16,
    infer_point_features,
)
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble

_MODEL, _FIRST, _SECOND, _PAST = "model/", "exp_avg/", "exp_avg_sq/", "ensemble/"


class EpochResult(NamedTuple):
    """Losses of one epoch."""

    epoch: int
    """Number of epochs done, from 1."""
    loss: float
    """Mean distillation loss."""
    ensemble_loss: float
    """Mean self-distillation loss; 0 before it joins."""
    learning_rate: float


class _LossVoxels(NamedTuple):
    """Voxels of a batch that the losses use."""

    voxels: Tensor
    """(R,) int64 in [0, V), rows of the student's output."""
    points: Tensor
    """(R,) int64 in [0, N), the point that stands for each, counted through the whole batch."""


class Trainer:
    """Training loop: the student, its optimizer and its temporal ensemble.

    Every epoch draws its randomness from (seed, epoch), so a training that was stopped and
    resumed gives the same student as one that was not.
    """

    def __init__(
        self,
        network: nn.Module,
        scenes: Sequence[TrainingScene],
        text_embeddings: Tensor,
        settings: TrainerSettings,
        device: torch.device,
        *,
        target: Literal["point", "superpoint"] = "superpoint",
        ensemble: bool = False,
        seed: int = 0,
        class_of_prompt: Tensor | None = None,
    ) -> None:
        """Prepare training.

        Args:
            network: maps a `SparseTensor` of V voxels to (V, D).
            scenes: at least one.
            text_embeddings: (P, D) float, prompts of the classes of the pseudo labels (F_text of
                Eq. 12).
            settings: how to train.
            device: where to train.
            target: what the distillation loss compares the student with: the features of points
                or the means of superpoints.
            ensemble: whether the temporal ensemble takes part (SAS 3.4), from
                `settings.ensemble_epoch` on.
            seed: of the order, the augmentation and the drawn voxels.
            class_of_prompt: (P,) int64 in [0, K), where several prompts ask for one class.

        Raises:
            ValueError: no scene, or point-wise targets are asked for where a scene has none.
        """
        if not scenes:
            raise ValueError("a student needs at least one training scene")
        if target == "point":
            for scene in scenes:
                if scene.features is None:
                    raise ValueError(f"scene '{scene.name}' has no features per point")
        self.network = network.to(device)
        self.epoch = 0
        self._scenes = tuple(scenes)
        self._text = text_embeddings.float().to(device)  # (P, D)
        self._class_of_prompt = class_of_prompt
        self._settings = settings
        self._target = target
        self._uses_ensemble = ensemble
        self._seed = seed
        self._device = device
        self._optimizer = torch.optim.Adam(
            self.network.parameters(),
            settings.learning_rate,
            betas=(0.9, settings.adam_beta2),
            fused=device.type == "cpu",  # one call instead of a dozen small ones a parameter
        )
        self._ensemble: TemporalEnsemble | None = None
        self._low_precision = settings.precision == "bfloat16" or (
            settings.precision == "auto" and has_fast_bfloat16(device)
        )
        self._batch_cache = VoxelBatchCache(
            scenes,
            settings.voxel_size,
            turn=settings.augment == "grid",
            seed=seed,
            device=device,
            revoxelize_every=settings.revoxelize_every,
        )

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self._settings.epochs

    def train_epoch(self) -> EpochResult:
        """Train for one epoch."""
        settings = self._settings
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, self.epoch))
        if self._uses_ensemble and self.epoch >= settings.ensemble_epoch:
            self._begin_ensemble()
        self.network.train()
        order = torch.randperm(len(self._scenes), generator=generator).tolist()
        chunks = [
            order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)
        ]
        totals = torch.zeros(2)  # distillation and self-distillation loss, summed over the steps
        rate = settings.learning_rate
        for step, numbers in enumerate(chunks):
            rate = self._set_learning_rate(self.epoch * len(chunks) + step, len(chunks))
            totals += self._step(numbers, generator)
        self.epoch += 1
        loss, ensemble_loss = (totals / len(chunks)).tolist()
        return EpochResult(self.epoch, loss, ensemble_loss, rate)

    def _set_learning_rate(self, iteration: int, steps: int) -> float:
        settings = self._settings
        rate = scheduled_learning_rate(
            settings.schedule,
            iteration,
            settings.epochs * steps,
            base=settings.learning_rate,
            final=settings.final_learning_rate,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _batch(self, numbers: Sequence[int], generator: torch.Generator) -> Batch:
        """Voxelize the scenes of these numbers, augmented."""
        settings = self._settings
        if len(numbers) == 1 and settings.augment != "full":
            return self._batch_cache.sample(numbers[0], self.epoch, generator)
        scenes = [self._scenes[i] for i in numbers]
        clouds = [StudentInput(scene.points, scene.normals, scene.colors) for scene in scenes]
        if settings.augment != "none":
            change = augment_rotate_scale if settings.augment == "full" else augment_on_grid
            clouds = [change(cloud, generator) for cloud in clouds]
        return make_voxel_batch([cloud.to(self._device) for cloud in clouds], settings.voxel_size)

    def _step(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """Train on the scenes of these numbers; (2,) distillation and self-distillation loss."""
        settings = self._settings
        scenes = [self._scenes[i] for i in numbers]
        batch = self._batch(numbers, generator)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low_precision):
            output = forward_batch(self.network, batch)
        output = output.float()  # (V, D)
        chosen = self._choose_voxels(scenes, batch, generator)
        losses = torch.zeros(2)
        total = output.sum() * 0  # (): a loss also where no voxel was chosen
        if self._ensemble is None or settings.keep_superpoint_loss:
            loss = self._distillation_loss(output, scenes, chosen)
            losses[0] = loss.detach().cpu()
            total = total + loss
        if self._ensemble is not None:
            loss = self._ensemble_loss(self._ensemble, output, scenes, batch, chosen)
            losses[1] = loss.detach().cpu()
            total = total + settings.ensemble_weight * loss
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return losses

    def _choose_voxels(
        self, scenes: Sequence[TrainingScene], batch: Batch, generator: torch.Generator
    ) -> _LossVoxels:
        """Choose voxels whose representative point is seen, at most `max_voxels_per_step`."""
        first_points = _running_starts([len(scene.points) for scene in scenes])
        seen = torch.cat(  # (V,) bool
            [s.seen.to(self._device)[r] for s, r in zip(scenes, batch.representative, strict=True)]
        )
        points = torch.cat(  # (V,) int64 in [0, N)
            [r + first for r, first in zip(batch.representative, first_points, strict=True)]
        )
        voxels = seen.nonzero()[:, 0]  # (R,) int64 in [0, V)
        limit = self._settings.max_voxels_per_step
        if limit and len(voxels) > limit:
            drawn = torch.randperm(len(voxels), generator=generator)[:limit]  # (limit,)
            voxels = voxels[drawn.sort().values.to(self._device)]
        return _LossVoxels(voxels, points[voxels])

    def _superpoints(self, scenes: Sequence[TrainingScene]) -> Tensor:
        """(N,) int64 in [0, S): superpoint of each point, counted through the whole batch."""
        first = _running_starts([len(scene.superpoint_means) for scene in scenes])
        return torch.cat(
            [s.superpoint_ids.to(self._device) + f for s, f in zip(scenes, first, strict=True)]
        )

    def _distillation_loss(
        self, output: Tensor, scenes: Sequence[TrainingScene], chosen: _LossVoxels
    ) -> Tensor:
        """() loss against the fused 2D features of points or superpoints (Eq. 10)."""
        student = output[chosen.voxels]  # (R, D)
        if self._target == "point":
            features = torch.cat([s.features for s in scenes if s.features is not None])  # (N, D)
            target = features.to(self._device)[chosen.points].float()  # (R, D)
            return point_distillation_loss(student, target)
        means = torch.cat([scene.superpoint_means for scene in scenes]).to(self._device)  # (S, D)
        ids = self._superpoints(scenes)[chosen.points]  # (R,)
        return superpoint_distillation_loss(student, ids, means).total

    def _ensemble_loss(
        self,
        ensemble: TemporalEnsemble,
        output: Tensor,
        scenes: Sequence[TrainingScene],
        batch: Batch,
        chosen: _LossVoxels,
    ) -> Tensor:
        """() loss against pseudo labels of the temporal ensemble, updated first (Eq. 11 to 13)."""
        point_labels, superpoint_labels = [], []  # of each scene: (N of it,) and (S of it,) int64
        for scene, index in zip(scenes, batch.point_to_voxel, strict=True):
            ensemble.update(scene.name, output.detach(), point_to_voxel=index)
            labels = ensemble.pseudo_labels(
                scene.name, scene.superpoint_ids, count=len(scene.superpoint_means)
            )
            point_labels.append(labels.point)
            superpoint_labels.append(labels.superpoint)
        return self_distillation_loss(
            output[chosen.voxels],  # (R, D)
            self._superpoints(scenes)[chosen.points],  # (R,)
            self._text,  # (P, D)
            torch.cat(point_labels).to(self._device)[chosen.points],  # (R,)
            torch.cat(superpoint_labels).to(self._device),  # (S,)
            self._settings.ensemble_temperature,
            self._class_of_prompt,
        ).total

    def _begin_ensemble(self) -> None:
        """Start the history with the student's own scores, averaged per superpoint."""
        if self._ensemble is not None:
            return
        ensemble = self._empty_ensemble()
        for scene in self._scenes:
            cloud = StudentInput(scene.points, scene.normals, scene.colors)
            features = infer_point_features(  # (N of this scene, D)
                self.network, cloud, self._settings.voxel_size, self._device
            )
            ensemble.initialize(scene.name, features, superpoint_ids=scene.superpoint_ids)
        self._ensemble = ensemble

    def _empty_ensemble(self) -> TemporalEnsemble:
        decay = self._settings.ensemble_decay
        return TemporalEnsemble(self._text, decay, class_of_prompt=self._class_of_prompt)

    def state(self) -> dict[str, Tensor]:
        """Collect everything needed to go on after this epoch, as named tensors."""
        state = {"epoch": torch.tensor(self.epoch)}
        state |= {_MODEL + key: value for key, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            moments = self._optimizer.state.get(parameter, {})
            if moments:
                state[_FIRST + name] = moments["exp_avg"]
                state[_SECOND + name] = moments["exp_avg_sq"]
                state["step"] = moments["step"]
        if self._ensemble is not None:
            state |= {_PAST + key: value for key, value in self._ensemble.state_dict().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.epoch = int(state["epoch"])
        self.network.load_state_dict(_under(state, _MODEL))
        for name, parameter in self.network.named_parameters():
            if _FIRST + name in state:
                self._optimizer.state[parameter] = {
                    "step": state["step"].clone(),
                    "exp_avg": state[_FIRST + name].to(self._device).clone(),
                    "exp_avg_sq": state[_SECOND + name].to(self._device).clone(),
                }
        past = _under(state, _PAST)
        if past and self._uses_ensemble:
            self._ensemble = self._empty_ensemble()
            self._ensemble.load_state_dict(past)


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose key begins with a prefix, without it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def _running_starts(sizes: Sequence[int]) -> list[int]:
    """Sum of all sizes before each."""
    starts = [0]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    return starts
