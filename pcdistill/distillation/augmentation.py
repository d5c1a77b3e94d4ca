"""Augmentation of training scenes: rotation, reflection, scale and color gain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pcdistill.distillation.batches import StudentInput, draw_shift

MAX_TILT = math.pi / 64
"""Radians about x and y; the reference loaders turn as little about them."""
TINTS = (0.75, 1.25)
"""Range of the random gain of each colour channel."""
SCALES = (0.9, 1.1)
"""Range of the random scale, as in the reference loaders."""


def augment_on_grid(cloud: StudentInput, generator: torch.Generator) -> StudentInput:
    """Turn a cloud by a multiple of 90 degrees, mirror it or not, shift it, and tint its colors.

    For scenes whose walls stand along the axes, and will at inference, too.
    """
    draw = torch.rand(2, generator=generator)
    matrix = _rotation(2, math.pi / 2 * int(4 * draw[0])).round()
    if draw[1] < 0.5:
        matrix[0] = -matrix[0]
    turn = matrix.to(cloud.points.device, cloud.points.dtype)  # (3, 3)
    shift = draw_shift(generator)
    normals = None if cloud.normals is None else cloud.normals @ turn.T
    colors = cloud.colors
    if colors is not None:
        tinted = colors.float() * sample_color_gain(generator).to(colors.device)  # (N, 3)
        colors = tinted.clamp(0, 255).to(torch.uint8)
    return StudentInput(cloud.points @ turn.T, normals, colors, shift)


def sample_color_gain(generator: torch.Generator) -> Tensor:
    """(3,) float32 gain of each colour channel."""
    return TINTS[0] + (TINTS[1] - TINTS[0]) * torch.rand(3, generator=generator)


def augment_rotate_scale(cloud: StudentInput, generator: torch.Generator) -> StudentInput:
    """Turn a cloud by any angle about z and a little about x and y, in any order, and scale it.

    Source: OpenScene's loaders (dataset/voxelizer.py), which do it in training and in evaluation.
    """
    draw = torch.rand(4, generator=generator, dtype=torch.float64)
    angles = (2 * draw[:3] - 1) * torch.tensor([MAX_TILT, MAX_TILT, math.pi])  # (3,) radians
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * draw[3]
    rotation = torch.eye(3, dtype=torch.float64)
    for axis in torch.randperm(3, generator=generator).tolist():
        rotation = _rotation(axis, float(angles[axis])) @ rotation
    return rotate_scale(cloud, rotation, float(scale))


def rotate_scale(cloud: StudentInput, rotation: Tensor, scale: float) -> StudentInput:
    """Turn a cloud by a rotation (3, 3) float64 and scale it.

    The points become float64, so that they fall into the voxels they do in the reference, which
    rounds nothing before it cuts.

    Args:
        cloud: N points with their normals and colors.
        rotation: (3, 3) float64.
        scale: of the points, unitless.
    """
    turn = rotation.to(cloud.points.device)
    points = (scale * cloud.points.double()) @ turn.T  # (N, 3) float64
    normals = None if cloud.normals is None else cloud.normals @ turn.to(cloud.normals.dtype).T
    return StudentInput(points, normals, cloud.colors)


def _rotation(axis: int, angle: float) -> Tensor:
    """(3, 3) float64 rotation about an axis by an angle in radians."""
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[one, one] = matrix[two, two] = math.cos(angle)
    matrix[one, two], matrix[two, one] = -math.sin(angle), math.sin(angle)
    return matrix
