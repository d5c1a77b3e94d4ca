"""Colors of points averaged over the frames that see them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcdistill.lifting.projector import ProjectionRules, SceneProjector
from pcdistill.scenes import Scene

MAX_FRAMES = 200
"""Of a longer capture as many are taken, evenly spaced: a mean does not need them all."""


def average_frame_colors(scene: Scene, rules: ProjectionRules) -> Tensor | None:
    """Mean colour of every point over the frames that see it.

    Args:
        scene: with frames; its own colours are not looked at.
        rules: which points a frame sees.

    Returns:
        (N, 3) uint8, the mean of all seen points where no frame sees a point; None where no frame
        sees any.

    Raises:
        SceneError: an image is damaged.
    """
    projector = SceneProjector(scene, rules)
    total = torch.zeros(len(scene.points), 3, dtype=torch.float64)
    count = torch.zeros(len(scene.points), dtype=torch.int64)
    steps = np.linspace(0, len(scene.frames) - 1, min(MAX_FRAMES, len(scene.frames)))
    for number in np.unique(steps.astype(int)).tolist():
        frame = scene.frames[number]
        seen = projector.project(frame)
        rows = seen.visible.nonzero()[:, 0]
        column, row = seen.pixels[rows].unbind(dim=1)
        total[rows] += frame.image()[row, column].double()
        count[rows] += 1
    if not bool(count.any()):
        return None
    colors = total / count.clamp(min=1)[:, None]
    colors[count == 0] = colors[count > 0].mean(dim=0)
    return colors.round().to(torch.uint8)
