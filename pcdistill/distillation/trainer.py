"""Training of a student on fused 2D features, resumable after each step, by one process or several.

Letters: V voxels of all scenes of a batch together, D channels of the student and the text,
P prompts, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.distillation.batch_cache import mixed_seed
from pcdistill.distillation.batch_order import make_batches
from pcdistill.distillation.batch_queue import BatchQueue
from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.distributed import ALONE, Ranks
from pcdistill.distillation.history_file import HistoryFile
from pcdistill.distillation.history_holders import HistoryHolders
from pcdistill.distillation.loss_voxels import LossVoxels, choose_voxels
from pcdistill.distillation.losses import at_least_float32
from pcdistill.distillation.scene_deal import count_voxels, cut_evenly, deal_epoch, require_work
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.schedule import scheduled_learning_rate
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.step_batches import BatchMaker, StepBatch, cloud_of
from pcdistill.distillation.step_losses import ensemble_loss, target_loss
from pcdistill.distillation.student_features import (
    forward_batch,
    has_fast_bfloat16,
    infer_point_features,
)
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble
from pcdistill.distillation.training_results import EpochResult, StepResult
from pcdistill.distillation.training_state import HalfEpoch, entries_under, read_half_epoch
from pcdistill.distillation.voxel_limit import VoxelLimit
from pcdistill.distillation.weight_update import WeightUpdate
from pcdistill.sparse import synchronize_batch_norms

_MODEL, _PAST = "model/", "ensemble/"


class Trainer:
    """Training loop: the student, its optimizer and its temporal ensemble.

    Every epoch draws its randomness from (seed, epoch), so a training that was stopped and
    resumed gives the same student as one that was not.

    Several processes share the scenes of each step. All draw the same numbers, whoever needs them;
    losses are means, and batch norms of statistics, over the scenes of all: the student is that of
    one process, up to rounding. The history of a scene is written by the process that has the scene
    in this epoch. Every method but `finished` is called by all of them.
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
        history_path: Path | None = None,
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
            history_path: file for the histories of the ensemble, which all processes see; without
                one they are in memory, and in every state, which one process alone may do.

        Raises:
            ValueError: no scene, point-wise targets are asked for where a scene has none, or
                several processes have no file for the histories of their ensemble.
            ConfigError: more processes than scenes in a step, or a scene has more voxels than a
                batch may have.
        """
        if not scenes:
            raise ValueError("a student needs at least one training scene")
        source = scenes if isinstance(scenes, SceneSource) else SceneSource.of(scenes)
        if target == "point" and source[0].features is None:
            raise ValueError(f"scene '{source.names[0]}' has no features per point")
        if ensemble and history_path is None and not ranks.is_alone:
            raise ValueError("several processes need a file for the histories of their ensemble")
        require_work(ranks.world, len(scenes), settings.batch_size, settings.accumulate)
        self.network = network.to(device)
        self.epoch = 0
        self._ranks = ranks
        self._settings = settings
        self._scenes = source
        self._limit = VoxelLimit(settings.max_voxels_per_batch, ranks, source.names)
        self._sizes = [0] * len(scenes)  # voxels of each scene, where it matters
        if not ranks.is_alone:
            ranks.copy_from_first(self.network.state_dict().values())
            synchronize_batch_norms(self.network, ranks.add)
        if not ranks.is_alone or settings.counts_voxels:
            self._sizes = self._count_voxels()
            self._limit.require_room(self._sizes)
        self._holders = HistoryHolders(ranks)
        self._text = text_embeddings.float().to(device)  # (P, D)
        self._class_of_prompt = class_of_prompt
        self._target = target
        self._uses_ensemble = ensemble
        self._seed = seed
        self._device = device
        self._update = WeightUpdate(self.network, settings, device, ranks)
        self._history_path = history_path
        self._ensemble: TemporalEnsemble | None = None
        self._half: HalfEpoch | None = None
        self._low_precision = {  # of the products inside the student; None for float32
            "float32": None,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
            "auto": torch.bfloat16 if has_fast_bfloat16(device) else None,
        }[settings.precision]
        self._batches = BatchMaker(source, settings, seed=seed, device=device)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self._settings.epochs

    def answering(self) -> AbstractContextManager[object]:
        """Have in the network what answers, for the time of a block: the weights, or their average.

        Where there is an average it is validated and written; the student learns on from its own
        weights, and the temporal ensemble takes the output of these.
        """
        average = self._update.average
        return nullcontext() if average is None else average.in_network()

    @property
    def steps_per_epoch(self) -> int:
        """Changes of the weights in an epoch."""
        return -(-len(self._scenes) // self._settings.batch_size)

    @property
    def steps_done(self) -> int:
        """Changes of the weights so far, also within an epoch in which training paused."""
        within = 0 if self._half is None else self._half.step
        return self.epoch * self.steps_per_epoch + within

    def train_epoch(
        self,
        pause: Callable[[], bool] = lambda: False,
        note: Callable[[StepResult], None] | None = None,
    ) -> EpochResult | None:
        """Train for one epoch, or what is left of the one in which training paused.

        Args:
            pause: asked after each step but the last, by all processes: whether to pause.
            note: told of each step, in all processes.

        Returns:
            losses of the epoch; None where it paused, after which `state` tells where.
        """
        settings, ranks = self._settings, self._ranks
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, self.epoch))
        chunks = make_batches(self._sizes, settings.batch_size, settings.batch_order, generator)
        owners = deal_epoch(chunks, self._sizes, ranks.world, settings.accumulate)
        self._holders.hand_over(self._ensemble, owners)
        if self._uses_ensemble and self.epoch >= settings.ensemble_epoch:
            self._begin_ensemble()
        self.network.train()
        first, totals = 0, torch.zeros(2)  # distillation and self-distillation loss, summed
        effort = torch.zeros(4, dtype=torch.float64)  # of the steps, summed
        if self._half is not None:
            first, totals, effort = self._half.step, self._half.totals, self._half.effort
            generator.set_state(self._half.generator)
            self._half = None
        rate = settings.learning_rate
        steps = [cut_evenly(numbers, settings.accumulate) for numbers in chunks[first:]]
        with BatchQueue(
            self._batches,
            steps,
            self._holders.holds,
            self.epoch,
            generator,
            settings.workers,
            self._limit,
        ) as queue:
            for step in range(first, len(chunks)):
                rate = self._set_learning_rate(self.epoch * len(chunks) + step, len(chunks))
                losses, spent = self._step(queue, generator)
                totals += losses
                effort += spent
                if note is not None:
                    number = self.epoch * len(chunks) + step + 1
                    note(self._step_result(number, losses, spent, rate))
                if step + 1 < len(chunks) and ranks.any(pause()):
                    self._half = HalfEpoch(step + 1, totals, effort, queue.resume_state)
                    return None
        self.epoch += 1
        loss, own_loss = (ranks.add(totals) / len(chunks)).tolist()
        norms, voxels, seconds, waiting = ranks.add(effort).tolist()
        norm = norms / len(chunks)
        return EpochResult(self.epoch, loss, own_loss, rate, norm, int(voxels), seconds, waiting)

    def _count_voxels(self) -> list[int]:
        """Voxels of each scene as it was scanned; each process counts some."""
        ranks, scenes = self._ranks, self._scenes
        mine = [0] * len(scenes)
        for i in range(ranks.rank, len(scenes), ranks.world):
            mine[i] = count_voxels(scenes[i].points, self._settings.voxel_size)
        return ranks.gather(mine).sum(dim=0).tolist()

    def _set_learning_rate(self, iteration: int, steps: int) -> float:
        settings = self._settings
        rate = scheduled_learning_rate(
            settings.schedule,
            iteration,
            settings.epochs * steps,
            base=settings.learning_rate,
            final=settings.final_learning_rate,
        )
        self._update.set_learning_rate(rate)
        return rate

    def _step_result(self, number: int, losses: Tensor, effort: Tensor, rate: float) -> StepResult:
        """What `StepResult` tells of step `number`, of what each process has of it."""
        both = self._ranks.add(torch.cat([losses.double(), effort]))  # (6,)
        loss, own_loss, norm, voxels, seconds, waiting = both.tolist()
        return StepResult(
            self.epoch + 1, number, loss, own_loss, rate, norm, int(voxels), seconds, waiting
        )

    def _step(self, queue: BatchQueue, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Train on the next scenes.

        Returns:
            (2,) float32 distillation and self-distillation loss; of several processes, summands.
            (4,) float64 gradient norm, voxels, seconds, seconds of waiting; also summands.
        """
        begin = time.perf_counter()
        parts = queue.take()
        waiting = time.perf_counter() - begin
        limit = self._settings.max_voxels_per_step
        losses, chosen = torch.zeros(2), choose_voxels(parts, limit, generator, self._ranks)
        queue.prepare_next()
        for part, voxels in zip(parts, chosen, strict=True):
            losses += self._learn(part, voxels)
        norm = self._update.step()
        first = float(self._ranks.is_first)  # tells what is the same in all processes
        spent = [norm * first, 0.0, (time.perf_counter() - begin) * first, waiting * first]
        spent[1] = sum(len(part.batch.coords) for part in parts)
        return losses, torch.tensor(spent, dtype=torch.float64)

    def _learn(self, part: StepBatch, chosen: LossVoxels) -> Tensor:
        """Add the gradients of a part of a step; returns its two losses (2,), summands."""
        settings, kind = self._settings, self._low_precision
        with torch.autocast(self._device.type, kind or torch.bfloat16, enabled=kind is not None):
            output = forward_batch(self.network, part.batch)
        output = at_least_float32(output)  # (V, D)
        losses = torch.zeros(2)
        total = output.sum() * 0  # (): a loss also where no voxel was chosen
        if self._ensemble is None or settings.ensemble.keep_superpoint_loss:
            loss = target_loss(output, part, chosen, self._target)
            losses[0] = loss.detach().cpu()
            total = total + loss
        if self._ensemble is not None:
            loss = ensemble_loss(self._ensemble, output, part, chosen, settings.ensemble)
            losses[1] = loss.detach().cpu()
            total = total + settings.ensemble.weight * loss
        self._update.backward(total)
        return losses

    def _begin_ensemble(self) -> None:
        """Start each history with scores averaged per superpoint.

        They are those of the student, or of the 2D features that it learns from.
        """
        if self._ensemble is not None:
            return
        ensemble, settings = self._empty_ensemble(), self._settings
        if isinstance(ensemble.histories, HistoryFile):
            ensemble.histories.create()
        for scene in (self._scenes[i] for i in range(len(self._scenes)) if self._holders.holds(i)):
            ids, index = scene.superpoint_ids, None  # (N of it,) both
            if settings.ensemble.begins_with == "targets":
                features, index = scene.superpoint_means.float(), ids  # (S of it, D)
            else:
                features = infer_point_features(  # (N of it, D)
                    self.network, cloud_of(scene), settings.voxel_size, self._device
                )
            if settings.ensemble.unit_outputs:
                features = functional.normalize(features, dim=1)
            ensemble.initialize(
                scene.name,
                features,
                point_to_voxel=index,
                superpoint_ids=ids,
                count=len(scene.superpoint_means),
            )
        self._ensemble = ensemble

    def _empty_ensemble(self) -> TemporalEnsemble:
        return TemporalEnsemble(
            self._text,
            self._settings.ensemble.decay,
            point_labels=self._settings.ensemble.point_labels,
            class_of_prompt=self._class_of_prompt,
            histories=self._history_file(),
        )

    def _history_file(self) -> HistoryFile | None:
        """File of histories that is not open yet; None where they are kept in memory."""
        if self._history_path is None:
            return None
        scenes, path, prompts = self._scenes, self._history_path, len(self._text)
        if self._settings.ensemble.point_labels == "superpoint":
            counts = scenes.superpoint_counts
            return HistoryFile(path, scenes.names, counts, prompts, self._ranks, rows="superpoints")
        return HistoryFile(path, scenes.names, scenes.point_counts, prompts, self._ranks)

    def state(self) -> dict[str, Tensor]:
        """Collect everything needed to go on after this step, as named tensors.

        Of histories in a file only their places are told; they hold as long as no later state is
        confirmed.
        """
        state = {"epoch": torch.tensor(self.epoch)}
        if self._half is not None:
            state |= self._half.state(self._ranks)
        state |= {_MODEL + key: value for key, value in self.network.state_dict().items()}
        state |= self._update.state()
        if self._ensemble is not None:
            past = self._holders.collect(self._ensemble)
            state |= {_PAST + key: value for key, value in past.items()}
        return state

    def required_shapes(self) -> dict[str, torch.Size]:
        """Shapes of what every state after the first step has, by name."""
        weights = {_MODEL + key: v.shape for key, v in self.network.state_dict().items()}
        return {"epoch": torch.Size(), **weights, **self._update.required_shapes()}

    def confirm_state(self) -> None:
        """Say that the last state was written for good; called by all processes.

        What an earlier one needs of the file of histories may be overwritten from now on.
        """
        self._ranks.wait()
        if self._ensemble is not None and isinstance(self._ensemble.histories, HistoryFile):
            self._ensemble.histories.confirm()

    def has_histories_of(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the file of histories, where there is one, is the one that a state needs."""
        file = self._history_file()
        return file is None or file.belongs_to(entries_under(state, _PAST))

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` of the first process gave, with any number of processes."""
        self.epoch = int(state["epoch"])
        self._half = read_half_epoch(state, self._ranks)
        self._holders.forget()
        self.network.load_state_dict(entries_under(state, _MODEL))
        self._update.load_state(state)
        past = entries_under(state, _PAST)
        if past and self._uses_ensemble:
            self._ensemble = self._empty_ensemble()
            self._ensemble.load_state_dict(past)
