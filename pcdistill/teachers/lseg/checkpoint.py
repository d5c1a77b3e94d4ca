"""Weights of LSeg from the official checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.errors import ArtifactError
from pcdistill.teachers.lseg.network import LSegNetwork, LSegSizes
from pcdistill.teachers.weight_files import load_state_dict

PREFIX = "net."
"""Of every key in a checkpoint of PyTorch Lightning; a plain state dict has none."""
_NAMED = 3
"""Keys that a message lists before it counts the rest."""


def load_lseg(path: Path, sizes: LSegSizes | None = None) -> LSegNetwork:
    """Read `demo_e200.ckpt`, or a state dict of the same names, with or without ``net.``.

    Other keys are left alone: the text tower, which is CLIP's own, and what never reaches the
    features (the ViT's last norm and classifier, a unit of the head that gets no input).

    Args:
        path: of the checkpoint.
        sizes: of its network; None: the official ones.

    Returns:
        The frozen network in float32, on the CPU.

    Raises:
        ArtifactError: the file is missing, damaged or of another network.
        UnreadableError: it cannot be read.
    """
    stored = {key.removeprefix(PREFIX): value for key, value in load_state_dict(path).items()}
    with torch.device("meta"):
        network = LSegNetwork(sizes)
    expected = network.state_dict()
    _check_keys(path, stored, expected)
    weights = {
        key: stored[key].float() if value.is_floating_point() else stored[key]
        for key, value in expected.items()
    }
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def _check_keys(path: Path, stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse a state dict that lacks a key, or has one of another shape."""
    missing = [key for key in expected if key not in stored]
    if missing:
        raise ArtifactError(
            f"{path}: no weights of LSeg: {_listed(missing)} missing of {len(expected)} keys; "
            "use the authors' demo_e200.ckpt"
        )
    odd = [
        f"{key} {tuple(stored[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if stored[key].shape != value.shape
    ]
    if odd:
        raise ArtifactError(
            f"{path}: weights of another LSeg: {_listed(odd)}; use the authors' demo_e200.ckpt, "
            "which has the ViT-L/16 backbone"
        )


def _listed(texts: list[str]) -> str:
    rest = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
