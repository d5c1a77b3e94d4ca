"""Metrics log and half-way state of a student's training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import ArtifactError
from pcdistill.pipeline import read_provenance, read_tensors

_LOG = logging.getLogger(__name__)


def append_metrics(path: Path, values: Mapping[str, Any]) -> None:
    """Write the values of one epoch as the next line of a JSON Lines file."""
    with path.open("a") as handle:
        handle.write(json.dumps(dict(values)) + "\n")


def trim_metrics(path: Path, epochs: int, earlier: Path | None = None) -> None:
    """Keep the lines of the first epochs, which a training that goes on has behind it.

    Args:
        path: metrics of the training; made where they are missing.
        epochs: lines to keep.
        earlier: metrics of the training that it goes on from, where its own are too few.
    """
    kept = path.read_text().splitlines()[:epochs] if path.exists() else []
    if len(kept) < epochs and earlier is not None:
        kept = earlier.read_text().splitlines()[:epochs]
    path.write_text("".join(line + "\n" for line in kept))


def load_training_state(
    path: Path, task: str, required: Mapping[str, torch.Size]
) -> dict[str, Tensor] | None:
    """Read the state that a training left half-way.

    Args:
        path: its file.
        task: fingerprint of the work that it has to be a state of.
        required: shapes of what it has to have, by name.

    Returns:
        what `Trainer.load_state` takes; None where there is none of this task, or not all of it.
    """
    try:
        if not path.exists() or read_provenance(path).get("task") != task:
            return None
        state = read_tensors(path)
    except ArtifactError as error:
        _LOG.warning("not gone on from: %s", error)
        return None
    whole = all(key in state and state[key].shape == shape for key, shape in required.items())
    return state if whole else None
