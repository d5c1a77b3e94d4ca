"""Open-vocabulary classification: the most similar word of every feature."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry import require_shape

_CHUNK_ELEMENTS = 1 << 22
"""Float32 elements held at a time while rows are widened or scored: 16 MiB."""


def rows_per_chunk(*widths: int) -> int:
    """Rows to treat at a time so that a row of the widest of `widths` stays within bounds."""
    return max(1, _CHUNK_ELEMENTS // max(1, *widths))


def check_text_embeddings(text_embeddings: Tensor, dimensions: int) -> None:
    """Check that words and features can be compared.

    Raises:
        ValueError: no words, or another number of channels than the features have.
    """
    require_shape("text_embeddings", text_embeddings, None, dimensions)
    if len(text_embeddings) == 0:
        raise ValueError("text_embeddings holds no words, expected at least one row")


def predict_labels(
    features: Tensor, text_embeddings: Tensor, *, half_similarity: bool = False
) -> Tensor:
    """Choose the most similar word for every feature.

    Rows are scored in chunks: beyond the answer it needs a few tens of MiB, whatever N is. Products
    are summed in float32 (float64 for float64 features); the first of equal maxima wins, so an
    all-zero row, which is similar to nothing, gets class 0: mask unseen rows out.

    Args:
        features: (..., D) floating, any length per row; no row is normalised, as in the paper.
        text_embeddings: (K, D) floating, one word a row.
        half_similarity: round every similarity to half precision before comparing. The release
            compares in halves, where near ties become ties that the lower class index wins; needed
            only to reproduce its numbers.

    Returns:
        (...,) int64 in [0, K).

    Raises:
        ValueError: the channel counts differ or there are no words.

    Source: SAS, Eq. 6.
    """
    if features.ndim == 0:
        raise ValueError("features is a single number, expected (..., D)")
    dimensions = features.shape[-1]
    check_text_embeddings(text_embeddings, dimensions)
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    rows = features.reshape(-1, dimensions)
    words = text_embeddings.to(rows.device, wide).T
    labels = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    step = rows_per_chunk(dimensions, words.shape[1])
    for start in range(0, len(rows), step):
        scores = rows[start : start + step].to(wide) @ words
        if half_similarity:
            scores = scores.half()
        labels[start : start + step] = scores.argmax(dim=1)
    return labels.reshape(features.shape[:-1])
