"""Metrics log and half-way state of a student's training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def load_training_state(path: Path, task: str, network: nn.Module) -> dict[str, Tensor] | None:
    """Read the state that a training left half-way.

    Args:
        path: its file.
        task: fingerprint of the work that it has to be a state of.
        network: the student that it has to fit.

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
    return state if _is_whole(state, network) else None


def _is_whole(state: Mapping[str, Tensor], network: nn.Module) -> bool:
    """Whether a state has every weight of a network, and what Adam knows of each."""
    wanted = {"epoch": torch.Size(), "step": torch.Size()}
    wanted |= {f"model/{key}": value.shape for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        wanted |= {f"exp_avg/{name}": parameter.shape, f"exp_avg_sq/{name}": parameter.shape}
    return all(key in state and state[key].shape == shape for key, shape in wanted.items())
