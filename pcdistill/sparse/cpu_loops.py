# mypy: disable-error-code="no-untyped-call"
"""A sparse convolution on the CPU: compiled loops that keep their sums in vector registers.

A block of target rows is done offset by offset: its pairs are read off the neighbour table, and
tiles of pairs are multiplied and added. A tile is some rows times one or two vectors of columns;
its sums stay in registers while all channels (or, for the gradient of the weights, all pairs) pass
by. Nothing is gathered into a copy: rows are read, and written, where they are. The order of every
sum is fixed.

Numba's own code for such loops would keep the sums in memory, so the tiles are written down as
vector operations for LLVM, which numba compiles for the processor at hand. (All is in one file
because numba's cache on disk notices changes of the file that holds a function, not of others.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]

INT = ir.IntType(64)
REAL = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}

DEPTH = 192
"""Input channels at a time, so that their panel of weights fits the nearest cache."""
PAIRS = 64
"""Pairs at a time in the gradient of the weights, so that their rows fit the nearest cache."""


def _vector_bytes() -> int:
    features = binding.get_host_cpu_features()
    return next((size for name, size in (("avx512f", 64), ("avx2", 32)) if features.get(name)), 16)


VECTOR_BYTES = _vector_bytes()
"""Width of the vector registers that are used."""
VECTORS = 2
"""Vectors of columns in a wide tile; a narrow one has one."""
HEIGHTS = (6, 4, 2, 1) if VECTOR_BYTES == 32 else (8, 4, 2, 1)
"""Rows of the tiles. The tallest has as many sums as there are registers for (16 with AVX2)."""


class _Rows:
    """Where the rows of an array lie; one of a single dimension is one row, or a list of rows."""

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


class _Tiles:
    """Writes loops over tiles of one element type and a number of vectors."""

    def __init__(self, builder: ir.IRBuilder, element: Any, vectors: int) -> None:
        self.builder, self.vectors = builder, vectors
        self.width = VECTOR_BYTES * 8 // element.bitwidth
        self.element = REAL[element]
        self.vector = ir.VectorType(self.element, self.width)
        name = f"llvm.fma.v{self.width}f{element.bitwidth}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self._multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)

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
            first, last: range of k.
            operands: from k, a pointer to each row's factor, and one to the columns of the other.
        """
        builder = self.builder
        before = [vector for row in sums for vector in self._load(row)]
        entry, loop = builder.block, builder.append_basic_block("accumulate")
        after = builder.append_basic_block("store")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(INT)
        k.add_incoming(first, entry)
        running = [builder.phi(self.vector) for _ in before]
        for phi, vector in zip(running, before, strict=True):
            phi.add_incoming(vector, entry)
        left, right = operands(k)
        columns = self._load(right)
        added = []
        for row, factor in enumerate(left):
            spread = self._spread(builder.load(factor))
            for number, vector in enumerate(columns):
                total = running[row * self.vectors + number]
                added.append(builder.call(self._multiply_add, [spread, vector, total]))
        following = builder.add(k, ir.Constant(INT, 1))
        k.add_incoming(following, loop)
        for phi, total in zip(running, added, strict=True):
            phi.add_incoming(total, loop)
        builder.cbranch(builder.icmp_signed("<", following, last), loop, after)
        builder.position_at_end(after)
        for row, pointer in enumerate(sums):
            for number, place in enumerate(self._places(pointer)):
                builder.store(added[row * self.vectors + number], place, align=self._align)

    @property
    def _align(self) -> int:
        return int(VECTOR_BYTES // self.width)  # of an element: rows begin anywhere

    def _places(self, pointer: Any) -> list[Any]:
        steps = [ir.Constant(INT, number * self.width) for number in range(self.vectors)]
        places = [self.builder.gep(pointer, [step]) for step in steps]
        return [self.builder.bitcast(place, self.vector.as_pointer()) for place in places]

    def _load(self, pointer: Any) -> list[Any]:
        return [self.builder.load(place, align=self._align) for place in self._places(pointer)]

    def _spread(self, number: Any) -> Any:
        nothing = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, nothing, zeros)


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
            tiles = _Tiles(builder, features.dtype, vectors)
            step = ir.Constant(INT, vectors * tiles.width)

            def tile(first: Any, height: int) -> None:
                pairs = [builder.add(first, ir.Constant(INT, r)) for r in range(height)]
                left = [inputs.at(from_row.number(pair), begin) for pair in pairs]
                sums = [outputs.at(to_row.number(pair), column) for pair in pairs]

                def operands(k: Any) -> tuple[list[Any], Any]:
                    factors = [builder.gep(pointer, [k]) for pointer in left]
                    return factors, builder.gep(panel, [builder.mul(k, step)])

                tiles.accumulate(sums, ir.Constant(INT, 0), depth, operands)

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
            tiles = _Tiles(builder, left.dtype, vectors)

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
over the columns of a wide tile; the panel lies row by row in packed[slice, place:].
"""
multiply_pairs_narrow = _multiply_pairs(1)
"""The same over the columns of a narrow tile."""

add_outer_wide = _add_outer(VECTORS)
"""add_outer(left, left_rows, right, right_rows, first, last, total, column):

