"""Fusion of the teachers' features of one scene, some points at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.artifacts import TeacherFeatureStack
from pcdistill.fusion import (
    FusionMode,
    average_features,
    fuse_features,
    linear_features,
    predict_labels,
)

_POINTS_AT_A_TIME = 16384


class FusionRule(NamedTuple):
    """How the features of T teachers become one."""

    method: Literal["average", "linear", "fused"]
    vocabulary_embeddings: Tensor
    """(K, D) float32, unit rows (F_text of Eq. 6)."""
    capability: Tensor | None
    """(T, K) float32 in [0, 1], by which `fused` weighs the teachers (Eq. 5)."""
    temperature: float
    """Of the softmax of Eq. 8."""
    mode: FusionMode


def fuse_points(views: TeacherFeatureStack, rule: FusionRule) -> Tensor:
    """(N, D) float32: one feature for each point of a scene; zero where no teacher saw it."""
    every = torch.arange(views.seen.shape[1])
    return torch.cat([fused for _, fused in fuse_in_chunks(views, rule, every)])


def fuse_in_chunks(
    views: TeacherFeatureStack, rule: FusionRule, points: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fuse some points at a time, so that no table of all of them is needed.

    Args:
        views: features of all teachers.
        rule: how they are fused.
        points: (M,) int64.

    Yields:
        the next points, (n,) int64, and their features, (n, D) float32.
    """
    for chunk in torch.split(points, _POINTS_AT_A_TIME):
        yield chunk, _fuse(views.of_points(chunk), views.seen[:, chunk], rule)


def _fuse(features: Tensor, seen: Tensor, rule: FusionRule) -> Tensor:
    """(n, D) of the teachers' features (T, n, D); every point is fused by itself."""
    if rule.method == "average":
        return average_features(features, seen)
    if rule.method == "linear":
        return linear_features(features, rule.vocabulary_embeddings, seen)
    if rule.capability is None:
        raise ValueError(f"method is '{rule.method}', which needs a capability table")
    return fuse_features(
        features,
        predict_labels(features, rule.vocabulary_embeddings),  # (T, n), Eq. 6
        rule.capability,
        rule.temperature,
        seen=seen,
        mode=rule.mode,
    )
