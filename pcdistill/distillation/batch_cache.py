"""Cache of voxel batches with their kernel maps, from one training step to others."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.distillation.augmentation import sample_color_gain
from pcdistill.distillation.batches import (
    INPUT_CHANNELS,
    Batch,
    StudentInput,
    draw_shift,
    make_voxel_batch,
)
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.sparse import CoordinateManager, GridSymmetry

KEPT_BYTES = 1 << 30
"""Of kernel maps that one training keeps; those of further scenes are made at every step."""


def mixed_seed(*parts: int) -> int:
    """One seed of several numbers >= 0, of any size, below 2**63 as torch's generators want it."""
    seed = 0
    for part in parts:
        seed = seed * 1_000_003 + part
    return seed % (1 << 63)


class VoxelBatchCache:
    """Cache of one-scene batches, in one of eight symmetries of the grid at each step.

    Turned by multiples of 90 degrees or mirrored, a grid has the same neighbors under other
    offsets (`CoordinateManager.transformed`), so they are found once for all eight. Up stays up:
    only x and y are exchanged or run backwards.
    """

    def __init__(
        self,
        scenes: SceneSource,
        voxel_size: float,
        *,
        turn: bool,
        seed: int,
        device: torch.device,
        revoxelize_every: int = 1,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """Take the scenes.

        Args:
            scenes: whose points, normals and colours the student sees.
            voxel_size: metres.
            turn: turn, mirror, shift and tint; otherwise every step sees the scene as it is.
            seed: of the shifts.
            device: where the batches are wanted.
            revoxelize_every: epochs for which a scene keeps the voxels it was cut into. Never cut
                anew, scenes are learned by heart.
            kept_bytes: bound on all kernel maps kept together.
        """
        self._scenes = scenes
        self._voxel_size = voxel_size
        self._turn = turn
        self._seed = seed
        self._device = device
        self._revoxelize_every = revoxelize_every
        self._free_bytes = kept_bytes
        self._kept: dict[int, tuple[int, Batch]] = {}
        self._last: tuple[int, int, Batch] | None = None

    def sample(self, scene: int, epoch: int, generator: torch.Generator) -> Batch:
        """Voxelize one scene as the epoch says, turned and tinted as the generator draws.

        Args:
            scene: its number.
            epoch: from 0.
            generator: of the symmetry and the color gain.
        """
        if not self._turn:
            return self._voxelize(scene, 0)
        turn, tint = _draw_change(generator)
        batch = self._voxelize(scene, epoch // self._revoxelize_every)
        features = _turned_features(batch.features, turn, tint)
        if batch.maps is None:
            raise RuntimeError("a view of the grid has no kernel maps")
        return batch._replace(features=features, maps=batch.maps.transformed(turn))

    def skip(self, generator: torch.Generator) -> None:
        """Draw from the generator what `sample` draws, for a scene that another process has."""
        if self._turn:
            _draw_change(generator)

    def _voxelize(self, scene: int, number: int) -> Batch:
        """Voxels of a scene; each `number` has its own shift on the grid."""
        self._settle()
        kept = self._kept.get(scene)
        if kept is not None and kept[0] == number:
            return kept[1]
        self._forget(scene)
        one = self._scenes[scene]
        shift = None
        if self._turn:
            generator = torch.Generator().manual_seed(mixed_seed(self._seed, scene, number))
            shift = draw_shift(generator)
        cloud = StudentInput(one.points, one.normals, one.colors, shift).to(self._device)
        batch = make_voxel_batch([cloud], self._voxel_size)
        batch = batch._replace(maps=CoordinateManager(batch.coords))
        self._last = (scene, number, batch)
        return batch

    def _settle(self) -> None:
        """Keep the batch of the step before, whose maps are complete now, where it fits."""
        if self._last is None:
            return
        scene, number, batch = self._last
        self._last = None
        size = _size(batch)
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._kept[scene] = (number, batch)

    def _forget(self, scene: int) -> None:
        kept = self._kept.pop(scene, None)
        if kept is not None:
            self._free_bytes += _size(kept[1])


def _size(batch: Batch) -> int:
    return 0 if batch.maps is None else batch.maps.nbytes


def _draw_change(generator: torch.Generator) -> tuple[GridSymmetry, Tensor]:
    """A symmetry of the grid and (3,) gain of each colour channel."""
    draw = torch.rand(3, generator=generator).tolist()
    turn = GridSymmetry(
        (1, 0, 2) if draw[0] < 0.5 else (0, 1, 2), (draw[1] < 0.5, draw[2] < 0.5, False)
    )
    return turn, sample_color_gain(generator)


def _turned_features(features: Tensor, turn: GridSymmetry, tint: Tensor) -> Tensor:
    """(V, C) float32: `input_features` of the turned and tinted scene.

    Args:
        features: (V, C) float32 as `input_features` gave it.
        turn: of the grid.
        tint: (3,) gain of each colour channel.
    """
    if features.shape[1] == INPUT_CHANNELS["constant"]:
        return features
    turned = features.clone()  # (V, C): normal, height and, where C is 7, color
    turned[:, :3] = features[:, :3] @ turn.matrix().T.to(features.device, features.dtype)
    if features.shape[1] == INPUT_CHANNELS["color"]:
        turned[:, 4:] = ((features[:, 4:] + 1) * tint.to(features.device)).clamp(max=2) - 1
    return turned
