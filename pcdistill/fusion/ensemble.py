"""2D-3D ensemble of OpenScene: of each point the feature that is more similar to some text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.fusion.classify import check_text_embeddings, rows_per_chunk
from pcdistill.geometry import require_shape


def ensemble_features(
    fused: Tensor, seen: Tensor, student: Tensor, text_embeddings: Tensor
) -> Tensor:
    """Take of each point its fused 2D feature or the student's, as it is.

    The one counts whose cosine with the text that it is most similar to is higher; of equal ones
    the student's, which is also taken where no frame sees the point. A student without an answer
    (a zero row) leaves the point to the fused feature.

    Args:
        fused: (N, D) float; rows that `seen` rules out are not read.
        seen: (N,) bool, points with a fused feature.
        student: (N, D) float, of any length.
        text_embeddings: (K, D) float, unit rows: the prompts of a label set.

    Returns:
        (N, D) float32.

    Raises:
        ValueError: shapes do not fit together, or there are no texts.

    Source: OpenScene, section 3.3 (2D-3D ensemble) and run/evaluate.py, feature_type "ensemble",
    which compares in half precision; where nothing is seen its fused feature is zero and counts
    if all cosines of the student's are negative, here it does not.
    """
    require_shape("fused", fused, None, None)
    points, dimensions = fused.shape
    require_shape("seen", seen, points)
    require_shape("student", student, points, dimensions)
    check_text_embeddings(text_embeddings, dimensions)
    texts = text_embeddings.float().T  # (D, K)
    chosen = student.float().clone()
    step = rows_per_chunk(dimensions, texts.shape[1])
    for start in range(0, points, step):
        rows = slice(start, start + step)
        of_fused = torch.where(seen[rows], _best_cosine(fused[rows], texts), -torch.inf)
        of_student = _best_cosine(student[rows], texts)
        of_student = torch.where(student[rows].any(dim=1), of_student, -torch.inf)
        taken = of_student < of_fused
        chosen[rows][taken] = fused[rows][taken].float()
    return chosen


def _best_cosine(features: Tensor, texts: Tensor) -> Tensor:
    """(n,) cosine of features (n, D) with the column of `texts` (D, K) that each is nearest to."""
    return (functional.normalize(features.float(), dim=1) @ texts).amax(dim=1)
