# mypy: disable-error-code="no-untyped-call"
"""Compiled loops of sparse convolution on the CPU, whose sums stay in vector registers.

A block of target rows is done offset by offset: its pairs are read off the neighbor table, and
tiles of pairs are multiplied and added. A tile is some rows times one or two vectors of columns;
its sums stay in registers while all channels (or, for the gradient of the weights, all pairs) pass
by. Nothing is gathered into a copy: rows are read, and written, where they are. The order of every
sum is fixed.

Numba's own code for such loops would keep the sums in memory, so the tiles are written down as
vector operations for LLVM, which numba compiles for the processor at hand. (All of it is in one
file because numba's cache on disk notices changes of the file that holds a function, no others.)

Letters: V_in, V_out voxels (rows of the input, rows of the output), C_in, C_out channels, K offsets
of the kernel, W workers. C_pad is C_out, filled up to whole vectors; a panel is all C_in rows of
one slice of the weights, in the columns of one tile. H is the number of target rows in a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic
from numpy.typing import NDArray

from pcdistill.jit import njit
from pcdistill.sparse.bfloat16 import round_to_bfloat16_bits

Array = NDArray[Any]

INT, HALF_WORD, WORD = ir.IntType(64), ir.IntType(16), ir.IntType(32)
REAL = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
BFLOAT16 = types.uint16
"""Type that stands for bfloat16 in numba, which knows only its bits."""

DEPTH = 192
"""Input channels at a time, so that their panel of weights fits the nearest cache."""
PAIRS = 64
"""Pairs at a time in the gradient of the weights, so that their rows fit the nearest cache."""


def _compiled_for() -> frozenset[str]:
    """What numba compiles for: the features of the processor, or those of NUMBA_CPU_FEATURES."""
    setting = config.CPU_FEATURES  # type: ignore[attr-defined]  # set as numba is loaded
    listed = (get_host_cpu_features() if setting is None else setting).split(",")
    return frozenset(name[1:] for name in listed if name.startswith("+"))


_FEATURES = _compiled_for()
VECTOR_BYTES = next(
    (size for name, size in (("avx512f", 64), ("avx2", 32)) if name in _FEATURES), 16
)
"""Width of the vector registers that are used."""
VECTORS = 2
"""Vectors of columns in a wide tile; a narrow one has one."""
HEIGHTS = (6, 4, 2, 1) if VECTOR_BYTES == 32 else (8, 4, 2, 1)
"""Rows of the tiles. The tallest has as many sums as there are registers for (16 with AVX2)."""
HAS_BFLOAT16 = "avx512bf16" in _FEATURES
"""Whether the processor multiplies bfloat16, two at a time, into sums of float32."""


class _Rows:
    """Addresses in an array of (rows, columns), or in one of a single dimension: a list of rows."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: types.Array, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self._builder, self._data = builder, array.data
        self.length = cgutils.unpack_tuple(builder, array.shape)[-1]

    def at(self, row: Any, column: Any) -> Any:
        """Pointer to an element."""
        place = self._builder.add(self._builder.mul(row, self.length), column)
        return self._builder.gep(self._data, [place])

    def number(self, place: Any) -> Any:
        """The row that a list has at a place."""
        builder = self._builder
        return builder.zext(builder.load(builder.gep(self._data, [place])), INT)


