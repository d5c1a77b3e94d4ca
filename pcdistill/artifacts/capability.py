"""Measured capability and the reference images that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.pipeline import Workspace, read_json, read_tensors


def load_capability(
    workspace: Workspace, teachers: Sequence[str], vocabulary: Sequence[str]
) -> Tensor:
    """Read every teacher's capability, S_L and S_S of Eq. 5.

    Args:
        workspace: of the run.
        teachers: T names.
        vocabulary: K words.

    Returns:
        (T, K) float32 in [0, 1].
    """
    rows = []
    for teacher in teachers:
        scores = read_json(workspace.capability(teacher))["capability"]
        rows.append([scores[word] for word in vocabulary])
    return torch.tensor(rows, dtype=torch.float32)


def load_taught_words(workspace: Workspace, teacher: str) -> tuple[str, ...] | None:
    """Read which words of the vocabulary a teacher was taught; None where it could not tell."""
    found = read_json(workspace.capability(teacher)).get("taught")
    return None if found is None else tuple(found)


def load_reference_images(workspace: Workspace, category: str) -> tuple[Tensor, Tensor]:
    """Read the synthesised images (m, 3, H, W) uint8 and pseudo masks (m, H, W) bool of a class."""
    tensors = read_tensors(workspace.reference_images(category), ("images", "masks"))
    return tensors["images"], tensors["masks"].bool()
