"""Rounding to bfloat16 in compiled loops, as bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcdistill.jit import njit


@njit(nogil=True)
def round_to_bfloat16_bits(number: Any) -> Any:
    """Bits (uint16) of the number nearest to one of float32; of two equally near the even one."""
    word = np.float32(number).view(np.uint32)
    half = np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))
    if word & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):  # not a number
        return np.uint16(0x7FC0)
    return np.uint16((word + half) >> np.uint32(16))