total[i, column:] += sum of left[left_rows[p], i] * right[right_rows[p], column:] over the pairs
p in first .. last, at least one, for every i, over the columns of a wide tile.
"""
add_outer_narrow = _add_outer(1)
"""The same over the columns of a narrow tile."""


@numba.njit(nogil=True, cache=True)
def pack(
    weights: Array,
    order: Array,
    turned: bool,
    packed: Array,
    n_out: int,
    width: int,
    worker: int,
    workers: int,
) -> None:
    """Copy weights[order[k]] into packed[k], panel after panel, each row by row.

    Args:
        weights: (K, C_in, C_out), or (K, C_out, C_in) where `turned`.
        order: (K,) int64.
        turned: whether each slice is to be transposed.
        packed: (K, C_in * columns), columns being C_out filled up to a multiple of `width`.
        n_out: C_out.
        width: columns of a narrow tile.
        worker, workers: which share is done here.
    """
    columns = (n_out + width - 1) // width * width
    n_in = packed.shape[1] // columns
    for k in range(worker, len(order), workers):
        slice_, into = weights[order[k]], packed[k]
        column = 0
        while column < columns:
            wide = VECTORS * width if column + VECTORS * width <= columns else width
            there = min(wide, n_out - column)
            panel = into[n_in * column : n_in * (column + wide)].reshape(n_in, wide)
            panel[:, there:] = 0
            if turned:
                for j in range(there):
                    panel[:, j] = slice_[column + j]
            else:
                for i in range(n_in):
                    panel[i, :there] = slice_[i, column : column + there]
            column += wide


@numba.njit(nogil=True, cache=True)
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
    """out[u] = sum over k of features[table[k, u]] @ weights[k].

    Args:
        table: (K, n_target) int32 source rows, `absent` where there is none.
        packed: the weights, see `pack`.
        features: (n_source, C_in).
        out: (n_target, columns).
        width: columns of a narrow tile.
        height: target rows of a block.
        worker, workers: which share is done here.
    """
    source, target = np.empty(height + 1, np.int32), np.empty(height + 1, np.int32)
    n_in, columns = features.shape[1], out.shape[1]
    for first in range(worker * height, table.shape[1], workers * height):
        last = min(first + height, table.shape[1])
        out[first:last] = 0
        for k in range(table.shape[0]):
            count = _list_pairs(table[k], absent, first, last, source, target)
            column = 0
            while column < columns and count:
                wide = VECTORS * width if column + VECTORS * width <= columns else width
                for begin in range(0, n_in, DEPTH):
                    depth = min(DEPTH, n_in - begin)
                    place = n_in * column + begin * wide
                    rows = (features, source, out, target, count)
                    if wide > width:
                        multiply_pairs_wide(*rows, packed, k, place, depth, begin, column)
                    else:
                        multiply_pairs_narrow(*rows, packed, k, place, depth, begin, column)
                column += wide


@numba.njit(nogil=True, cache=True)
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
    """totals[k] += sum over u of features[table[k, u]]^T upstream[u].

    Args:
        table: (K, n_target) int32 rows of `features`, `absent` where there is none.
        features: (n_source, C_in).
        upstream: (n_target, columns).
        totals: (K, C_in, columns).
        width, height, worker, workers: see `convolve`.
    """
    source, target = np.empty(height + 1, np.int32), np.empty(height + 1, np.int32)
    columns = upstream.shape[1]
    for first in range(worker * height, table.shape[1], workers * height):
        last = min(first + height, table.shape[1])
        for k in range(table.shape[0]):
            count = _list_pairs(table[k], absent, first, last, source, target)
            for begin in range(0, count, PAIRS):
                end = min(begin + PAIRS, count)
                column = 0
                while column < columns:
                    operands = (features, source, upstream, target, begin, end, totals[k], column)
                    if column + VECTORS * width <= columns:
                        add_outer_wide(*operands)
                        column += VECTORS * width
                    else:
                        add_outer_narrow(*operands)
                        column += width


@numba.njit(nogil=True, cache=True)
def _list_pairs(
    neighbours: Array, absent: int, first: int, last: int, source: Array, target: Array
) -> int:
    """Write down source and target row wherever there is a source; return how many."""
    count = 0
    for row in range(first, last):
        source[count] = neighbours[row]
        target[count] = row
        count += neighbours[row] < absent
    return count
