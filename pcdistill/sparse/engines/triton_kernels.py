"""Triton kernels of sparse convolution and its gradients; needs the package triton.

Each program of a kernel makes one tile of its result and nobody else writes there, so the order of
every sum is fixed. Sums are taken in float32. What a program multiplies are `ROWS` gathered rows by
`INNER` input channels by `OUTER` output channels; an offset under which none of its rows has a
neighbour is left out, which is common because rows are sorted in space.

In all of them a `table` is (K, rows) int32: under each offset the row of the other side, or that
side's row count where there is none. `order` is (K,) int32: the slice of the weights that each
offset takes. Addresses are 64-bit wherever rows are multiplied by channels.
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads the annotations of a kernel; only its own are allowed.

from __future__ import annotations

import triton
import triton.language as tl

ROW_COUNTS = ("n_source", "n_target")
"""Arguments that differ for every batch: nothing is compiled anew for their values."""


@triton.jit(do_not_specialize=ROW_COUNTS)
def convolution_kernel(
    features,  # (n_source, c_in)
    weights,  # K slices of (c_in, c_out), any strides
    table,  # (K, n_target)
    order,
    out,  # (n_target, c_out)
    n_source,
    n_target,
    n_offsets,
    c_in,
    c_out,
    slice_step,
    in_step,
    out_step,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum the products of all neighbours of a tile of target rows."""
    tiles = tl.cdiv(c_out, OUTER)
    rows = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # (ROWS,)
    columns = (tl.program_id(0) % tiles) * OUTER + tl.arange(0, OUTER)  # (OUTER,)
    total = tl.zeros((ROWS, OUTER), dtype=tl.float32)
    neighbors = table + rows
    for offset in range(n_offsets):
        source = tl.load(neighbors, mask=rows < n_target, other=n_source)  # (ROWS,)
        if tl.min(source, axis=0) < n_source:
            left_rows = features + source.to(tl.int64)[:, None] * c_in
            right_slice = weights + tl.load(order + offset).to(tl.int64) * slice_step
            for first in range(0, c_in, INNER):
                channels = first + tl.arange(0, INNER)
                left = tl.load(
                    left_rows + channels[None, :],
                    mask=(source < n_source)[:, None] & (channels < c_in)[None, :],
                    other=0.0,
                )
                right = tl.load(
                    right_slice + channels[:, None] * in_step + columns[None, :] * out_step,
                    mask=(channels < c_in)[:, None] & (columns < c_out)[None, :],
                    other=0.0,
                )
                # (ROWS, INNER) @ (INNER, OUTER)
                total = tl.dot(left, right, total, input_precision=PRECISION)
        neighbors += n_target
    tl.store(
        out + rows[:, None] * c_out + columns[None, :],
        total.to(out.dtype.element_ty),
        mask=(rows < n_target)[:, None] & (columns < c_out)[None, :],
    )


