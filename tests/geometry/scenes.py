"""Small made-up cameras, meshes and comparisons that the tests of this room share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def random_rotation(generator: np.random.Generator) -> np.ndarray:
    """(3, 3) float64, determinant +1."""
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def random_pose(generator: np.random.Generator, spread: float = 1.0) -> Tensor:
    """(4, 4) float64 camera_to_world."""
    pose = np.eye(4)
    pose[:3, :3] = random_rotation(generator)
    pose[:3, 3] = generator.normal(scale=spread, size=3)
    return torch.from_numpy(pose)


def pinhole(focal: float, image_size: tuple[int, int]) -> Tensor:
    """(3, 3) float64 with the principal point in the middle of the image."""
    height, width = image_size
    return torch.tensor(
        [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=torch.float64
    )


def bumpy_sheet(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """A folded, noisy grid mesh: (N, 3) float32 vertices and (F, 3) int64 faces."""
    generator = np.random.default_rng(seed)
    u, v = np.meshgrid(np.arange(columns), np.arange(rows))
    ridge = np.abs(u - columns / 2) * 0.8  # two halves that meet at an angle
    height = ridge + generator.normal(scale=0.03, size=u.shape)
    vertices = 0.02 * np.stack([u, v, height], axis=-1).reshape(-1, 3)
    corner = (v * columns + u)[:-1, :-1].ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + columns], axis=1),
            np.stack([corner + 1, corner + columns + 1, corner + columns], axis=1),
        ]
    )
    return torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces)


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two labellings agree up to renaming."""
    pairs = len(np.unique(np.stack([first, second], axis=1), axis=0))
    return pairs == len(np.unique(first)) == len(np.unique(second))


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Agreement of two partitions: 1 = identical, 0 = as by chance (Hubert & Arabie 1985)."""

    def pairs(counts: np.ndarray) -> float:
        counts = counts.astype(np.float64)
        return float((counts * (counts - 1) / 2).sum())

    joint = pairs(np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)[1])
    one = pairs(np.unique(first, return_counts=True)[1])
    other = pairs(np.unique(second, return_counts=True)[1])
    every = len(first) * (len(first) - 1) / 2
    expected, most = one * other / every, (one + other) / 2
    return 1.0 if most == expected else (joint - expected) / (most - expected)
