# mypy: disable-error-code="no-untyped-call"
"""Compiled loops of batch norm, residual addition and ReLU on the CPU.

Each worker has a contiguous range of the rows and sums of its own in float64; sums are taken of the
differences from one row, so that a large mean costs no digits. Bfloat16 comes and goes as its bits
(uint16) and is computed in float32.

Letters: V voxels, C channels that are normalized, B channels of the skip connection, W workers.
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
    """Add sum of d and of d^2 over the worker's rows to sums[worker], with d = x - x[0].

    Args:
        x: (V, C).
        sums: (W, 2, C) float64.
        worker: number of this worker.
        workers: number of workers.
    """
    n, own = len(x), sums[worker]  # own: (2, C)
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
    """Write [(x - mean) * scale + shift + residual, skip], the first part cut off at 0 if `relu`.

    NaN stays NaN.

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
    past_relu: Array,
    of_skip: Array | None,
    sums: Array,
    worker: int,
    workers: int,
) -> None:
    """Take the gradient back through ReLU, and add up what the gradient of batch norm needs.

    past_relu = upstream, but 0 where `out` <= 0. To sums[worker] are added, over the worker's rows,
    the sums of past_relu and of past_relu * (x - mean).

    Args:
        x: (V, C).
        mean: (C,).
        out: (V, C + B) what ReLU made, or None where there was none.
        upstream: (V, C + B).
        past_relu: (V, C), written; may be `upstream` where B is 0.
        of_skip: (V, B) the other columns of `upstream`, written, or None for none.
        sums: (W, 2, C) float64.
        worker: number of this worker.
        workers: number of workers.
    """
    n, own = len(x), sums[worker]  # own: (2, C)
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        for c in range(x.shape[1]):  # loops of their own: one over five arrays is not vectorised
            past_relu[row, c] = upstream[row, c]
        if out is not None:
            for c in range(x.shape[1]):
                if _number(out[row, c]) <= 0:
                    past_relu[row, c] = 0
        if of_skip is not None:
            for c in range(of_skip.shape[1]):
                of_skip[row, c] = upstream[row, x.shape[1] + c]
        for c in range(x.shape[1]):
            gradient = _number(past_relu[row, c])
            own[0, c] += gradient
            own[1, c] += np.float64(gradient) * (_number(x[row, c]) - mean[c])


@njit(nogil=True)
def apply_input_gradient(
    x: Array,
    mean: Array,
    past_relu: Array,
    scale: Array,
    average: Array,
    slope: Array,
    gradient: Array,
    worker: int,
    workers: int,
) -> None:
    """Write scale * (past_relu - average - slope * (x - mean)), the gradient of the input.

    Args:
        x: (V, C).
        mean: (C,) of the batch.
        past_relu: (V, C) the gradient taken back through ReLU.
        scale: (C,) weight by the batch's standard deviation.
        average: (C,) mean of `past_relu` over the rows.
        slope: (C,) mean of `past_relu` * (x - mean) over the rows, by the variance.
        gradient: (V, C), written; may be `past_relu`.
        worker: number of this worker.
        workers: number of workers.
    """
    n = len(x)
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        for c in range(x.shape[1]):
            away = _number(x[row, c]) - mean[c]
            number = scale[c] * (_number(past_relu[row, c]) - average[c] - slope[c] * away)
            gradient[row, c] = _element(number, gradient.dtype)
