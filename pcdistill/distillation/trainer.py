"""Training of a student on fused 2D features, resumable after each step, by one process or several.

Letters: N points and V voxels of all scenes of a batch together, S their superpoints, R voxels that
take part in the losses of a step, D channels of the student and the text, P prompts, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pcdistill.distillation.augmentation import augment_on_grid, augment_rotate_scale
from pcdistill.distillation.batch_cache import VoxelBatchCache, mixed_seed
from pcdistill.distillation.batches import Batch, StudentInput, TrainingScene, make_voxel_batch
from pcdistill.distillation.distributed import ALONE, Ranks
from pcdistill.distillation.history_holders import HistoryHolders
from pcdistill.distillation.losses import (
    DistillationLosses,
    point_distillation_loss,
    self_distillation_loss,
    superpoint_distillation_loss,
)
from pcdistill.distillation.scene_deal import count_voxels, deal_epoch
from pcdistill.distillation.schedule import scheduled_learning_rate
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.student_features import (
    forward_batch,
    has_fast_bfloat16,
    infer_point_features,
)
from pcdistill.distillation.temporal_ensemble import PseudoLabels, TemporalEnsemble
from pcdistill.errors import ConfigError
from pcdistill.sparse import synchronize_batch_norms

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
    shares: tuple[float, float]
    """Which part of these voxels of all processes, and of their superpoints, is here."""

    def global_mean(self, losses: DistillationLosses) -> Tensor:
        """() what this process has of the two means over all processes."""
        return losses.point * self.shares[0] + losses.superpoint * self.shares[1]


class _HalfEpoch(NamedTuple):
    """Where a training paused within an epoch."""

    step: int
    """Steps of the epoch that are done."""
    totals: Tensor
    """(2,) float32: what this process has of the two losses, summed over these steps."""
    generator: Tensor
    """(B,) uint8: state of the epoch's generator."""


