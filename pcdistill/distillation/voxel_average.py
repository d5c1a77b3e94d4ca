"""Point features averaged over the voxels that a student's answer would be read from."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.distillation.batches import StudentInput, make_voxel_batch
from pcdistill.distillation.voting import ONE_LOOK, Looks
from pcdistill.geometry import require_shape


def voxel_means(
    points: Tensor, features: Tensor, seen: Tensor, voxel_size: float, looks: Looks = ONE_LOOK
) -> tuple[Tensor, Tensor]:
    """Average features over the seen points of each voxel, then over looks cut otherwise.

    What comes out has been smoothed as a student's answer is: one feature a voxel and look, from
    the same voxels (`student_features`). `voxel_features` is another thing: there a voxel has the
    feature of its first point, as OpenScene evaluates 2D features.

    Args:
        points: (N, 3) float, metres.
        features: (N, D) floating; rows that `seen` rules out are not read.
        seen: (N,) bool.
        voxel_size: metres.
        looks: how the cloud is looked at.

    Returns:
        features: (N, D) float32, mean over the looks in which a point's voxel has a seen point;
            zero where none has.
        seen: (N,) bool, points whose voxel has a seen point in some look.

    Raises:
        ValueError: shapes do not fit together, or there is no look.
    """
    require_shape("points", points, None, 3)
    require_shape("features", features, len(points), None)
    require_shape("seen", seen, len(points))
    known = features[seen].float()  # (seen points, D)
    total = torch.zeros(len(points), features.shape[1])
    knowing = torch.zeros(len(points))  # looks in which the voxel of a point has a seen point
    for look in looks.at(StudentInput(points)):
        batch = make_voxel_batch([look], voxel_size)
        voxel = batch.point_to_voxel[0]  # (N,)
        sums = torch.zeros(len(batch.coords), features.shape[1])  # (V, D)
        sums.index_add_(0, voxel[seen], known)
        members = torch.bincount(voxel[seen], minlength=len(sums))  # (V,)
        total += (sums / members.clamp(min=1)[:, None])[voxel]
        knowing += members[voxel] > 0
    return total / knowing.clamp(min=1)[:, None], knowing > 0
