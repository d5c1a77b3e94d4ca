"""Distillation losses of the student (SAS, Eq. 10 and 13).

All losses work on rows: one student row for each voxel that takes part in the step, from all
scenes of the batch, with superpoint ids that count through the whole batch. Half-precision inputs
are computed in float32; float64 stays float64. Nothing here loops in Python, and nothing but
`(R, D)` and `(S, D)` tensors is made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.distillation.class_scores import class_scores
from pcdistill.geometry import require_shape, superpoint_mean


class DistillationLosses(NamedTuple):
    """One training signal and the two terms it is the sum of; scalars of the student's device."""

    total: Tensor
    """`point + superpoint`; call `backward` on this one."""
    point: Tensor
    """Mean over the rows."""
    superpoint: Tensor
    """Unweighted mean over the superpoints that have a row, whatever their size."""


def superpoint_distillation_loss(
    student: Tensor, superpoint_ids: Tensor, target_superpoint_means: Tensor
) -> DistillationLosses:
    """Pull the student towards the mean 2D feature of each superpoint.

    The point term compares each row with the mean of its superpoint, the superpoint term compares
    the mean of the rows of a superpoint with the same mean. Both need of the 2D features only
    their means, so the per-point features never have to be stored.

    Args:
        student: (R, D) float, the student's output at the rows in use; any length, not zero.
        superpoint_ids: (R,) int64, row of `target_superpoint_means` for each student row.
        target_superpoint_means: (S, D) float, mean fused 2D feature over the seen points of each
            superpoint. Superpoints without a row take no part; use only rows of superpoints
            that have a target (a zero target counts as cosine 0).

    Returns:
        losses, each in [0, 2] per term. Without any row all are zero and the gradient is zero.

    Raises:
        ValueError: shapes differ, or (on the CPU) an id lies outside the target table.

    Source: SAS, Eq. 10. The released code computes the target means over the rows drawn for this
    step instead of over all seen points of the superpoint; pass such means to reproduce it.
    """
    require_shape("student", student, None, None)
    rows, dimensions = student.shape
    require_shape("superpoint_ids", superpoint_ids, rows)
    require_shape("target_superpoint_means", target_superpoint_means, None, dimensions)
    count = target_superpoint_means.shape[0]
    _require_ids("superpoint_ids", superpoint_ids, count, "target_superpoint_means")
    student = at_least_float32(student)
    if rows == 0:
        zero = student.sum()
        return DistillationLosses(zero, zero, zero)
    direction = functional.normalize(target_superpoint_means.to(student.dtype), dim=1)  # (S, D)
    point = 1 - (functional.normalize(student, dim=1) * direction[superpoint_ids]).sum(1).mean()
    means = superpoint_mean(student, superpoint_ids, count)  # (S, D)
    cosine = (functional.normalize(means, dim=1) * direction).sum(1)  # (S,)
    superpoint = 1 - _mean_where_present(cosine, superpoint_ids)
    return DistillationLosses(point + superpoint, point, superpoint)


def point_distillation_loss(student: Tensor, target: Tensor) -> Tensor:
    """Pull each student row towards the fused 2D feature of its own point.

    Args:
        student: (R, D) float.
        target: (R, D) float, fused feature of the point that stands for each row.

    Returns:
        () float, mean of one minus cosine, in [0, 2]; zero without any row.

    Raises:
        ValueError: shapes differ.

    Source: OpenScene (CVPR 2023), distillation loss; "3D Pixel-Point Dis." in SAS, Table 3.
    """
    require_shape("student", student, None, None)
    require_shape("target", target, *student.shape)
    student = at_least_float32(student)
    if student.shape[0] == 0:
        return student.sum()
    return 1 - functional.cosine_similarity(student, target.to(student.dtype), dim=1).mean()


