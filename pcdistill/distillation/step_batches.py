"""Batch of one training step: its scenes that this process has, augmented and voxelized."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch

from pcdistill.distillation.augmentation import SceneChange, draw_change
from pcdistill.distillation.batch_cache import GridView, VoxelBatchCache
from pcdistill.distillation.batches import (
    Batch,
    StudentInput,
    TrainingScene,
    VoxelizedCloud,
    join_clouds,
    voxelize_cloud,
)
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.settings import TrainerSettings


class StepBatch(NamedTuple):
    """What one process works on at once: a step, or a part of one."""

    scenes: tuple[TrainingScene, ...]
    """Those that are here; one without points where none is."""
    batch: Batch
    """Their voxels."""
    is_mine: tuple[bool, ...]
    """Of the scenes of all processes, which are here."""


class BatchPlan(NamedTuple):
    """What was drawn for a batch that is not made yet."""

    numbers: tuple[int, ...]
    """Of the scenes of all processes."""
    is_mine: tuple[bool, ...]
    """Which of them are here."""
    epoch: int
    changes: tuple[SceneChange, ...]
    """Of each scene."""
    view: GridView | None
    """Of the one scene whose voxels are kept."""
    is_cached: bool
    """Whether it is one scene whose voxels are kept."""

    def part(self, first: int, end: int) -> BatchPlan:
        """Of the scenes from place `first` to before `end` of several."""
        return self._replace(
            numbers=self.numbers[first:end],
            is_mine=self.is_mine[first:end],
            changes=self.changes[first:end],
        )


class PreparedScene(NamedTuple):
    """One scene of a batch, read and voxelized."""

    scene: TrainingScene
    cloud: VoxelizedCloud | None
    """None where voxels are kept."""
    batch: Batch | None
    """Voxels to keep; None where they are kept already."""


class BatchMaker:
    """Maker of the batches of a training.

    Several processes share the scenes of each step. Every process draws the changes of all
    scenes, so that the generators stay alike, and makes those of its own.
    """

    def __init__(
        self,
        scenes: SceneSource,
        settings: TrainerSettings,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """Take the scenes.

        Args:
            scenes: all that are learned from.
            settings: voxel size and augmentation.
            seed: of the shifts of kept voxels.
            device: where the batches are wanted.
        """
        self._scenes = scenes
        self._settings = settings
        self._device = device
        self._cache = VoxelBatchCache(
            scenes,
            settings.voxel_size,
            turn=settings.augment == "grid",
            seed=seed,
            device=device,
            revoxelize_every=settings.revoxelize_every,
        )

    def draw(
        self,
        numbers: Sequence[int],
        is_mine: Sequence[bool],
        epoch: int,
        generator: torch.Generator,
    ) -> BatchPlan:
        """Draw the changes of all scenes of a global batch, or of a part of one.

        Args:
            numbers: of the scenes.
            is_mine: which of them this process has.
            epoch: from 0.
            generator: of the augmentation.
        """
        augment, own = self._settings.augment, tuple(is_mine)
        if len(numbers) == 1 and augment in ("none", "grid"):
            return BatchPlan(tuple(numbers), own, epoch, (), self._cache.draw(generator), True)
        tinted = self._scenes.sees_color
        changes = [draw_change(augment, generator, tinted=tinted) for _ in numbers]
        return BatchPlan(tuple(numbers), own, epoch, tuple(changes), None, False)

    def prepare(self, plan: BatchPlan, place: int) -> PreparedScene:
        """Read, change and voxelize one scene of a plan; any thread may call it.

        Args:
            plan: of the batch.
            place: of the scene in it; one that this process has.
        """
        number = plan.numbers[place]
        scene = self._scenes[number]
        if plan.is_cached:
            return PreparedScene(scene, None, self._cache.prepare(number, plan.epoch))
        return PreparedScene(scene, self._voxelize(plan.changes[place](cloud_of(scene))), None)

    def finish(self, plan: BatchPlan, prepared: Sequence[PreparedScene]) -> StepBatch:
        """Make the batch of a plan; called in the order of the steps, by the thread that trains.

        Args:
            plan: of the batch.
            prepared: its scenes that this process has, in their order.
        """
        if not prepared:
            nothing = self._voxelize(cloud_of(self._no_scene))
            return StepBatch((self._no_scene,), join_clouds([nothing]), plan.is_mine)
        scenes = tuple(one.scene for one in prepared)
        if plan.is_cached:
            (number,), (one,) = plan.numbers, prepared
            batch = self._cache.sample(number, plan.epoch, plan.view, one.batch)
        else:
            batch = join_clouds([one.cloud for one in prepared if one.cloud is not None])
        return StepBatch(scenes, batch, plan.is_mine)

    @cached_property
    def _no_scene(self) -> TrainingScene:
        """What a process has that has none of a step: of the same kind, without points."""
        scene = self._scenes[0]
        cut = {key: None if part is None else part[:0] for key, part in vars(scene).items()}
        return TrainingScene(**{**cut, "name": ""})  # type: ignore[arg-type]

    def _voxelize(self, cloud: StudentInput) -> VoxelizedCloud:
        return voxelize_cloud(cloud.to(self._device), self._settings.voxel_size)


def cloud_of(scene: TrainingScene) -> StudentInput:
    """What the student is given of a scene."""
    return StudentInput(scene.points, scene.normals, scene.colors)
