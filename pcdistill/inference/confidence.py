"""Confidence of a label: the share of its class in a softmax over all classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.geometry import require_shape
from pcdistill.inference.relevancy import TEMPERATURE
from pcdistill.scenes import LabelSet

_ROWS = 1 << 14  # points that are scored at once


def label_confidence(
    features: Tensor, labels: Tensor, embeddings: Tensor, label_set: LabelSet
) -> Tensor:
    """Compute how much better the label of each point fits than the other classes.

    A class is as similar as the most similar of its prompts; cosines are divided by the
    temperature of a query's relevancy, 0.1, before the softmax. The value ranks points of one
    method; it is no calibrated probability, and small throughout where cosines lie close together.

    Args:
        features: (N, D) float; their length does not matter.
        labels: (N,) int64 in [0, K); negative where there is no answer.
        embeddings: (P, D) float32, unit rows: the prompts of the label set.
        label_set: its K classes.

    Returns:
        (N,) float32 in [0, 1], at least 1 / K where the label is the most similar class; 0 where
        there is no answer.

    Raises:
        ValueError: shapes do not fit.
    """
    require_shape("features", features, None, embeddings.shape[1])
    require_shape("labels", labels, len(features))
    classes = len(label_set.names)
    category = label_set.to_categories(torch.arange(len(embeddings)))  # (P,)
    confidence = torch.zeros(len(features))
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        cosines = functional.normalize(features[rows].float(), dim=1) @ embeddings.T  # (n, P)
        best = torch.full((len(cosines), classes), -torch.inf)
        best.scatter_reduce_(1, category.expand_as(cosines), cosines, "amax")
        share = torch.softmax(best / TEMPERATURE, dim=1)
        known = labels[rows] >= 0
        chosen = share.gather(1, labels[rows].clamp(min=0)[:, None])[:, 0]
        confidence[rows] = torch.where(known, chosen, 0.0)
    return confidence
