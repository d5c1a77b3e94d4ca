"""Superpoint ids, as stage partition stores them."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.pipeline import Workspace, read_tensors

MAX_SHORT_ID = torch.iinfo(torch.int16).max


def compact_ids(superpoint_ids: Tensor) -> Tensor:
    """Superpoint ids (N,) int32 as they are stored: int16 wherever all of them fit."""
    largest = int(superpoint_ids.max()) if len(superpoint_ids) else 0
    return superpoint_ids.short() if largest <= MAX_SHORT_ID else superpoint_ids


def load_superpoint_ids(workspace: Workspace, scene: str) -> Tensor:
    """Read the superpoint of each point: (N,) int64 from 0."""
    tensors = read_tensors(workspace.superpoints(scene), ("superpoint_ids",))
    return tensors["superpoint_ids"].long()
