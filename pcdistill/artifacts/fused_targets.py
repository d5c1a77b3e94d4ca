"""Fused features that students learn from, as stage fuse stores them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.pipeline import Workspace, read_tensors


class FusedTargets(NamedTuple):
    """What the student of one scene learns from."""

    superpoint_means: Tensor
    """(S, D) float16, mean fused feature over the seen points of each superpoint."""
    superpoint_seen: Tensor
    """(S,) bool, superpoints with a seen point."""
    seen: Tensor
    """(M,) int64, seen points, ascending."""
    features: Tensor | None
    """(M, D) float16, where they were kept."""


def load_fused_targets(workspace: Workspace, scene: str) -> FusedTargets:
    """Read the targets of one scene."""
    tensors = read_tensors(workspace.fused(scene))
    return FusedTargets(
        tensors["superpoint_means"],
        tensors["superpoint_seen"].bool(),
        unpack_mask(tensors["seen_bits"]),
        tensors.get("features"),
    )


def pack_mask(seen: Tensor, points: int) -> Tensor:
    """(ceil(N / 8),) uint8: one bit for each of N points, set for the seen ones (M,) int64."""
    flags = np.zeros(points, np.uint8)
    flags[seen.numpy()] = 1
    return torch.from_numpy(np.packbits(flags))


def unpack_mask(bits: Tensor) -> Tensor:
    """(M,) int64, ascending: the points whose bit is set."""
    return torch.from_numpy(np.unpackbits(bits.numpy())).nonzero()[:, 0]
