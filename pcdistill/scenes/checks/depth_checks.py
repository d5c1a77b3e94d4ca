"""What depth images can hold if they are in the unit that they were read with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcdistill.scenes.checks.depth_agreement import View
from pcdistill.scenes.issues import refuse

_NEAREST, _FARTHEST = 0.05, 100.0  # metres; a median depth outside is a wrong unit


def require_metres(where: Path, views: Sequence[View], depth_scale: float) -> None:
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
        return refuse(
            "depth_empty",
            f"{where}: none of the {len(views)} depth images looked at has a reading, expected "
            "counts above 0; export the depth again",
        )
    median = float(known.median())
    if _NEAREST <= median <= _FARTHEST:
        return
    counts = median * depth_scale
    likely = [scale for scale in (1000.0, 1.0) if 0.2 <= counts / scale <= 50]
    mend = f"`depth_scale: {likely[0]:g}`" if likely else "`depth_scale` to the counts per metre"
    refuse(
        "depth_unit",
        f"{where}: the median depth is {median:.3g} m with `depth_scale: {depth_scale:g}`, "
        f"expected {_NEAREST:g} to {_FARTHEST:g} m; set {mend} (floating-point .npy files must "
        "hold metres)",
    )


def _readings(views: Sequence[View]) -> Tensor:
    return torch.cat([view.depth[view.depth > 0] for view in views])
