"""Check of the unit of depth images, by their median."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.scenes.checks.depth_agreement import DepthView
from pcdistill.scenes.issues import report_issue
from pcdistill.scenes.units import DEPTH_SCALE

_NEAREST, _MAX_DISTANCE = 0.05, 100.0  # metres; a median depth outside is a wrong unit


def check_depth_unit(where: Path, views: Sequence[DepthView], depth_scale: float) -> None:
    """Refuse depth whose unit cannot be what `depth_scale` says.

    Args:
        where: the folder of the depth images, for the message.
        views: some frames of the scan.
        depth_scale: counts per metre the depth was read with.

    Raises:
        SceneError: no reading at all, or a median no camera would have.
    """
    known = _readings(views)
    if len(known) == 0:
        return report_issue(
            "depth_empty",
            f"{where}: none of the {len(views)} depth images looked at has a reading, expected "
            "counts above 0; export the depth again",
        )
    median = float(known.median())
    if _NEAREST <= median <= _MAX_DISTANCE:
        return
    counts = median * depth_scale
    likely = [scale for scale in (DEPTH_SCALE, 1.0) if 0.2 <= counts / scale <= 50]
    fix = f"`depth_scale: {likely[0]:g}`" if likely else "`depth_scale` to the counts per metre"
    report_issue(
        "depth_unit",
        f"{where}: the median depth is {median:.3g} m with `depth_scale: {depth_scale:g}`, "
        f"expected {_NEAREST:g} to {_MAX_DISTANCE:g} m; set {fix} (floating-point .npy files must "
        "hold metres)",
    )


def _readings(views: Sequence[DepthView]) -> Tensor:
    return torch.cat([view.depth[view.depth > 0] for view in views])
