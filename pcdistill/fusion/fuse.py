"""Capability-guided fusion of several teachers into one feature per point (SAS, Eq. 6 to 8)."""

from __future__ import annotations

from torch import Tensor

from pcdistill.fusion.weighted_sum import TeacherFeatures, check_features, weighted_sum
from pcdistill.fusion.weights import FusionMode, fusion_weights
from pcdistill.geometry import require_shape


def fuse_features(
    features: TeacherFeatures,
    predicted_labels: Tensor,
    capability: Tensor,
    temperature: float = 0.05,
    *,
    seen: Tensor | None = None,
    mode: FusionMode = "paper",
    ignored_class: int | None = None,
) -> Tensor:
    """Fuse the teachers' point features, guided by their capability on the classes in question.

    Every point gets the sum of its teachers' features, weighted as `fusion_weights` says. Features
    are used as they are, not normalised, as in the paper. The release's differences (option
    `mode="release"`) are described there; its result is formed in float32 and rounded to half
    once, as here.

    Args:
        features: (T, N, D) floating, or T tensors (N, D), all in one text space. Rows that `seen`
            rules out are not read.
        predicted_labels: (T, N) integer in [0, K) where seen: the class that each teacher's own
            feature is most similar to (`predict_labels`, Eq. 6).
        capability: (T, K) floating in [0, 1].
        temperature: softmax temperature, unitless; smaller trusts the more capable teacher more.
        seen: (T, N) bool, who saw what; None means everybody saw everything.
        mode: "paper" or "release".
        ignored_class: a class without a capability of its own, such as "other", or None.

    Returns:
        (N, D), dtype and device of the features; zeros where nobody saw the point.

    Raises:
        ValueError: shapes differ from the above, or what `fusion_weights` refuses.

    Source: SAS, Eq. 6-8.
    """
    teachers, points, _ = check_features(features)
    require_shape("predicted_labels", predicted_labels, teachers, points)
    weights = fusion_weights(
        predicted_labels, capability, temperature, seen, mode=mode, ignored_class=ignored_class
    )
    return weighted_sum(features, weights)
