"""Training of a student on fused 2D features, resumable after each step, by one process or several.

Letters: V voxels of all scenes of a batch together, D channels of the student and the text,
P prompts, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pcdistill.distillation.batch_cache import mixed_seed
from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.distributed import ALONE, Ranks
from pcdistill.distillation.history_holders import HistoryHolders
from pcdistill.distillation.loss_voxels import choose_voxels
from pcdistill.distillation.scene_deal import count_voxels, deal_epoch
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.schedule import scheduled_learning_rate
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.step_batches import BatchMaker, cloud_of
from pcdistill.distillation.step_losses import ensemble_loss, target_loss
from pcdistill.distillation.student_features import (
    forward_batch,
    has_fast_bfloat16,
    infer_point_features,
)
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble
from pcdistill.distillation.training_state import (
    HalfEpoch,
    entries_under,
    load_optimizer_state,
    optimizer_state,
    read_half_epoch,
)
from pcdistill.errors import ConfigError
from pcdistill.sparse import synchronize_batch_norms

_MODEL, _PAST = "model/", "ensemble/"


class EpochResult(NamedTuple):
    """Losses of one epoch."""

    epoch: int
    """Number of epochs done, from 1."""
    loss: float
    """Mean distillation loss."""
    ensemble_loss: float
    """Mean self-distillation loss; 0 before it joins."""
    learning_rate: float


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
        scenes: Sequence[TrainingScene] | SceneSource,
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
            scenes: at least one; of a source memory holds few at a time.
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
        source = scenes if isinstance(scenes, SceneSource) else SceneSource.of(scenes)
        if target == "point" and source[0].features is None:
            raise ValueError(f"scene '{source.names[0]}' has no features per point")
        _require_work(ranks, len(scenes), settings.batch_size)
        self.network = network.to(device)
        self.epoch = 0
        self._ranks = ranks
        self._sizes = [0] * len(scenes)  # voxels of each scene, where it matters
        if not ranks.is_alone:
            ranks.copy_from_first(self.network.state_dict().values())
            synchronize_batch_norms(self.network, ranks.add)
            mine = [0] * len(source)
            for i in range(ranks.rank, len(source), ranks.world):  # each process counts some
                mine[i] = count_voxels(source[i].points, settings.voxel_size)
            self._sizes = ranks.gather(mine).sum(dim=0).tolist()
        self._scenes = source
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
        self._half: HalfEpoch | None = None
        self._low_precision = settings.precision == "bfloat16" or (
            settings.precision == "auto" and has_fast_bfloat16(device)
        )
        self._batches = BatchMaker(source, settings, seed=seed, device=device)

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
                self._half = HalfEpoch(step + 1, totals, generator.get_state())
                return None
        self.epoch += 1
        means = (ranks.add(totals) / len(chunks)).tolist()
        return EpochResult(self.epoch, means[0], means[1], rate)

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

    def _step(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """Train on the scenes of these numbers.

        Returns:
            (2,) distillation and self-distillation loss; of several processes, parts of a sum.
        """
        settings = self._settings
        is_mine = [self._holders.holds(i) for i in numbers]
        step = self._batches.make(numbers, is_mine, self.epoch, generator)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low_precision):
            output = forward_batch(self.network, step.batch)
        output = output.float()  # (V, D)
        limit = settings.max_voxels_per_step
        chosen = choose_voxels(step, is_mine, limit, generator, self._ranks)
        losses = torch.zeros(2)
        total = output.sum() * 0  # (): a loss also where no voxel was chosen
        if self._ensemble is None or settings.keep_superpoint_loss:
            loss = target_loss(output, step, chosen, self._target)
            losses[0] = loss.detach().cpu()
            total = total + loss
        if self._ensemble is not None:
            heat = settings.ensemble_temperature
            loss = ensemble_loss(self._ensemble, output, step, chosen, heat)
            losses[1] = loss.detach().cpu()
            total = total + settings.ensemble_weight * loss
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self._ranks.add_gradients(self.network)
        self._optimizer.step()
        return losses

    def _begin_ensemble(self) -> None:
        """Start the history with the student's own scores, averaged per superpoint."""
        if self._ensemble is not None:
            return
        ensemble = self._empty_ensemble()
        for scene in (self._scenes[i] for i in range(len(self._scenes)) if self._holders.holds(i)):
            cloud = cloud_of(scene)
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
            state |= self._half.state(self._ranks)
        state |= {_MODEL + key: value for key, value in self.network.state_dict().items()}
        state |= optimizer_state(self.network, self._optimizer)
        if self._ensemble is not None:
            past = self._holders.collect(self._ensemble)
            state |= {_PAST + key: value for key, value in past.items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` of the first process gave, with any number of processes."""
        self.epoch = int(state["epoch"])
        self._half = read_half_epoch(state, self._ranks)
        self._holders.forget()
        self.network.load_state_dict(entries_under(state, _MODEL))
        load_optimizer_state(self.network, self._optimizer, state)
        past = entries_under(state, _PAST)
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
