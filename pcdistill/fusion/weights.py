"""Fusion weights of teachers per point, from predictions and capabilities (SAS, Eq. 7 and 8)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pcdistill.fusion.weighted_sum import check_seen
from pcdistill.geometry import require_shape

FusionMode = Literal["paper", "release"]


def fusion_weights(
    predicted_labels: Tensor,
    capability: Tensor,
    temperature: float = 0.05,
    seen: Tensor | None = None,
    *,
    mode: FusionMode = "paper",
    ignored_class: int | None = None,
) -> Tensor:
    """Weigh the teachers on every point by their measured capability.

    The right class is assumed to be among those that the teachers predict, so teacher t is
    probably right with P_t = mean over the teachers s of S_t[a_s] (for two teachers Eq. 7), and
    the weights are softmax(P / temperature) over the teachers (Eq. 8). A teacher that has not
    seen a point neither votes there nor is weighed. The answer depends only on the tuple of
    predicted classes and is computed once per tuple that occurs.

    `mode="release"` follows the published code where it differs from the paper: the sums of
    votes are divided by their total over the teachers before the softmax, which makes the
    temperature depend on the point; and where the first teacher predicts `ignored_class` it alone
    is used. In `mode="paper"`, a vote for `ignored_class`, a word like "other" whose capability
    cannot be measured, is left out of the mean; where no other vote is left, those who see the
    point count equally. A class without a score (NaN for every teacher) is treated in the same way;
    in `mode="release"` its score is 0.

    Args:
        predicted_labels: (T, N) integer in [0, K) where seen, anything elsewhere.
        capability: (T, K) floating in [0, 1]; NaN in the column of a class without a score.
        temperature: softmax temperature, unitless; smaller trusts the more capable teacher more.
        seen: (T, N) bool, who saw what; None means everybody saw everything.
        mode: "paper" or "release".
        ignored_class: a class index in [0, K) without a capability of its own, or None.

    Returns:
        (T, N) float32, float64 for float64 capability, on the labels' device; every column sums
        to 1, or to 0 where nobody saw the point.

    Raises:
        ValueError: shapes differ from the above; a capability that is infinite or not in [0, 1], or
            that only some teachers have; a label outside [0, K) on a seen point; a temperature that
            is not positive.

    Source: SAS, Eq. 7-8.
    """
    require_shape("predicted_labels", predicted_labels, None, None)
    teachers, points = predicted_labels.shape
    check_capability(capability, teachers)
    classes = capability.shape[1]
    check_seen(seen, teachers, points)
    if predicted_labels.is_floating_point() or predicted_labels.dtype == torch.bool:
        raise ValueError(f"predicted_labels is {predicted_labels.dtype}, expected integers")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a number > 0")
    if mode not in ("paper", "release"):
        raise ValueError(f"mode is '{mode}', expected 'paper' or 'release'")
    if ignored_class is not None and not 0 <= ignored_class < classes:
        raise ValueError(f"ignored_class is {ignored_class}, expected 0 to {classes - 1}")

    labels = predicted_labels.long()
    spoken = labels if seen is None else labels[seen.to(labels.device)]
    if spoken.numel() and not (int(spoken.min()) >= 0 and int(spoken.max()) < classes):
        raise ValueError(
            f"predicted_labels of seen points range from {int(spoken.min())} to "
            f"{int(spoken.max())}, expected 0 to {classes - 1} as capability has {classes} classes"
        )
    if seen is not None:
        labels = labels.masked_fill(~seen.to(labels.device), classes)  # stands for "not seen"
    tuples, tuple_of_point = unique_columns(labels, classes + 1)
    weights = _weights_of_tuples(
        tuples, capability.to(labels.device).double(), temperature, mode, ignored_class
    )
    wide = torch.float64 if capability.dtype == torch.float64 else torch.float32
    return weights.to(wide)[:, tuple_of_point]


def check_capability(capability: Tensor, teachers: int) -> None:
    """Check that a capability table can serve as one.

    Raises:
        ValueError: not (T, K) with K >= 1, outside [0, 1], or NaN for some teachers of a class.
    """
    require_shape("capability", capability, teachers, None)
    if capability.shape[1] == 0:
        raise ValueError("capability has no classes, expected at least one column")
    unknown = capability.isnan()
    if not torch.equal(unknown.any(dim=0), unknown.all(dim=0)):
        raise ValueError("capability has NaN for some teachers of a class, expected all or none")
    capability = capability.nan_to_num(nan=0)
    low, high = float(capability.min()), float(capability.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"capability ranges from {low:g} to {high:g}, expected intersections over unions "
            "between 0 and 1"
        )


def unique_columns(labels: Tensor, base: int) -> tuple[Tensor, Tensor]:
    """Group the points whose teachers predict the same.

    Args:
        labels: (T, N) int64 in [0, base).
        base: how many different values a label can have.

    Returns:
        tuples: (T, U) int64, the distinct columns of `labels`.
        tuple_of_point: (N,) int64, column of `tuples` that each point has.
    """
    points = labels.shape[1]
    count, tuple_of_point = 1, labels.new_zeros(points)
    for row in labels:  # renumbered after every teacher, so that no number of teachers overflows
        occurring, tuple_of_point = torch.unique(tuple_of_point * base + row, return_inverse=True)
        count = len(occurring)
    member = labels.new_zeros(count)
    member[tuple_of_point] = torch.arange(points, device=labels.device)  # any one will do
    return labels[:, member], tuple_of_point


def _weights_of_tuples(
    tuples: Tensor,
    capability: Tensor,
    temperature: float,
    mode: FusionMode,
    ignored_class: int | None,
) -> Tensor:
    """Weights (T, U) float64 of tuples (T, U) of classes, K standing for "not seen"."""
    teachers, classes = capability.shape
    seen = tuples < classes
    counted = seen
    if mode == "paper":
        measured = ~capability.isnan().any(dim=0)  # (K,)
        if ignored_class is not None:
            measured[ignored_class] = False
        counted = seen & measured[tuples.clamp(max=classes - 1)]
    votes = capability.nan_to_num(nan=0)[
        :, tuples.clamp(max=classes - 1)
    ]  # (T, T, U): t's score on s's class
    total = votes.masked_fill(~counted, 0).sum(dim=1)  # (T, U)
    if mode == "paper":
        probability = total / counted.sum(dim=0).clamp(min=1)  # Eq. 7
    else:
        over_teachers = total.masked_fill(~seen, 0).sum(dim=0)
        probability = total / torch.where(over_teachers > 0, over_teachers, 1.0)
    logits = (probability / temperature).masked_fill(~seen, -torch.inf)
    weights = torch.softmax(logits, dim=0).nan_to_num(0)  # Eq. 8; all unseen: 0
    if mode == "release" and ignored_class is not None:
        alone = torch.zeros(teachers, 1, dtype=weights.dtype, device=weights.device)
        alone[0] = 1
        weights = torch.where(tuples[0] == ignored_class, alone, weights)
    return weights