class Trainer:
    """Training loop: the student, its optimizer and its temporal ensemble.

    Every epoch draws its randomness from (seed, epoch), so a training that was stopped and
    resumed gives the same student as one that was not.

    Several processes share the scenes of each step. All draw the same numbers, whoever needs them;
    losses are means, and batch norms of statistics, over the scenes of all: the student is that of
    one process, up to rounding. The history of a scene is held by the process that has the scene in
    this epoch. Every method but `finished` is called by all of them.
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
        ranks: Ranks = ALONE,
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
            ranks: the processes that train together.

        Raises:
            ValueError: no scene, or point-wise targets are asked for where a scene has none.
            ConfigError: more processes than scenes in a step.
        """
        if not scenes:
            raise ValueError("a student needs at least one training scene")
        if target == "point":
            for scene in scenes:
                if scene.features is None:
                    raise ValueError(f"scene '{scene.name}' has no features per point")
        _require_work(ranks, len(scenes), settings.batch_size)
        self.network = network.to(device)
        self.epoch = 0
        self._ranks = ranks
        self._sizes = [0] * len(scenes)  # voxels of each scene, where it matters
        if not ranks.is_alone:
            ranks.copy_from_first(self.network.state_dict().values())
            synchronize_batch_norms(self.network, ranks.add)
            mine = [  # each process counts some
                count_voxels(s.points, settings.voxel_size) if i % ranks.world == ranks.rank else 0
                for i, s in enumerate(scenes)
            ]
            self._sizes = ranks.gather(mine).sum(dim=0).tolist()
        self._scenes = tuple(scenes)
        self._holders = HistoryHolders(ranks, self._scenes)
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
        self._half: _HalfEpoch | None = None
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

    def train_epoch(self, pause: Callable[[], bool] = lambda: False) -> EpochResult | None:
        """Train for one epoch, or what is left of the one in which training paused.

        Args:
            pause: asked after each step but the last, by all processes: whether to pause.

        Returns:
            losses of the epoch; None where it paused, after which `state` tells where.
        """
        settings = self._settings
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, self.epoch))
        order = torch.randperm(len(self._scenes), generator=generator).tolist()
        ranks = self._ranks
        chunks, owners = deal_epoch(order, self._sizes, settings.batch_size, ranks.world)
        self._holders.hand_over(self._ensemble, owners)
        if self._uses_ensemble and self.epoch >= settings.ensemble_epoch:
            self._begin_ensemble()
        self.network.train()
        first, totals = 0, torch.zeros(2)  # distillation and self-distillation loss, summed
        if self._half is not None:
            first, totals = self._half.step, self._half.totals
            generator.set_state(self._half.generator)
            self._half = None
        rate = settings.learning_rate
        for step, numbers in list(enumerate(chunks))[first:]:
            rate = self._set_learning_rate(self.epoch * len(chunks) + step, len(chunks))
            totals += self._step(numbers, generator)
            if step + 1 < len(chunks) and ranks.any(pause()):
                self._half = _HalfEpoch(step + 1, totals, generator.get_state())
                return None
        self.epoch += 1
        loss, ensemble_loss = (ranks.add(totals) / len(chunks)).tolist()
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

    def _batch(
        self, numbers: Sequence[int], is_mine: Sequence[bool], generator: torch.Generator
    ) -> Batch:
        """Voxelize those scenes of a global batch that are mine, augmented.

        Every process draws the changes of all scenes, those of others on no points.
        """
        settings = self._settings
        if len(numbers) == 1 and settings.augment != "full":
            if is_mine[0]:
                return self._batch_cache.sample(numbers[0], self.epoch, generator)
            self._batch_cache.skip(generator)
            return self._voxelize([_cloud(_without_points(self._scenes[numbers[0]]))])
        scenes = [
            self._scenes[i] if mine else _without_points(self._scenes[i])
            for i, mine in zip(numbers, is_mine, strict=True)
        ]
        clouds = [_cloud(scene) for scene in scenes]
        if settings.augment != "none":
            change = augment_rotate_scale if settings.augment == "full" else augment_on_grid
            clouds = [change(cloud, generator) for cloud in clouds]
        here = [cloud for cloud, mine in zip(clouds, is_mine, strict=True) if mine]
        return self._voxelize(here or clouds[:1])

    def _voxelize(self, clouds: Sequence[StudentInput]) -> Batch:
        size = self._settings.voxel_size
        return make_voxel_batch([cloud.to(self._device) for cloud in clouds], size)

    def _step(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """Train on the scenes of these numbers.

        Returns:
            (2,) distillation and self-distillation loss; of several processes, parts of a sum.
        """
        settings = self._settings
        is_mine = [self._holders.holds(i) for i in numbers]
        batch = self._batch(numbers, is_mine, generator)
        scenes = [self._scenes[i] for i, mine in zip(numbers, is_mine, strict=True) if mine]
        if not scenes:
            scenes = [_without_points(self._scenes[numbers[0]])]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low_precision):
            output = forward_batch(self.network, batch)
        output = output.float()  # (V, D)
        chosen = self._choose_voxels(scenes, batch, is_mine, generator)
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
        self._ranks.add_gradients(self.network)
        self._optimizer.step()
        return losses

    def _choose_voxels(
        self,
        scenes: Sequence[TrainingScene],
        batch: Batch,
        is_mine: Sequence[bool],
        generator: torch.Generator,
    ) -> _LossVoxels:
        """Choose voxels whose representative point is seen, at most `max_voxels_per_step`.

        They are drawn from those of all processes, by every process alike.
        """
        first_points = _running_starts([len(scene.points) for scene in scenes])
        seen = [  # of each scene (V of it,) bool
            s.seen.to(self._device)[r] for s, r in zip(scenes, batch.representative, strict=True)
        ]
        points = torch.cat(  # (V,) int64 in [0, N)
            [r + first for r, first in zip(batch.representative, first_points, strict=True)]
        )
        voxels = torch.cat(seen).nonzero()[:, 0]  # (R,) int64 in [0, V)
        limit = self._settings.max_voxels_per_step
        if limit:
            counts = torch.zeros(len(is_mine), dtype=torch.int64)  # seen voxels of each scene
            if any(is_mine):
                counts[torch.tensor(is_mine)] = torch.tensor([int(part.sum()) for part in seen])
            of_scene = self._ranks.add(counts).tolist()
            if sum(of_scene) > limit:
                drawn = torch.randperm(sum(of_scene), generator=generator)[:limit]  # (limit,)
                kept = torch.zeros(sum(of_scene), dtype=torch.bool)
                kept[drawn] = True
                parts = zip(torch.split(kept, of_scene), is_mine, strict=True)
                here = [part for part, mine in parts if mine]
                voxels = voxels[torch.cat(here).to(self._device)] if here else voxels
        return _LossVoxels(voxels, points[voxels], self._shares(scenes, points[voxels]))

    def _shares(self, scenes: Sequence[TrainingScene], points: Tensor) -> tuple[float, float]:
        """Which part of the rows (R,) and of their superpoints all processes have is here."""
        if self._ranks.is_alone:
            return 1.0, 1.0
        rows, superpoints = self._ranks.shares(
            len(points), len(torch.unique(self._superpoints(scenes)[points]))
        )
        return rows, superpoints

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
            return point_distillation_loss(student, target) * chosen.shares[0]
        means = torch.cat([scene.superpoint_means for scene in scenes]).to(self._device)  # (S, D)
        ids = self._superpoints(scenes)[chosen.points]  # (R,)
        return chosen.global_mean(superpoint_distillation_loss(student, ids, means))

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
            if len(scene.points):
                ensemble.update(scene.name, output.detach(), point_to_voxel=index)
                labels = ensemble.pseudo_labels(
                    scene.name, scene.superpoint_ids, count=len(scene.superpoint_means)
                )
            else:
                labels = PseudoLabels(index.cpu(), index.cpu())  # of no point and no superpoint
            point_labels.append(labels.point)
            superpoint_labels.append(labels.superpoint)
        losses = self_distillation_loss(
            output[chosen.voxels],  # (R, D)
            self._superpoints(scenes)[chosen.points],  # (R,)
            self._text,  # (P, D)
            torch.cat(point_labels).to(self._device)[chosen.points],  # (R,)
            torch.cat(superpoint_labels).to(self._device),  # (S,)
            self._settings.ensemble_temperature,
            self._class_of_prompt,
        )
        return chosen.global_mean(losses)

    def _begin_ensemble(self) -> None:
        """Start the history with the student's own scores, averaged per superpoint."""
        if self._ensemble is not None:
            return
        ensemble = self._empty_ensemble()
        for scene in (s for i, s in enumerate(self._scenes) if self._holders.holds(i)):
            cloud = _cloud(scene)
            features = infer_point_features(  # (N of this scene, D)
                self.network, cloud, self._settings.voxel_size, self._device
            )
            ensemble.initialize(scene.name, features, superpoint_ids=scene.superpoint_ids)
        self._ensemble = ensemble

    def _empty_ensemble(self) -> TemporalEnsemble:
        decay = self._settings.ensemble_decay
        return TemporalEnsemble(self._text, decay, class_of_prompt=self._class_of_prompt)

    def state(self) -> dict[str, Tensor]:
        """Collect everything needed to go on after this step, as named tensors.

        Of several processes only the first gets the histories of all scenes.
        """
        state = {"epoch": torch.tensor(self.epoch)}
        if self._half is not None:
            state["half/step"] = torch.tensor(self._half.step)
            state["half/totals"] = self._ranks.add(self._half.totals.clone())
            state["half/generator"] = self._half.generator
        state |= {_MODEL + key: value for key, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            moments = self._optimizer.state.get(parameter, {})
            if moments:
                state[_FIRST + name] = moments["exp_avg"]
                state[_SECOND + name] = moments["exp_avg_sq"]
                state["step"] = moments["step"]
        if self._ensemble is not None:
            past = self._holders.collect(self._ensemble)
            state |= {_PAST + key: value for key, value in past.items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` of the first process gave, with any number of processes."""
        self.epoch, self._half = int(state["epoch"]), None
        self._holders.forget()
        if "half/step" in state:
            totals = state["half/totals"] * float(self._ranks.is_first)
            self._half = _HalfEpoch(int(state["half/step"]), totals, state["half/generator"])
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


def _require_work(ranks: Ranks, scenes: int, batch_size: int) -> None:
    """Refuse processes that would have nothing to do.

    Raises:
        ConfigError: there are more of them than scenes in a step.
    """
    if not ranks.is_alone and ranks.world > min(scenes, batch_size):
        raise ConfigError(
            f"{ranks.world} processes share the scenes of each step, of which there are "
            f"{min(scenes, batch_size)} (distill.batch_size: {batch_size}, {scenes} training "
            "scenes); start fewer processes, or raise distill.batch_size"
        )


def _cloud(scene: TrainingScene) -> StudentInput:
    return StudentInput(scene.points, scene.normals, scene.colors)


def _without_points(scene: TrainingScene) -> TrainingScene:
    """The scene as a process sees it that does not have it: of the same kind, without points."""
    cut = {key: None if part is None else part[:0] for key, part in vars(scene).items()}
    return TrainingScene(**{**cut, "name": scene.name})  # type: ignore[arg-type]


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose key begins with a prefix, without it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def _running_starts(sizes: Sequence[int]) -> list[int]:
    """Sum of all sizes before each."""
    starts = [0]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    return starts