def self_distillation_loss(
    student: Tensor,
    superpoint_ids: Tensor,
    text_embeddings: Tensor,
    pseudo_labels_point: Tensor,
    pseudo_labels_superpoint: Tensor,
    temperature: float = 1.0,
    class_of_prompt: Tensor | None = None,
    *,
    unit_outputs: bool = False,
) -> DistillationLosses:
    """Pull the student's class scores towards the labels of its own smoothed past.

    Scores are plain dot products with the text, neither side normalised here unless
    `unit_outputs` says so. The score of a superpoint is that of its mean feature; pooling is
    linear, so `(R, P)` scores are pooled and not `(R, D)` features, unless means are normalised.
    Where several prompts ask for one class, its score is that of the best.

    Args:
        student: (R, D) float, the student's output at the rows in use.
        superpoint_ids: (R,) int64, row of `pseudo_labels_superpoint` for each student row.
        text_embeddings: (P, D) float, of the prompts; P = K without `class_of_prompt`.
        pseudo_labels_point: (R,) int64 in [0, K), label of each row.
        pseudo_labels_superpoint: (S,) int64 in [0, K), label of each superpoint; entries of
            superpoints without a row are not read.
        temperature: scores are divided by it before the softmax, unitless.
        class_of_prompt: (P,) int64 in [0, K), where several prompts ask for one class.
        unit_outputs: take cosines for scores: rows, and means of superpoints, are scaled to
            length 1. The distillation loss leaves that length free, and with it how steep a
            softmax of plain dot products is.

    Returns:
        losses, cross entropies in nats. Without any row all are zero and the gradient is zero.

    Raises:
        ValueError: shapes differ, the temperature is not positive, or (on the CPU) an id lies
            outside the table of superpoint labels.

    Source: SAS, Eq. 13. As printed, the equation takes the cross entropy of an argmax, which has
    no gradient; like the released code this takes it of the scores (there with temperature 1).
    For nuScenes the released code asks for the 16 names of the benchmark ("a driveable surface in a
    scene", and "other" for vegetation, its last); here the 43 names that inference uses, mapped to
    the 16 classes (Tab. 8).
    """
    require_shape("student", student, None, None)
    rows, dimensions = student.shape
    require_shape("superpoint_ids", superpoint_ids, rows)
    require_shape("text_embeddings", text_embeddings, None, dimensions)
    require_shape("pseudo_labels_point", pseudo_labels_point, rows)
    require_shape("pseudo_labels_superpoint", pseudo_labels_superpoint, None)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a number > 0")
    count = pseudo_labels_superpoint.shape[0]
    _require_ids("superpoint_ids", superpoint_ids, count, "pseudo_labels_superpoint")
    student = at_least_float32(student)
    if rows == 0:
        zero = student.sum()
        return DistillationLosses(zero, zero, zero)
    with torch.autocast(student.device.type, enabled=False):
        text = text_embeddings.to(student.dtype).T  # (D, P)
        if unit_outputs:
            scores = functional.normalize(student, dim=1) @ text / temperature  # (R, P)
            means = superpoint_mean(student, superpoint_ids, count)  # (S, D)
            pooled = functional.normalize(means, dim=1) @ text / temperature  # (S, P)
        else:
            scores = student @ text / temperature  # (R, P)
            pooled = superpoint_mean(scores, superpoint_ids, count)  # (S, P)
    point = functional.cross_entropy(class_scores(scores, class_of_prompt), pseudo_labels_point)
    pooled = class_scores(pooled, class_of_prompt)  # (S, K)
    present = torch.bincount(superpoint_ids, minlength=count) > 0  # (S,) bool
    superpoint = functional.cross_entropy(pooled[present], pseudo_labels_superpoint[present])
    return DistillationLosses(point + superpoint, point, superpoint)


def at_least_float32(values: Tensor) -> Tensor:
    """Raise half precision to float32; leave float32 and float64 as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _mean_where_present(per_superpoint: Tensor, superpoint_ids: Tensor) -> Tensor:
    """Mean of (S,) values over the superpoints that occur in `superpoint_ids`, without a sync."""
    present = torch.zeros_like(per_superpoint)  # (S,)
    present[superpoint_ids] = 1
    return (per_superpoint * present).sum() / present.sum()


def _require_ids(name: str, ids: Tensor, count: int, table: str) -> None:
    """Refuse ids outside a table of `count` rows.

    Only on the CPU: on a GPU the look would wait for the device, and indexing stops there itself.
    """
    if ids.device.type != "cpu" or ids.numel() == 0:
        return
    low, high = ids.aminmax()
    if low < 0 or high >= count:
        raise ValueError(
            f"{name} run from {int(low)} to {int(high)}, expected rows of {table} with {count} rows"
        )
