"""Memory for large results on the CPU.

A system gives new memory page by page, each when it is first written, which can take as long as the
arithmetic that fills it. Numpy asks for pages of 2 MiB where there are such (Linux, from 4 MiB on),
torch by default does not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_KINDS = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32}


def fresh_rows(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """(rows, columns) on the CPU, contents undefined; from torch where numpy lacks the type."""
    if dtype not in _KINDS:
        return torch.empty(rows, columns, dtype=dtype)
    return torch.from_numpy(np.empty((rows, columns), dtype=_KINDS[dtype]))
