"""Measured capability and the reference images that it is measured on."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.pipeline import RunContext, read_json, read_tensors


def load_capability(run: RunContext) -> Tensor:
    """Read every teacher's capability: (T, K) float32 in [0, 1], S_L and S_S of Eq. 5."""
    rows = []
    for teacher in run.config.run.teachers:
        scores = read_json(run.workspace.capability(teacher))["capability"]
        rows.append([scores[word] for word in run.vocabulary])
    return torch.tensor(rows, dtype=torch.float32)


def taught_to(run: RunContext, teacher: str) -> tuple[str, ...] | None:
    """Read which words of the vocabulary a teacher was taught; None where it could not tell."""
    found = read_json(run.workspace.capability(teacher)).get("taught")
    return None if found is None else tuple(found)


def load_reference_images(run: RunContext, category: str) -> tuple[Tensor, Tensor]:
    """Read the synthesised images (m, 3, H, W) uint8 and pseudo masks (m, H, W) bool of a class."""
    tensors = read_tensors(run.workspace.reference_images(category), ("images", "masks"))
    return tensors["images"], tensors["masks"].bool()
