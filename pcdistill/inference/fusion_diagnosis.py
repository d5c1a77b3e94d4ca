"""Who decided on each point of a scene when the teachers were fused, and how clearly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.artifacts import TeacherFeatureStack
from pcdistill.fusion import fusion_weights, predict_labels
from pcdistill.inference.fuse_points import FusionRule

_POINTS_AT_A_TIME = 16384
_TIE = 1e-6
"""Largest weights that differ by less decide together."""


class FusionDiagnosis(NamedTuple):
    """What the weights of Eq. 8 say of each of N points, for T teachers."""

    teachers: tuple[str, ...]
    winner: Tensor
    """(N,) int64: the teacher of the largest weight; T for a tie; -1 where no teacher saw it."""
    largest: Tensor
    """(N,) float32: that weight; 0 where no teacher saw the point."""
    seen_by: Tensor
    """(N,) int64: how many teachers say something of the point."""
    unscored: Tensor
    """(N,) bool: a teacher says a class that has no score, so that its vote does not count."""

    def sentence(self) -> str:
        """Sum it up in shares of the points that a teacher sees."""
        seen = self.seen_by > 0
        points = int(seen.sum())
        if points == 0:
            return "no teacher sees any point"
        parts = []
        for number, name in enumerate(self.teachers):
            won = self.winner == number
            sure = f", mean weight {float(self.largest[won].mean()):.2f}" if bool(won.any()) else ""
            parts.append(f"{name} decides {_share(won, points)}{sure}")
        parts.append(f"ties {_share(self.winner == len(self.teachers), points)}")
        if len(self.teachers) > 1:
            some = seen & (self.seen_by < len(self.teachers))
            parts.append(f"seen by some teachers only {_share(some, points)}")
        if bool(self.unscored.any()):
            parts.append(f"with a vote for a class without a score {_share(self.unscored, points)}")
        return "; ".join(parts)


def diagnose_fusion(
    views: TeacherFeatureStack, rule: FusionRule, teachers: Sequence[str]
) -> FusionDiagnosis:
    """Weigh the teachers as the fusion does, and keep who has the largest weight.

    Args:
        views: features of T teachers on N points.
        rule: of the method `fused`, with a capability table (T, K).
        teachers: T names.

    Raises:
        ValueError: the rule has no table.
    """
    if rule.capability is None:
        raise ValueError(f"method is '{rule.method}', which needs a capability table")
    points = views.seen.shape[1]
    winner = torch.full((points,), -1)
    largest = torch.zeros(points)
    unscored = torch.zeros(points, dtype=torch.bool)
    nothing_known = rule.capability.isnan().any(dim=0)  # (K,)
    for chunk in torch.split(torch.arange(points), _POINTS_AT_A_TIME):
        seen = views.seen[:, chunk]
        labels = predict_labels(views.of_points(chunk), rule.vocabulary_embeddings)  # (T, n)
        weights = fusion_weights(labels, rule.capability, rule.temperature, seen, mode=rule.mode)
        best = weights.max(dim=0)
        tied = (weights >= best.values - _TIE).sum(dim=0) > 1
        found = torch.where(tied, len(teachers), best.indices)
        there = seen.any(dim=0)
        winner[chunk] = torch.where(there, found, -1)
        largest[chunk] = torch.where(there, best.values.float(), 0)
        unscored[chunk] = (seen & nothing_known[labels.clamp(min=0)]).any(dim=0)
    return FusionDiagnosis(tuple(teachers), winner, largest, views.seen.sum(dim=0), unscored)


def _share(which: Tensor, points: int) -> str:
    return f"{100 * int(which.sum()) / points:.0f} %"
