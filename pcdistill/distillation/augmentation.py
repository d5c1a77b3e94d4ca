"""Augmentation of training scenes: rotation, reflection, scale, shift, distortion and color gain.

A change is drawn first, from a generator alone, and made of a cloud later, perhaps elsewhere: what
is drawn does not depend on the cloud.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.distillation.batches import StudentInput, draw_shift
from pcdistill.distillation.elastic import distort
from pcdistill.distillation.settings import Augment

MAX_TILT = math.pi / 64
"""Radians about x and y; the reference loaders turn as little about them."""
TINTS = (0.75, 1.25)
"""Range of the random gain of each colour channel."""
SCALES = (0.9, 1.1)
"""Range of the random scale, as in the reference loaders."""
OFTEN = 0.95
"""How often the reference distorts a scene, and how often it thinks of flipping one."""


class SceneChange(NamedTuple):
    """A change of a scene, as it was drawn; in the order in which it is made."""

    elastic_seed: int | None = None
    """Of the noise by which the scene is distorted; None for not at all."""
    rotation: Tensor | None = None
    """(3, 3) float64; on a grid it may mirror."""
    scale: float | None = None
    """Unitless; with one, points become float64."""
    mirrored: tuple[bool, bool] = (False, False)
    """Along x and y, after the rotation."""
    shift: Tensor | None = None
    """(3,) float32, on the grid, in voxels."""
    color_gain: Tensor | None = None
    """(3,) float32 of each colour channel."""

    def __call__(self, cloud: StudentInput) -> StudentInput:
        """The changed cloud."""
        if self.elastic_seed is not None:
            noise = torch.Generator().manual_seed(self.elastic_seed)
            points, normals = distort(cloud.points, cloud.normals, noise)
            cloud = cloud._replace(points=points, normals=normals)
        if self.rotation is not None:
            if self.scale is not None:
                cloud = rotate_scale(cloud, self.rotation, self.scale)
            else:
                cloud = _turned(cloud, self.rotation)
        if any(self.mirrored):
            signs = torch.tensor([-1.0 if one else 1.0 for one in (*self.mirrored, False)])
            cloud = _turned(cloud, torch.diag(signs))
        if self.color_gain is not None and cloud.colors is not None:
            gain = self.color_gain.to(cloud.colors.device)
            tinted = (cloud.colors.float() * gain).clamp(0, 255)  # (N, 3)
            cloud = cloud._replace(colors=tinted.to(torch.uint8))
        return cloud if self.shift is None else cloud._replace(grid_shift=self.shift)


def draw_change(augment: Augment, generator: torch.Generator, *, tinted: bool) -> SceneChange:
    """Draw a change of this name.

    Args:
        augment: `none` draws nothing; `grid`, `full` and `reference` as the functions below.
        generator: of the draw.
        tinted: whether the student sees colours, which `grid` changes too.
    """
    if augment == "grid":
        return draw_on_grid(generator, tinted=tinted)
    if augment == "full":
        return draw_rotate_scale(generator)
    return draw_reference(generator) if augment == "reference" else SceneChange()


def draw_on_grid(generator: torch.Generator, *, tinted: bool) -> SceneChange:
    """Draw a turn by a multiple of 90 degrees, mirrored or not, a shift, and a color gain.

    For scenes whose walls stand along the axes, and will at inference, too.
    """
    draw = torch.rand(2, generator=generator)
    matrix = _rotation(2, math.pi / 2 * int(4 * draw[0])).round()
    if draw[1] < 0.5:
        matrix[0] = -matrix[0]
    shift = draw_shift(generator)
    gain = sample_color_gain(generator) if tinted else None
    return SceneChange(rotation=matrix, shift=shift, color_gain=gain)


def sample_color_gain(generator: torch.Generator) -> Tensor:
    """(3,) float32 gain of each colour channel."""
    return TINTS[0] + (TINTS[1] - TINTS[0]) * torch.rand(3, generator=generator)


def draw_rotate_scale(generator: torch.Generator) -> SceneChange:
    """Draw a turn by any angle about z and a little about x and y, in any order, and a scale.

    Source: OpenScene's loaders (dataset/voxelizer.py), which do it in training and in evaluation.
    """
    draw = torch.rand(4, generator=generator, dtype=torch.float64)
    angles = (2 * draw[:3] - 1) * torch.tensor([MAX_TILT, MAX_TILT, math.pi])  # (3,) radians
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * draw[3]
    rotation = torch.eye(3, dtype=torch.float64)
    for axis in torch.randperm(3, generator=generator).tolist():
        rotation = _rotation(axis, float(angles[axis])) @ rotation
    return SceneChange(rotation=rotation, scale=float(scale))


def draw_reference(generator: torch.Generator) -> SceneChange:
    """Draw all that the reference names for training: as `draw_rotate_scale`, and more.

    Before it, 19 scenes in 20 are distorted (`elastic.distort`). After it, x and y run backwards
    with a chance of 0.475 each, and the scene is shifted on the grid by a random number of voxels,
    fractions included.

    Source: OpenScene's and SAS's loaders and SAS's run/distill_sp.py, with three differences. They
    distort in vain, see `elastic.distort`. Their translation, up to a fifth of the extent, acts
    only together with a clipping box that they never give; what is left of it here is the shift.
    They mirror voxels, not points, so that a mirrored scene has the same borders of voxels; their
    shift is of whole voxels below 100, one for a batch.
    """
    change = draw_rotate_scale(generator)
    draw = torch.rand(4, generator=generator).tolist()
    mirrored = (draw[0] < OFTEN and draw[1] < 0.5, draw[0] < OFTEN and draw[2] < 0.5)
    seed = int(torch.randint(0, (1 << 63) - 1, (), generator=generator))
    return change._replace(
        mirrored=mirrored,
        shift=draw_shift(generator),
        elastic_seed=seed if draw[3] < OFTEN else None,
    )


def augment_rotate_scale(cloud: StudentInput, generator: torch.Generator) -> StudentInput:
    """Change a cloud as `draw_rotate_scale` draws."""
    return draw_rotate_scale(generator)(cloud)


def rotate_scale(cloud: StudentInput, rotation: Tensor, scale: float) -> StudentInput:
    """Turn a cloud by a rotation (3, 3) float64 and scale it.

    The points become float64, so that they fall into the voxels they do in the reference, which
    rounds nothing before it cuts.

    Args:
        cloud: N points with their normals and colors.
        rotation: (3, 3) float64.
        scale: of the points, unitless.
    """
    scaled = cloud._replace(points=scale * cloud.points.double())
    return _turned(scaled, rotation)


def _turned(cloud: StudentInput, matrix: Tensor) -> StudentInput:
    """Points and normals times an orthogonal matrix (3, 3), in their own precision."""
    turn = matrix.to(cloud.points.device)
    points = cloud.points @ turn.to(cloud.points.dtype).T  # (N, 3)
    normals = None if cloud.normals is None else cloud.normals @ turn.to(cloud.normals.dtype).T
    return cloud._replace(points=points, normals=normals)


def _rotation(axis: int, angle: float) -> Tensor:
    """(3, 3) float64 rotation about an axis by an angle in radians."""
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[one, one] = matrix[two, two] = math.cos(angle)
    matrix[one, two], matrix[two, one] = -math.sin(angle), math.sin(angle)
    return matrix
