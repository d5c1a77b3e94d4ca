"""Batch of one training step: its scenes that this process has, augmented and voxelized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch

from pcdistill.distillation.augmentation import draw_change
from pcdistill.distillation.batch_cache import VoxelBatchCache
from pcdistill.distillation.batches import Batch, StudentInput, TrainingScene, make_voxel_batch
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

    def make(
        self,
        numbers: Sequence[int],
        is_mine: Sequence[bool],
        epoch: int,
        generator: torch.Generator,
    ) -> StepBatch:
        """Voxelize those scenes of a global batch that are mine, augmented.

        Args:
            numbers: of all scenes of the batch.
            is_mine: which of them this process has.
            epoch: from 0.
            generator: of the augmentation.
        """
        here = {i: self._scenes[i] for i, mine in zip(numbers, is_mine, strict=True) if mine}
        batch = self._batch(numbers, here, epoch, generator)
        return StepBatch(tuple(here.values()) or (self._no_scene,), batch, tuple(is_mine))

    def _batch(
        self,
        numbers: Sequence[int],
        here: Mapping[int, TrainingScene],
        epoch: int,
        generator: torch.Generator,
    ) -> Batch:
        """Batch of the scenes that are here, by their numbers among those of all processes."""
        settings = self._settings
        if len(numbers) == 1 and settings.augment in ("none", "grid"):
            if here:
                return self._cache.sample(numbers[0], epoch, generator)
            self._cache.skip(generator)
            return self._voxelize([cloud_of(self._no_scene)])
        tinted = self._scenes.sees_color
        changes = [draw_change(settings.augment, generator, tinted=tinted) for _ in numbers]
        clouds = [
            change(cloud_of(here[i]))
            for i, change in zip(numbers, changes, strict=True)
            if i in here
        ]
        return self._voxelize(clouds or [cloud_of(self._no_scene)])

    @cached_property
    def _no_scene(self) -> TrainingScene:
        """What a process has that has none of a step: of the same kind, without points."""
        scene = self._scenes[0]
        cut = {key: None if part is None else part[:0] for key, part in vars(scene).items()}
        return TrainingScene(**{**cut, "name": ""})  # type: ignore[arg-type]

    def _voxelize(self, clouds: Sequence[StudentInput]) -> Batch:
        size = self._settings.voxel_size
        return make_voxel_batch([cloud.to(self._device) for cloud in clouds], size)


def cloud_of(scene: TrainingScene) -> StudentInput:
    """What the student is given of a scene."""
    return StudentInput(scene.points, scene.normals, scene.colors)
