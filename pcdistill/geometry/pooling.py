"""Means over superpoints."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry.checks import require_shape


def superpoint_mean(values: Tensor, superpoint_ids: Tensor, count: int | None = None) -> Tensor:
    """Mean of the rows of each superpoint; differentiable in `values`.

    Half-precision values are summed in float32.

    Args:
        values: (N, D) float.
        superpoint_ids: (N,) integer in [0, S).
        count: S; None takes the highest id + 1.

    Returns:
        (S, D) of the dtype of `values`; zero for a superpoint without members.

    Raises:
        ValueError: wrong shape, or an id outside [0, S).

    Source: SAS, section 3.4, the means f_SP above Eq. 10.
    """
    require_shape("values", values, None, None)
    require_shape("superpoint_ids", superpoint_ids, len(values))
    if superpoint_ids.is_floating_point():
        raise ValueError(f"superpoint_ids have dtype {superpoint_ids.dtype}, expected integers")
    ids = superpoint_ids.to(device=values.device, dtype=torch.int64)
    low, high = (int(value) for value in ids.aminmax()) if len(ids) else (0, -1)
    if low < 0 or (count is not None and high >= count):
        upper = "" if count is None else f" to {count - 1}"
        raise ValueError(f"superpoint_ids range from {low} to {high}, expected 0{upper}")
    superpoints = high + 1 if count is None else count
    summand = values if values.dtype == torch.float64 else values.float()
    sums = summand.new_zeros((superpoints, values.shape[1])).index_add(0, ids, summand)
    members = torch.bincount(ids, minlength=superpoints).clamp_(min=1)
    return (sums / members[:, None]).to(values.dtype)