class _Arithmetic:
    """Vector operations on one type of element; sums are of the same type."""

    def __init__(self, builder: ir.IRBuilder, element: Any) -> None:
        self.builder = builder
        self.sum_bits = 32 if element == BFLOAT16 else element.bitwidth
        self.lanes = VECTOR_BYTES * 8 // self.sum_bits
        self.sums = ir.VectorType(
            REAL[types.float64 if self.sum_bits == 64 else types.float32], self.lanes
        )
        self.per_step = 1
        """Consecutive numbers of a row that one step of a loop takes."""

    def load(self, pointer: Any, kind: Any, bits: int) -> Any:
        """The vector at a place; rows begin anywhere, so nothing is known but an element's size."""
        place = self.builder.bitcast(pointer, kind.as_pointer())
        return self.builder.load(place, align=bits // 8)

    def columns(self, pointer: Any) -> Any:
        """The columns that begin at a place."""
        return self.load(pointer, self.sums, self.sum_bits)

    def factor(self, pointer: Any) -> Any:
        """The number at a place, in every lane."""
        return self._spread(self.builder.load(pointer), self.lanes)

    def multiply_add(self, factor: Any, columns: Any, total: Any) -> Any:
        """total + factor * columns, rounded once where the processor can."""
        name = f"llvm.fmuladd.v{self.lanes}f{self.sum_bits}"
        kind = ir.FunctionType(self.sums, [self.sums] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [factor, columns, total])

    def _spread(self, number: Any, lanes: int) -> Any:
        nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
        one = self.builder.insert_element(nothing, number, ir.Constant(WORD, 0))
        zeros = ir.Constant(ir.VectorType(WORD, lanes), [0] * lanes)
        return self.builder.shuffle_vector(one, nothing, zeros)


class _Widened(_Arithmetic):
    """Elements of bfloat16, made float32 as they are loaded."""

    def columns(self, pointer: Any) -> Any:
        """The columns that begin at a place."""
        short = self.load(pointer, ir.VectorType(HALF_WORD, self.lanes), 16)
        return self._moved_up(self.builder.zext(short, ir.VectorType(WORD, self.lanes)))

    def factor(self, pointer: Any) -> Any:
        """The number at a place, in every lane."""
        twice = self._spread(self.builder.load(pointer), 2 * self.lanes)
        return self._moved_up(self.builder.bitcast(twice, ir.VectorType(WORD, self.lanes)))

    def _moved_up(self, words: Any) -> Any:
        sixteen = ir.Constant(words.type, [16] * self.lanes)
        return self.builder.bitcast(self.builder.shl(words, sixteen), self.sums)


class _Dot(_Arithmetic):
    """Elements of bfloat16, multiplied two and two; columns hold two rows, one beside the other."""

    def __init__(self, builder: ir.IRBuilder, element: Any) -> None:
        super().__init__(builder, element)
        self.per_step = 2

    def columns(self, pointer: Any) -> Any:
        """The columns that begin at a place."""
        return self.load(pointer, ir.VectorType(WORD, self.lanes), 32)

    def factor(self, pointer: Any) -> Any:
        """The two numbers at a place, in every lane."""
        place = self.builder.bitcast(pointer, WORD.as_pointer())
        return self._spread(self.builder.load(place, align=2), self.lanes)

    def multiply_add(self, factor: Any, columns: Any, total: Any) -> Any:
        """total + the sum of both products."""
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        kind = ir.FunctionType(self.sums, [self.sums, factor.type, columns.type])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [total, factor, columns])


