"""Picture of who decides on each point when the teachers are fused."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcdistill.inference import FusionDiagnosis
from pcdistill.reporting.report_data import Picture

SECTION = "Fusion"
_COLORS = (
    ("blue", (45, 105, 190)),
    ("orange", (225, 130, 30)),
    ("green", (60, 150, 75)),
    ("purple", (140, 80, 165)),
    ("red", (200, 55, 60)),
)
"""Of teachers in turn."""
_UNSURE = (236, 234, 230)
_UNSEEN = (120, 120, 120)


def fusion_picture(diagnosis: FusionDiagnosis, draw: Callable[[Tensor], Tensor]) -> Picture:
    """Draw each point in the colour of the teacher that decides there, pale where it barely does.

    Args:
        diagnosis: of N points.
        draw: the picture of the points in colours (N, 3) uint8.
    """
    count = len(diagnosis.teachers)
    own = torch.tensor([_COLORS[number % len(_COLORS)][1] for number in range(count)])
    colors = torch.cat([own, torch.tensor([_UNSURE, _UNSEEN])]).float()  # a tie, unseen
    chosen = colors[torch.where(diagnosis.winner < 0, count + 1, diagnosis.winner)]
    least = 1 / max(count, 2)
    sure = ((diagnosis.largest - least) / (1 - least)).clamp(0, 1)[:, None]
    decided = (diagnosis.winner >= 0) & (diagnosis.winner < count)
    pale = torch.tensor(_UNSURE).float()
    mixed = torch.where(decided[:, None], pale + (0.25 + 0.75 * sure) * (chosen - pale), chosen)
    named = ", ".join(
        f"{_COLORS[number % len(_COLORS)][0]}: {name}"
        for number, name in enumerate(diagnosis.teachers)
    )
    caption = (
        f"who decides where ({named}; paler where less sure, grey: no teacher sees it); "
        f"{diagnosis.sentence()}"
    )
    return Picture(SECTION, caption, draw(mixed.round().to(torch.uint8)))
