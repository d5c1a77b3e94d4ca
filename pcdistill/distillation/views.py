"""Voxels of the training scenes whose kernel maps outlive a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.distillation.data import (
    INPUT_CHANNELS,
    Batch,
    Cloud,
    TrainingScene,
    draw_tint,
    voxel_batch,
)
from pcdistill.sparse import CoordinateMaps, GridTurn

SHIFTS = 2
"""Ways in which the grid lies over a scene. Each costs the memory of its kernel maps once; the
eight turns of the grid cost nothing."""
_LARGEST_SHIFT = 16
"""Voxels: how often the MinkUNet family halves the grid, so that coarse voxels are cut anew too."""
KEPT_BYTES = 1 << 30
"""Of kernel maps that one training keeps; those of further scenes are made at every step."""


class GridViews:
    """One scene a step, seen from one of eight sides, on voxels that were cut once.

    Finding neighbours costs a third of a step of a small student. Turned by multiples of 90
    degrees or mirrored, a grid has the same neighbours under other offsets
    (`CoordinateMaps.turned`), so they are found once per scene and shift. The heights of the walls
    stay: only x and y are exchanged or run backwards.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        voxel_size: float,
        *,
        turn: bool,
        seed: int,
        device: torch.device,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """Take the scenes.

        Args:
            scenes: whose points, normals and colours the student sees.
            voxel_size: metres.
            turn: turn, mirror, shift and tint; otherwise every step sees the scene as it is.
            seed: of the shifts.
            device: where the batches are wanted.
            kept_bytes: bound on all kernel maps kept together.
        """
        self._scenes = tuple(scenes)
        self._voxel_size = voxel_size
        self._turn = turn
        self._seed = seed
        self._device = device
        self._room = kept_bytes
        self._kept: dict[tuple[int, int], Batch] = {}
        self._last: tuple[tuple[int, int], Batch] | None = None

    def draw(self, scene: int, generator: torch.Generator) -> Batch:
        """Cut one scene into voxels, as the generator's draws say."""
        if not self._turn:
            return self._cut(scene, 0)
        draw = torch.rand(4, generator=generator).tolist()
        batch = self._cut(scene, int(SHIFTS * draw[0]))
        turn = GridTurn(
            (1, 0, 2) if draw[1] < 0.5 else (0, 1, 2), (draw[2] < 0.5, draw[3] < 0.5, False)
        )
        features = _turned_features(batch.features, turn, draw_tint(generator))
        if batch.maps is None:
            raise RuntimeError("a view of the grid has no kernel maps")
        return batch._replace(features=features, maps=batch.maps.turned(turn))

    def _cut(self, scene: int, shift: int) -> Batch:
        self._settle()
        key = (scene, shift)
        if key in self._kept:
            return self._kept[key]
        points, normals, colors = (
            self._scenes[scene].points,
            self._scenes[scene].normals,
            self._scenes[scene].colors,
        )
        if self._turn:
            generator = torch.Generator().manual_seed((self._seed * 1_000_003 + scene) * 97 + shift)
            points = points + _LARGEST_SHIFT * self._voxel_size * torch.rand(
                3, generator=generator
            ).to(points.device, points.dtype)
        batch = voxel_batch([Cloud(points, normals, colors).to(self._device)], self._voxel_size)
        batch = batch._replace(maps=CoordinateMaps(batch.coords))
        self._last = (key, batch)
        return batch

    def _settle(self) -> None:
        """Keep what was cut for the step before, whose maps are complete now, if there is room."""
        if self._last is None:
            return
        key, batch = self._last
        self._last = None
        size = 0 if batch.maps is None else batch.maps.nbytes
        if size <= self._room:
            self._room -= size
            self._kept[key] = batch


def _turned_features(features: Tensor, turn: GridTurn, tint: Tensor) -> Tensor:
    """What `input_features` would give of the turned and tinted scene.

    Args:
        features: (V, C) float32 as `input_features` gave it.
        turn: of the grid.
        tint: (3,) gain of each colour channel.
    """
    if features.shape[1] == INPUT_CHANNELS["constant"]:
        return features
    turned = features.clone()
    turned[:, :3] = features[:, :3] @ turn.matrix().T.to(features.device, features.dtype)
    if features.shape[1] == INPUT_CHANNELS["color"]:
        turned[:, 4:] = ((features[:, 4:] + 1) * tint.to(features.device)).clamp(max=2) - 1
    return turned
