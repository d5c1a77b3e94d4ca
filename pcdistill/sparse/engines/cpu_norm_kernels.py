# mypy: disable-error-code="no-untyped-call"
"""Batch norm, addition and ReLU on the CPU: compiled loops with few passes over memory.

Each worker does rows that lie together, and has sums of its own in float64; they are taken of the
differences from one row, so that a large mean costs no digits. Bfloat16 comes and goes as its bits
(uint16) and is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from pcdistill.jit import njit
from pcdistill.sparse.bfloat16 import round_to_bfloat16_bits

Array = NDArray[Any]


def _number(value: Any) -> Any:
    """The number that an element of an array stands for."""
    raise NotImplementedError("only compiled")


@overload(_number, strict=False)
def _number_of(value: Any) -> Callable[[Any], Any]:
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _element(number: Any, dtype: Any) -> Any:
    """The element of a dtype nearest to a number; of two equally near in bfloat16 the even one."""
    raise NotImplementedError("only compiled")


@overload(_element, strict=False)
def _element_of(number: Any, dtype: Any) -> Callable[[Any, Any], Any]:
    if dtype.dtype == types.uint16:
        return lambda number, dtype: round_to_bfloat16_bits(number)
    return lambda number, dtype: number


@njit(nogil=True)
def accumulate_moments(x: Array, sums: Array, worker: int, workers: int) -> None:
    """sums[worker] += sum of d and of d^2 over the rows, with d = x - x[0].

    Args:
        x: (V, C).
        sums: (workers, 2, C) float64.
        worker: number of this worker.
        workers: number of workers.
    """
    n, own = len(x), sums[worker]
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        for c in range(x.shape[1]):
            d = np.float64(_number(x[row, c])) - np.float64(_number(x[0, c]))
            own[0, c] += d
            own[1, c] += d * d


@njit(nogil=True)
def normalize(
    x: Array,
    mean: Array,
    scale: Array,
    shift: Array,
    residual: Array | None,
    relu: bool,
    skip: Array | None,
    out: Array,
    worker: int,
    workers: int,
) -> None:
    """out = [(x - mean) * scale + shift + added, beside], the first part cut off at 0 if `relu`.

    What is no number stays so.

    Args:
        x: (V, C).
        mean: (C,) subtracted.
        scale: (C,) multiplied by.
        shift: (C,) added.
        residual: (V, C), or None for nothing.
        relu: whether what is below 0 becomes 0.
        skip: (V, B), or None for no more columns.
        out: (V, C + B), written; may be `x` where B is 0.
        worker: number of this worker.
        workers: number of workers.
    """
    n, width, floor = len(x), x.shape[1], scale.dtype.type(0 if relu else -np.inf)
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        for c in range(x.shape[1]):
            number = (_number(x[row, c]) - mean[c]) * scale[c] + shift[c]
            if residual is not None:
                number += _number(residual[row, c])
            out[row, c] = _element(floor if number < floor else number, out.dtype)
        if skip is not None:
            for c in range(skip.shape[1]):
                out[row, width + c] = skip[row, c]


@njit(nogil=True)
def reduce_gradient_sums(
    x: Array,
    mean: Array,
    out: Array | None,
    upstream: Array,
    kept: Array,
    skip: Array | None,
    sums: Array,
    worker: int,
    workers: int,
) -> None:
    """kept = upstream where ReLU let through; sums[worker] += sum of kept, and of kept (x - mean).

    Args:
        x: (V, C).
        mean: (C,).
        out: (V, C + B) what ReLU made, or None where there was none.
        upstream: (V, C + B).
        kept: (V, C), written; may be `upstream` where B is 0.
        skip: (V, B) the other columns of `upstream`, written, or None for none.
        sums: (workers, 2, C) float64.
        worker: number of this worker.
        workers: number of workers.
    """
    n, own = len(x), sums[worker]
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        for c in range(x.shape[1]):  # loops of their own: one over five arrays is not vectorised
            kept[row, c] = upstream[row, c]
        if out is not None:
            for c in range(x.shape[1]):
                if _number(out[row, c]) <= 0:
                    kept[row, c] = 0
        if skip is not None:
            for c in range(skip.shape[1]):
                skip[row, c] = upstream[row, x.shape[1] + c]
        for c in range(x.shape[1]):
            gradient = _number(kept[row, c])
            own[0, c] += gradient
            own[1, c] += np.float64(gradient) * (_number(x[row, c]) - mean[c])


@njit(nogil=True)
def apply_input_gradient(
    x: Array,
    mean: Array,
    kept: Array,
    scale: Array,
    average: Array,
    slope: Array,
    gradient: Array,
    worker: int,
    workers: int,
) -> None:
    """gradient = scale * (kept - average - slope * (x - mean)).

    Args:
        x: (V, C).
        mean: (C,) of the batch.
        kept: (V, C) the gradient past the ReLU.
        scale: (C,) one by its standard deviation.
        average: (C,) mean of the gradient.
        slope: (C,) mean of the gradient times the normalized rows.
        gradient: (V, C), written; may be `kept`.
        worker: number of this worker.
        workers: number of workers.
    """
    n = len(x)
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        for c in range(x.shape[1]):
            away = _number(x[row, c]) - mean[c]
            number = scale[c] * (_number(kept[row, c]) - average[c] - slope[c] * away)
            gradient[row, c] = _element(number, gradient.dtype)
