"""Predicted labels and results of each method, as stage evaluate stores them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pcdistill.pipeline import Workspace, read_json, read_tensors


def load_predictions(workspace: Workspace, method: str, scene: str) -> Tensor:
    """Read the labels (N,) int64 that a method gave to a scene, or `NO_FEATURE_LABEL`."""
    return read_tensors(workspace.prediction(method, scene), ("labels",))["labels"].long()


def load_result(workspace: Workspace, method: str) -> dict[str, Any]:
    """Read the numbers of a method; `miou` is None where no scene has labels."""
    found: dict[str, Any] = read_json(workspace.result(method))
    return found
