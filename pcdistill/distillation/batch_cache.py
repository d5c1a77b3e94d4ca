"""Cache of voxel batches with their kernel maps, from one training step to others."""

from __future__ import annotations

from typing import NamedTuple

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


class GridView(NamedTuple):
    """How a scene is seen at one step."""

    turn: GridSymmetry
    """Of the grid."""
    tint: Tensor
    """(3,) gain of each colour channel."""


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

    def draw(self, generator: torch.Generator) -> GridView | None:
        """Draw how a scene is seen at one step; None where it is seen as it is."""
        return _draw_change(generator) if self._turn else None

    def prepare(self, scene: int, epoch: int) -> Batch | None:
        """Voxelize one scene as the epoch says, where that is not kept; another thread may call it.

        Args:
            scene: its number, not that of a batch in use.
            epoch: from 0.
        """
        kept = self._kept.get(scene)
        return None if kept and kept[0] == self._cut(epoch) else self._voxelize(scene, epoch)

    def sample(
        self, scene: int, epoch: int, view: GridView | None, prepared: Batch | None = None
    ) -> Batch:
        """Batch of one scene, turned and tinted as was drawn.

        Args:
            scene: its number.
            epoch: from 0.
            view: what `draw` gave.
            prepared: what `prepare` gave for this scene and epoch.
        """
        batch = self._with_maps(scene, epoch, prepared)
        if view is None:
            return batch
        features = _turned_features(batch.features, view.turn, view.tint)
        if batch.maps is None:
            raise RuntimeError("a view of the grid has no kernel maps")
        return batch._replace(features=features, maps=batch.maps.transformed(view.turn))

    def _cut(self, epoch: int) -> int:
        """Number of the cut into voxels, from 0; each has its own shift on the grid."""
        return epoch // self._revoxelize_every if self._turn else 0

    def _with_maps(self, scene: int, epoch: int, prepared: Batch | None) -> Batch:
        """Voxels of a scene with what is known of their neighbors."""
        self._settle()
        number, kept = self._cut(epoch), self._kept.get(scene)
        if kept is not None and kept[0] == number:
            return kept[1]
        self._forget(scene)
        batch = prepared if prepared is not None else self._voxelize(scene, epoch)
        batch = batch._replace(maps=CoordinateManager(batch.coords))
        self._last = (scene, number, batch)
        return batch

    def _voxelize(self, scene: int, epoch: int) -> Batch:
        one, shift = self._scenes[scene], None
        if self._turn:
            seed = mixed_seed(self._seed, scene, self._cut(epoch))
            shift = draw_shift(torch.Generator().manual_seed(seed))
        cloud = StudentInput(one.points, one.normals, one.colors, shift).to(self._device)
        return make_voxel_batch([cloud], self._voxel_size)

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


def _draw_change(generator: torch.Generator) -> GridView:
    draw = torch.rand(3, generator=generator).tolist()
    turn = GridSymmetry(
        (1, 0, 2) if draw[0] < 0.5 else (0, 1, 2), (draw[1] < 0.5, draw[2] < 0.5, False)
    )
    return GridView(turn, sample_color_gain(generator))


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
