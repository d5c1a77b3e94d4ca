"""Results of stage evaluate: the best measured method, confusion counts of scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pcdistill.evaluation import confusion_counts
from pcdistill.pipeline.artifact_files import read_json
from pcdistill.pipeline.workspace import Workspace


def best_measured(workspace: Workspace, methods: Sequence[str]) -> str | None:
    """Name the method with the highest mIoU, the later one of equals; None where none was measured.

    Raises:
        ArtifactError: what stage evaluate wrote of a method is damaged.
    """
    measured = []
    for number, method in enumerate(methods):
        path = workspace.result(method)
        miou = read_json(path)["miou"] if path.exists() else None
        if miou is not None:
            measured.append((miou, number, method))
    return max(measured)[2] if measured else None


def result_confusion(result: Mapping[str, Any], classes: int) -> Tensor:
    """Count the labelled scenes of a method, as `paired_difference` takes them of one seed.

    Args:
        result: what stage evaluate wrote of the method.
        classes: K, of the label set.

    Returns:
        (H, M, K + 1, K) int64, points by predicted and true category, the last row those without
        an answer; scenes by name, M draws. H is 0 where no scene has labels.
    """
    draws = result["confusion"] or [{}]
    scenes = [
        torch.stack([confusion_counts(draw[name], classes) for draw in draws])
        for name in sorted(draws[0])
    ]
    if not scenes:
        return torch.zeros(0, len(draws), classes + 1, classes, dtype=torch.int64)
    return torch.stack(scenes)
