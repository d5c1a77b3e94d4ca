"""Predicted labels and results of each method, as stage evaluate stores them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pcdistill.artifacts.scene_splits import measured_on
from pcdistill.pipeline import RunContext, read_json, read_tensors


def evaluation_protocol(run: RunContext) -> str:
    """The protocol of the run in one line, with what the student knows of the scenes."""
    classes, silent = len(run.label_set.names), len(run.config.run.teachers) > 0
    said = run.protocol.describe(classes, silent=silent)
    scenes = measured_on(run)
    return f"{said}; measured on {scenes}" if scenes else said


def load_predictions(run: RunContext, row: str, scene: str) -> Tensor:
    """Read the labels (N,) int64 that a row gave to a scene, or `NO_FEATURE_LABEL`."""
    return read_tensors(run.workspace.prediction(row, scene), ("labels",))["labels"].long()


def load_result(run: RunContext, row: str) -> dict[str, Any]:
    """Read the numbers of a row; `miou` is None where no scene has labels."""
    found: dict[str, Any] = read_json(run.workspace.result(row))
    return found
