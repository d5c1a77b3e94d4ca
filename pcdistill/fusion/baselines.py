"""Fusion without capabilities: average and linear, the baselines of SAS, Table 3."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.fusion.classify import check_text_embeddings, rows_per_chunk
from pcdistill.fusion.weighted_sum import TeacherFeatures, check_features, check_seen, weighted_sum


def average_features(features: TeacherFeatures, seen: Tensor | None = None) -> Tensor:
    """Average the teachers that see each point.

    The paper adds the two features; a sum and a mean point the same way, and the mean stays
    comparable where some points are seen by fewer teachers.

    Args:
        features: (T, N, D) floating, or T tensors (N, D).
        seen: (T, N) bool, who saw what; None means everybody saw everything.

    Returns:
        (N, D), dtype and device of the features; zeros where nobody saw the point.

    Raises:
        ValueError: shapes or dtypes differ from the above.

    Source: SAS, Table 3, "2D Fusion Add".
    """
    teachers, points, _ = check_features(features)
    check_seen(seen, teachers, points)
    if seen is None:
        weights = torch.full((teachers, points), 1 / teachers, dtype=torch.float64)
    else:
        weights = seen / seen.sum(dim=0).clamp(min=1).double()
    return weighted_sum(features, weights)


def linear_features(
    features: TeacherFeatures, text_embeddings: Tensor, seen: Tensor | None = None
) -> Tensor:
    """Weigh each teacher by the cosine of its feature with its own best word.

    The paper: "computes the similarity between a point feature and text features and selects the
    largest similarity as the point feature's weight, based on which two point features are
    fused". It leaves three things open, chosen here as follows. Similarity is the cosine, so that
    a teacher with longer vectors is not surer for it. Weights are divided by their sum, which
    keeps the answer's scale and does not turn its direction. A negative similarity weighs
    nothing; where no teacher's is positive, those who see the point count equally.

    Args:
        features: (T, N, D) floating, or T tensors (N, D).
        text_embeddings: (K, D) floating, one word a row.
        seen: (T, N) bool, who saw what; None means everybody saw everything.

    Returns:
        (N, D), dtype and device of the features; zeros where nobody saw the point.

    Raises:
        ValueError: shapes or dtypes differ from the above.

    Source: SAS, section 4.3 and Table 3, "2D Fusion Linear".
    """
    teachers, points, dimensions = check_features(features)
    check_text_embeddings(text_embeddings, dimensions)
    check_seen(seen, teachers, points)
    device = features[0].device
    seen = torch.ones((teachers, points), dtype=torch.bool) if seen is None else seen
    seen = seen.to(device)
    sureness = torch.stack(
        [best_cosine(features[teacher], text_embeddings) for teacher in range(teachers)]
    )
    sureness = sureness.clamp(min=0).masked_fill(~seen, 0)
    nobody_sure = sureness.sum(dim=0) == 0
    sureness = torch.where(nobody_sure, seen.to(sureness.dtype), sureness)
    total = sureness.sum(dim=0)
    weights = sureness / torch.where(total > 0, total, torch.ones_like(total))
    return weighted_sum(features, weights)


def best_cosine(features: Tensor, text_embeddings: Tensor) -> Tensor:
    """Largest cosine between each of N features (N, D) and the K words (K, D): (N,) floating.

    An all-zero feature has cosine 0 with everything.
    """
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    words = torch.nn.functional.normalize(text_embeddings.to(features.device, wide), dim=1).T
    best = torch.empty(len(features), dtype=wide, device=features.device)
    step = rows_per_chunk(*words.shape)
    for start in range(0, len(features), step):
        rows = features[start : start + step].to(wide)
        length = rows.norm(dim=1)
        score = (rows @ words).amax(dim=1)
        best[start : start + step] = score / torch.where(length > 0, length, 1.0)
    return best
