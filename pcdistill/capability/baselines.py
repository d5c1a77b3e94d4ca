"""Baseline capability tables: binary and shuffled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcdistill.geometry import require_shape


def binary_capability(capability: Tensor) -> Tensor:
    """Reduce a table to zeros and ones: which teacher finds which class at all.

    Args:
        capability: (T, K) floating in [0, 1].

    Returns:
        (T, K), of the same dtype: 1 where it is above zero, else 0; NaN where it is NaN.

    Raises:
        ValueError: it is not a table.
    """
    require_shape("capability", capability, None, None)
    return torch.where(capability.isnan(), capability, (capability > 0).to(capability.dtype))


def shuffled_capability(capability: Tensor, seed: int, draw: int) -> Tensor:
    """Shuffle the nonzero entries of a table over teachers and classes; zeros stay.

    Args:
        capability: (T, K) floating in [0, 1].
        seed: of the run, 0 or more.
        draw: which permutation, from 0; the same one for a seed on every processor.

    Returns:
        (T, K), of the same dtype: zero or NaN where it was, elsewhere the nonzero values of the
        whole table in another order.

    Raises:
        ValueError: it is not a table.
    """
    require_shape("capability", capability, None, None)
    there = capability > 0
    strengths = capability[there]
    order = np.random.default_rng((seed, draw)).permutation(len(strengths))
    shuffled = torch.where(capability.isnan(), capability, 0)
    shuffled[there] = strengths[torch.from_numpy(order).to(capability.device)]
    return shuffled