class _Tiles:
    """Writes loops over tiles of some vectors of columns."""

    def __init__(self, builder: ir.IRBuilder, arithmetic: _Arithmetic, vectors: int) -> None:
        self.builder, self.arithmetic, self.vectors = builder, arithmetic, vectors

    def heights(self, count: Any, write: Callable[[Any, int], None]) -> None:
        """For m in 0 .. count: `write` a tile that begins at m, as high as still fits."""
        builder = self.builder
        done = cgutils.alloca_once_value(builder, ir.Constant(INT, 0))
        for height in HEIGHTS:
            test = builder.append_basic_block("test")
            body = builder.append_basic_block("body")
            after = builder.append_basic_block("after")
            builder.branch(test)
            builder.position_at_end(test)
            first = builder.load(done)
            behind = builder.add(first, ir.Constant(INT, height))
            builder.cbranch(builder.icmp_signed("<=", behind, count), body, after)
            builder.position_at_end(body)
            write(first, height)
            builder.store(behind, done)
            builder.branch(test)
            builder.position_at_end(after)

    def accumulate(
        self,
        sums: Sequence[Any],
        first: Any,
        last: Any,
        operands: Callable[[Any], tuple[Sequence[Any], Any]],
    ) -> None:
        """sums[r] += sum over k in first .. last (at least one) of left[r] * right[:].

        Args:
            sums: pointer to the columns of each row.
            first: pair of the tile.
            last: pair after the tile.
            operands: from k, a pointer to each row's factor, and one to the columns of the other.
        """
        builder, arithmetic = self.builder, self.arithmetic
        places = [place for pointer in sums for place in self._places(pointer, 1)]
        before = [arithmetic.load(place, arithmetic.sums, arithmetic.sum_bits) for place in places]
        entry, loop = builder.block, builder.append_basic_block("accumulate")
        after = builder.append_basic_block("store")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(INT)
        k.add_incoming(first, entry)
        running = [builder.phi(arithmetic.sums) for _ in before]
        for phi, vector in zip(running, before, strict=True):
            phi.add_incoming(vector, entry)
        left, right = operands(k)
        columns = [arithmetic.columns(place) for place in self._places(right, arithmetic.per_step)]
        totals = []
        for row, pointer in enumerate(left):
            factor = arithmetic.factor(pointer)
            for number, vector in enumerate(columns):
                total = running[row * self.vectors + number]
                totals.append(arithmetic.multiply_add(factor, vector, total))
        following = builder.add(k, ir.Constant(INT, 1))
        k.add_incoming(following, loop)
        for phi, total in zip(running, totals, strict=True):
            phi.add_incoming(total, loop)
        builder.cbranch(builder.icmp_signed("<", following, last), loop, after)
        builder.position_at_end(after)
        for total, place in zip(totals, places, strict=True):
            into = builder.bitcast(place, arithmetic.sums.as_pointer())
            builder.store(total, into, align=arithmetic.sum_bits // 8)

    def _places(self, pointer: Any, per_lane: int) -> list[Any]:
        """Where the vectors of columns begin, with so many elements to a lane."""
        step = self.arithmetic.lanes * per_lane
        steps = [ir.Constant(INT, number * step) for number in range(self.vectors)]
        return [self.builder.gep(pointer, [step]) for step in steps]


def _multiply_pairs(vectors: int) -> Any:
    def multiply_pairs(
        context: Any,
        features: Any,
        source: Any,
        out: Any,
        target: Any,
        count: Any,
        packed: Any,
        slice_: Any,
        place: Any,
        depth: Any,
        begin: Any,
        column: Any,
    ) -> Any:
        def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            number, packed_, slice_, place, depth, begin, column = values[4:]
            inputs = _Rows(context, builder, features, values[0])
            from_row = _Rows(context, builder, source, values[1])
            outputs = _Rows(context, builder, out, values[2])
            to_row = _Rows(context, builder, target, values[3])
            panel = _Rows(context, builder, packed, packed_).at(slice_, place)
            kind = _Dot if features.dtype == BFLOAT16 else _Arithmetic
            arithmetic = kind(builder, features.dtype)
            tiles = _Tiles(builder, arithmetic, vectors)
            numbers = ir.Constant(INT, arithmetic.per_step)
            step = ir.Constant(INT, vectors * arithmetic.lanes * arithmetic.per_step)

            def tile(first: Any, height: int) -> None:
                pairs = [builder.add(first, ir.Constant(INT, r)) for r in range(height)]
                left = [inputs.at(from_row.number(pair), begin) for pair in pairs]
                sums = [outputs.at(to_row.number(pair), column) for pair in pairs]

                def operands(k: Any) -> tuple[list[Any], Any]:
                    channel = builder.mul(k, numbers)
                    factors = [builder.gep(pointer, [channel]) for pointer in left]
                    return factors, builder.gep(panel, [builder.mul(k, step)])

                steps = builder.sdiv(depth, numbers)
                tiles.accumulate(sums, ir.Constant(INT, 0), steps, operands)

            tiles.heights(number, tile)
            return context.get_dummy_value()

        arrays = (features, source, out, target, types.intp, packed)
        return types.void(*arrays, *[types.intp] * 5), write

    return intrinsic(multiply_pairs)


def _add_outer(vectors: int) -> Any:
    def add_outer(
        context: Any,
        left: Any,
        left_rows: Any,
        right: Any,
        right_rows: Any,
        first: Any,
        last: Any,
        total: Any,
        column: Any,
    ) -> Any:
        def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            first, last, total_, column = values[4:]
            one = _Rows(context, builder, left, values[0])
            left_row = _Rows(context, builder, left_rows, values[1])
            other = _Rows(context, builder, right, values[2])
            right_row = _Rows(context, builder, right_rows, values[3])
            sums = _Rows(context, builder, total, total_)
            kind = _Widened if left.dtype == BFLOAT16 else _Arithmetic
            tiles = _Tiles(builder, kind(builder, left.dtype), vectors)

            def tile(channel: Any, height: int) -> None:
                steps = [ir.Constant(INT, r) for r in range(height)]
                places = [sums.at(builder.add(channel, step), column) for step in steps]

                def operands(k: Any) -> tuple[list[Any], Any]:
                    start = one.at(left_row.number(k), channel)
                    factors = [builder.gep(start, [step]) for step in steps]
                    return factors, other.at(right_row.number(k), column)

                tiles.accumulate(places, first, last, operands)

            tiles.heights(one.length, tile)
            return context.get_dummy_value()

        arrays = (left, left_rows, right, right_rows, types.intp, types.intp, total)
        return types.void(*arrays, types.intp), write

    return intrinsic(add_outer)


multiply_pairs_wide = _multiply_pairs(VECTORS)
"""multiply_pairs(features, source, out, target, count, packed, slice, place, depth, begin, column):

out[target[m], column:] += features[source[m], begin : begin + depth] @ panel for m below `count`,
over the columns of a wide tile. The panel, (depth, columns of the tile), begins at
packed[slice, place], row by row. Shapes as in `convolve`; `source` and `target` are (H + 1,) int32.
"""
multiply_pairs_narrow = _multiply_pairs(1)
"""The same over the columns of a narrow tile."""

add_outer_wide = _add_outer(VECTORS)
"""add_outer(left, left_rows, right, right_rows, first, last, total, column):

total[i, column:] += sum of left[left_rows[p], i] * right[right_rows[p], column:] over the pairs
p in first .. last, at least one, for every i, over the columns of a wide tile. `left` is
(V_in, C_in), `right` (H, C_pad), `total` (C_in, C_pad); lists of rows are (H + 1,) int32.
"""
add_outer_narrow = _add_outer(1)
"""The same over the columns of a narrow tile."""


@njit(nogil=True)
def pack_weights(
    weights: Array,
    order: Array,
    transposed_kernel: bool,
    packed: Array,
    n_out: int,
    width: int,
    per_step: int,
    worker: int,
    workers: int,
) -> None:
    """Copy weights[order[k]] into packed[k], panel after panel, each row by row.

    Args:
        weights: (K, C_in, C_out), or (K, C_out, C_in) where `transposed_kernel`.
        order: (K,) int64.
        transposed_kernel: whether each slice is to be transposed.
        packed: (K, C_in * C_pad), written; C_pad is C_out filled up to a multiple of `width`.
        n_out: C_out.
        width: columns of a narrow tile.
        per_step: rows that are interleaved number by number: 2 for bfloat16, 1 for others.
        worker: number of this worker.
        workers: number of workers.
    """
    columns = (n_out + width - 1) // width * width  # C_pad
    n_in = packed.shape[1] // columns
    for k in range(worker, len(order), workers):
        slice_, into = weights[order[k]], packed[k]  # (C_in, C_out) or its transpose, (C_in C_pad,)
        column = 0
        while column < columns:
            wide = VECTORS * width if column + VECTORS * width <= columns else width
            there = min(wide, n_out - column)
            panel = into[n_in * column : n_in * (column + wide)]
            # (C_in / per_step, wide, per_step)
            panel = panel.reshape(n_in // per_step, wide, per_step)
            panel[:, there:] = 0
            for i in range(n_in):
                row = panel[i // per_step, :, i % per_step]  # (wide,)
                if transposed_kernel:
                    row[:there] = slice_[column : column + there, i]
                else:
                    row[:there] = slice_[i, column : column + there]
            column += wide


@njit(nogil=True)
def convolve(
    table: Array,
    absent: int,
    packed: Array,
    features: Array,
    out: Array,
    width: int,
    height: int,
    worker: int,
    workers: int,
) -> None:
    """Write out[u] = sum over k of features[table[k, u]] @ weights[k].

    Args:
        table: (K, V_out) int32 source rows, `absent` where there is none.
        absent: number in the table that stands for no neighbor.
        packed: (K, C_in * C_pad) weights, see `pack_weights`.
        features: (V_in, C_in).
        out: (V_out, C_pad), written.
        width: columns of a narrow tile.
        height: target rows of a block.
        worker: number of this worker.
        workers: number of workers.
    """
    source, target = np.empty(height + 1, np.int32), np.empty(height + 1, np.int32)
    for first in range(worker * height, table.shape[1], workers * height):
        near = table[:, first : min(first + height, table.shape[1])]  # (K, H)
        sums = out[first : first + near.shape[1]]  # (H, C_pad)
        _convolve_block(near, absent, packed, features, sums, width, source, target)


@njit(nogil=True)
def convolve_bfloat16(
    table: Array,
    absent: int,
    packed: Array,
    features: Array,
    out: Array,
    width: int,
    height: int,
    worker: int,
    workers: int,
) -> None:
    """Write what `convolve` does for bfloat16, as bits; the sums of a block are float32.

    Args:
        table: (K, V_out) int32 source rows, `absent` where there is none.
        absent: number in the table that stands for no neighbor.
        packed: (K, C_in * C_pad) uint16 weights, see `pack_weights`.
        features: (V_in, C_in) uint16.
        out: (V_out, C_pad) uint16, written.
        width: columns of a narrow tile.
        height: target rows of a block.
        worker: number of this worker.
        workers: number of workers.
    """
    source, target = np.empty(height + 1, np.int32), np.empty(height + 1, np.int32)
    block = np.empty((height, out.shape[1]), np.float32)
    for first in range(worker * height, table.shape[1], workers * height):
        near = table[:, first : min(first + height, table.shape[1])]  # (K, H)
        sums = block[: near.shape[1]]
        _convolve_block(near, absent, packed, features, sums, width, source, target)
        for row in range(len(sums)):
            for column in range(sums.shape[1]):
                out[first + row, column] = round_to_bfloat16_bits(sums[row, column])


@njit(nogil=True)
def _convolve_block(
    near: Array,
    absent: int,
    packed: Array,
    features: Array,
    sums: Array,
    width: int,
    source: Array,
    target: Array,
) -> None:
    """Write the sums (H, C_pad) of a block of target rows, whose sources `near` (K, H) has."""
    n_in, columns = features.shape[1], sums.shape[1]
    sums[:] = 0
    for k in range(near.shape[0]):
        count = _list_pairs(near[k], absent, source, target)
        column = 0
        while column < columns and count:
            wide = VECTORS * width if column + VECTORS * width <= columns else width
            for begin in range(0, n_in, DEPTH):
                depth = min(DEPTH, n_in - begin)
                place = n_in * column + begin * wide
                rows = (features, source, sums, target, count)
                if wide > width:
                    multiply_pairs_wide(*rows, packed, k, place, depth, begin, column)
                else:
                    multiply_pairs_narrow(*rows, packed, k, place, depth, begin, column)
            column += wide


@njit(nogil=True)
def add_kernel_gradient(
    table: Array,
    absent: int,
    features: Array,
    upstream: Array,
    totals: Array,
    width: int,
    height: int,
    worker: int,
    workers: int,
) -> None:
    """Add the sum over u of features[table[k, u]]^T upstream[u] to totals[worker, k].

    Args:
        table: (K, V_out) int32 rows of `features`, `absent` where there is none.
        absent: number in the table that stands for no neighbor.
        features: (V_in, C_in).
        upstream: (V_out, C_pad).
        totals: (W, K, C_in, C_pad), float32 where the others are bfloat16.
        width: columns of a tile, a multiple of the vector's.
        height: target rows of a block.
        worker: number of this worker.
        workers: number of workers.
    """
    source, target = np.empty(height + 1, np.int32), np.empty(height + 1, np.int32)
    columns, own = upstream.shape[1], totals[worker]  # own: (K, C_in, C_pad)
    for first in range(worker * height, table.shape[1], workers * height):
        near = table[:, first : min(first + height, table.shape[1])]  # (K, H)
        back = upstream[first : first + near.shape[1]]  # (H, C_pad)
        for k in range(table.shape[0]):
            count = _list_pairs(near[k], absent, source, target)
            for begin in range(0, count, PAIRS):
                end = min(begin + PAIRS, count)
                column = 0
                while column < columns:
                    operands = (features, source, back, target, begin, end, own[k], column)
                    if column + VECTORS * width <= columns:
                        add_outer_wide(*operands)
                        column += VECTORS * width
                    else:
                        add_outer_narrow(*operands)
                        column += width


@njit(nogil=True)
def _list_pairs(near: Array, absent: int, source: Array, target: Array) -> int:
    """Write source and target row of each pair into (H + 1,) int32 lists; return their number.

    The lists have one place more than the block has rows, for what is written and not counted.
    """
    count = 0
    for row in range(len(near)):
        source[count] = near[row]
        target[count] = row
        count += near[row] < absent
    return count