@triton.jit(do_not_specialize=ROW_COUNTS)
def few_channels_kernel(
    features,  # (n_source, c_in)
    weights,  # K slices of (c_in, c_out), any strides
    table,  # (K, n_target)
    order,
    out,  # (n_target, c_out)
    n_source,
    n_target,
    n_offsets,
    c_in,
    c_out,
    slice_step,
    in_step,
    out_step,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`convolution_kernel` where INNER / WIDTH offsets of c_in <= WIDTH channels fill a product."""
    tiles = tl.cdiv(c_out, OUTER)
    rows = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # (ROWS,)
    columns = (tl.program_id(0) % tiles) * OUTER + tl.arange(0, OUTER)  # (OUTER,)
    channels = tl.arange(0, INNER) % WIDTH
    total = tl.zeros((ROWS, OUTER), dtype=tl.float32)
    for first in range(0, n_offsets, INNER // WIDTH):
        offsets = first + tl.arange(0, INNER) // WIDTH  # (INNER,)
        wanted = (offsets < n_offsets) & (channels < c_in)  # (INNER,)
        source = tl.load(  # (ROWS, INNER)
            table + offsets.to(tl.int64)[None, :] * n_target + rows[:, None],
            mask=(rows < n_target)[:, None] & wanted[None, :],
            other=n_source,
        )
        if tl.min(tl.min(source, axis=1), axis=0) < n_source:
            left = tl.load(
                features + source.to(tl.int64) * c_in + channels[None, :],
                mask=source < n_source,
                other=0.0,
            )
            slices = tl.load(order + offsets, mask=wanted, other=0).to(tl.int64)  # (INNER,)
            right = tl.load(
                weights
                + (slices * slice_step + channels * in_step)[:, None]
                + columns[None, :] * out_step,
                mask=wanted[:, None] & (columns < c_out)[None, :],
                other=0.0,
            )
            # (ROWS, INNER) @ (INNER, OUTER)
            total = tl.dot(left, right, total, input_precision=PRECISION)
    tl.store(
        out + rows[:, None] * c_out + columns[None, :],
        total.to(out.dtype.element_ty),
        mask=(rows < n_target)[:, None] & (columns < c_out)[None, :],
    )


@triton.jit(do_not_specialize=ROW_COUNTS)
def one_source_kernel(
    features,  # (n_source, c_in)
    weights,  # K slices of (c_in, c_out), any strides
    table,  # (K, n_source) target rows, each target row in it exactly once
    order,
    out,  # (n_target, c_out)
    n_source,
    n_target,
    n_offsets,
    c_in,
    c_out,
    slice_step,
    in_step,
    out_step,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Multiply a tile of source rows and put each product on the one target row it belongs to."""
    tiles = tl.cdiv(c_out, OUTER)
    columns = (tl.program_id(0) % tiles) * OUTER + tl.arange(0, OUTER)
    offset = tl.program_id(0) // tiles % n_offsets
    rows = (tl.program_id(0) // tiles // n_offsets).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    target = tl.load(  # (ROWS,)
        table + offset.to(tl.int64) * n_source + rows, mask=rows < n_source, other=n_target
    )
    if tl.min(target, axis=0) < n_target:
        total = tl.zeros((ROWS, OUTER), dtype=tl.float32)
        right_slice = weights + tl.load(order + offset).to(tl.int64) * slice_step
        for first in range(0, c_in, INNER):
            channels = first + tl.arange(0, INNER)
            left = tl.load(
                features + rows[:, None] * c_in + channels[None, :],
                mask=(target < n_target)[:, None] & (channels < c_in)[None, :],
                other=0.0,
            )
            right = tl.load(
                right_slice + channels[:, None] * in_step + columns[None, :] * out_step,
                mask=(channels < c_in)[:, None] & (columns < c_out)[None, :],
                other=0.0,
            )
            # (ROWS, INNER) @ (INNER, OUTER)
            total = tl.dot(left, right, total, input_precision=PRECISION)
        tl.store(
            out + target.to(tl.int64)[:, None] * c_out + columns[None, :],
            total.to(out.dtype.element_ty),
            mask=(target < n_target)[:, None] & (columns < c_out)[None, :],
        )


@triton.jit(do_not_specialize=(*ROW_COUNTS, "rows_each"))
def kernel_gradient_kernel(
    features,  # (n_source, c_in)
    upstream,  # (n_target, c_out)
    table,  # (K, n_target)
    order,
    parts,  # (splits, K, c_in, c_out) float32
    n_source,
    n_target,
    n_offsets,
    c_in,
    c_out,
    rows_each,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of a tile of one slice of the weights over `rows_each` target rows."""
    offset = tl.program_id(0) % n_offsets  # fastest: those at work together share their rows
    out_tiles = tl.cdiv(c_out, OUTER)
    tiles = tl.cdiv(c_in, INNER) * out_tiles
    tile = tl.program_id(0) // n_offsets % tiles
    split = tl.program_id(0) // n_offsets // tiles
    channels = tile // out_tiles * INNER + tl.arange(0, INNER)  # (INNER,)
    columns = tile % out_tiles * OUTER + tl.arange(0, OUTER)  # (OUTER,)
    neighbors = table + offset.to(tl.int64) * n_target
    total = tl.zeros((INNER, OUTER), dtype=tl.float32)
    for first in range(split * rows_each, min((split + 1) * rows_each, n_target), ROWS):
        rows = first + tl.arange(0, ROWS)
        source = tl.load(neighbors + rows, mask=rows < n_target, other=n_source)  # (ROWS,)
        if tl.min(source, axis=0) < n_source:
            left = tl.load(
                features + source.to(tl.int64)[:, None] * c_in + channels[None, :],
                mask=(source < n_source)[:, None] & (channels < c_in)[None, :],
                other=0.0,
            )
            right = tl.load(
                upstream + rows.to(tl.int64)[:, None] * c_out + columns[None, :],
                mask=(source < n_source)[:, None] & (columns < c_out)[None, :],
                other=0.0,
            )
            # (INNER, ROWS) @ (ROWS, OUTER)
            total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION)
    part = split.to(tl.int64) * n_offsets + tl.load(order + offset)
    tl.store(
        parts + (part * c_in + channels)[:, None] * c_out + columns[None, :],
        total,
        mask=(channels < c_in)[:, None] & (columns < c_out)[None, :],
    )


@triton.jit(do_not_specialize=(*ROW_COUNTS, "rows_each"))
def few_channels_gradient_kernel(
    features,  # (n_source, c_in)
    upstream,  # (n_target, c_out)
    table,  # (K, n_target)
    order,
    parts,  # (splits, K, c_in, c_out) float32
    n_source,
    n_target,
    n_offsets,
    c_in,
    c_out,
    rows_each,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`kernel_gradient_kernel` for INNER / WIDTH slices of c_in <= WIDTH channels at once."""
    groups = tl.cdiv(n_offsets, INNER // WIDTH)
    out_tiles = tl.cdiv(c_out, OUTER)
    group = tl.program_id(0) % groups
    split = tl.program_id(0) // groups // out_tiles
    columns = (tl.program_id(0) // groups % out_tiles) * OUTER + tl.arange(0, OUTER)
    channels = tl.arange(0, INNER) % WIDTH
    offsets = group * (INNER // WIDTH) + tl.arange(0, INNER) // WIDTH  # (INNER,)
    wanted = (offsets < n_offsets) & (channels < c_in)
    neighbors = table + offsets.to(tl.int64)[None, :] * n_target
    total = tl.zeros((INNER, OUTER), dtype=tl.float32)
    for first in range(split * rows_each, min((split + 1) * rows_each, n_target), ROWS):
        rows = first + tl.arange(0, ROWS)
        source = tl.load(  # (ROWS, INNER)
            neighbors + rows[:, None],
            mask=(rows < n_target)[:, None] & wanted[None, :],
            other=n_source,
        )
        if tl.min(tl.min(source, axis=1), axis=0) < n_source:
            left = tl.load(
                features + source.to(tl.int64) * c_in + channels[None, :],
                mask=source < n_source,
                other=0.0,
            )
            right = tl.load(
                upstream + rows.to(tl.int64)[:, None] * c_out + columns[None, :],
                mask=(rows < n_target)[:, None] & (columns < c_out)[None, :],
                other=0.0,
            )
            # (INNER, ROWS) @ (ROWS, OUTER)
            total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION)
    slices = tl.load(order + offsets, mask=wanted, other=0)
    part = split.to(tl.int64) * n_offsets + slices
    tl.store(
        parts + (part * c_in + channels)[:, None] * c_out + columns[None, :],
        total,
        mask=wanted[:, None] & (columns < c_out)[None, :],
    )


RUNS_ON_CPU = not isinstance(convolution_kernel, triton.JITFunction)
"""Whether these are in Triton's interpreter, because TRITON_INTERPRET=1 was set before the import.

For tests: it takes seconds for hundreds of voxels, and has no products of bfloat16 (Triton 3.9).
"""
