"""Rows of numbers with lists of different lengths, split into columns by compiled loops.

Two passes over the rows: the first finds how long everything is, the second copies it, so that
memory is that of the rows and of their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pcdistill.jit import njit

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float64]
_Column = np.ndarray[Any, np.dtype[Any]]


class BadRowError(Exception):
    """A row that is not what its properties say."""


class TruncatedError(Exception):
    """Fewer bytes than the rows need."""


class Split(NamedTuple):
    """The columns of some rows."""

    values: list[_Column]
    """Of each property, all values one after the other."""
    lengths: list[_Ints | None]
    """(rows,) of each list; None of a property that is a single number."""


def split_bytes(
    content: _Bytes, rows: int, types: Sequence[str], count_types: Sequence[str | None]
) -> tuple[Split, int]:
    """Split binary rows.

    Args:
        content: the rows and whatever follows them.
        rows: how many.
        types: NumPy type of each property's values, with byte order.
        count_types: of a list's length, an integer; None of a property that is a single number.

    Returns:
        The columns, and how many bytes the rows took.

    Raises:
        TruncatedError: the content ends before the rows do.
        BadRowError: a list has a length below zero.
    """
    sizes = np.array([np.dtype(kind).itemsize for kind in types])
    heads = [None if kind is None else np.dtype(kind) for kind in count_types]
    head_sizes = np.array([0 if head is None else head.itemsize for head in heads])
    signed = np.array([head is not None and head.kind == "i" for head in heads])
    big = any(kind[0] == ">" for kind in types)
    lengths = np.ones((int((head_sizes > 0).sum()), rows), dtype=np.int64)
    totals = np.zeros(len(sizes), dtype=np.int64)
    end = int(_measure(content, rows, sizes, head_sizes, signed, big, lengths, totals))
    if end == -1:
        raise TruncatedError
    if end == -2:
        raise BadRowError(f"has length {lengths.min()}")
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    starts[1:] = np.cumsum(-(-totals * sizes // 8) * 8)  # aligned, for whoever reads them
    out = np.empty(starts[-1], dtype=np.uint8)
    _copy_bytes(content, rows, sizes, head_sizes, lengths, out, starts[:-1].copy())
    values = [
        out[start : start + total * size].view(kind)
        for start, total, size, kind in zip(
            starts.tolist(), totals.tolist(), sizes.tolist(), types, strict=False
        )
    ]
    return Split(values, _of_lists(lengths, head_sizes)), end


def split_numbers(numbers: _Floats, starts: _Ints, is_list: Sequence[bool]) -> Split:
    """Split rows of numbers in which each list follows its length.

    Args:
        numbers: all rows, one after the other.
        starts: (rows + 1,) where each begins, and the end.
        is_list: of each property.

    Raises:
        BadRowError: a row has more or fewer numbers than its lists say.
    """
    lists = np.array(is_list, dtype=np.bool_)
    rows = len(starts) - 1
    lengths = np.ones((int(lists.sum()), rows), dtype=np.int64)
    totals = np.zeros(len(lists), dtype=np.int64)
    if not _count_numbers(numbers, starts, lists, lengths, totals):
        raise BadRowError
    ends = np.cumsum(totals)
    out = np.empty(int(ends[-1]) if len(ends) else 0)
    _copy_numbers(numbers, starts, lists, lengths, out, ends - totals)
    return Split(np.split(out, ends[:-1]), _of_lists(lengths, lists))


def _of_lists(lengths: _Ints, lists: _Column) -> list[_Ints | None]:
    rows = iter(lengths)
    return [next(rows) if is_list else None for is_list in lists]


@njit()
def _measure(content, rows, sizes, head_sizes, signed, big, lengths, totals):  # type: ignore[no-untyped-def]
    """Where the rows end; -1 where the content ends before, -2 where a length is below zero."""
    position = 0
    for row in range(rows):
        place = 0
        for column in range(len(sizes)):
            length = 1
            head = head_sizes[column]
            if head > 0:
                if position + head > content.size:
                    return -1
                length = 0
                for i in range(head):
                    at = position + i if big else position + head - 1 - i
                    length = (length << 8) | int(content[at])
                if signed[column] and length >= 1 << (8 * head - 1):
                    length -= 1 << (8 * head)
                position += head
                lengths[place, row] = length
                place += 1
                if length < 0:
                    return -2
            if length > (content.size - position) // sizes[column]:
                return -1
            position += length * sizes[column]
            totals[column] += length
    return position


@njit()
def _copy_bytes(content, rows, sizes, head_sizes, lengths, out, places):  # type: ignore[no-untyped-def]
    position = 0
    for row in range(rows):
        place = 0
        for column in range(len(sizes)):
            count = sizes[column]
            if head_sizes[column] > 0:
                position += head_sizes[column]
                count *= lengths[place, row]
                place += 1
            for i in range(count):
                out[places[column] + i] = content[position + i]
            places[column] += count
            position += count


@njit()
def _count_numbers(numbers, starts, lists, lengths, totals):  # type: ignore[no-untyped-def]
    """Whether every row has as many numbers as its lists say."""
    for row in range(len(starts) - 1):
        position, end = starts[row], starts[row + 1]
        place = 0
        for column in range(len(lists)):
            length = 1
            if lists[column]:
                if position >= end:
                    return False
                number = numbers[position]
                if not 0 <= number <= end - position or number != np.floor(number):
                    return False
                length = int(number)
                position += 1
                lengths[place, row] = length
                place += 1
            position += length
            totals[column] += length
        if position != end:
            return False
    return True


@njit()
def _copy_numbers(numbers, starts, lists, lengths, out, places):  # type: ignore[no-untyped-def]
    for row in range(len(starts) - 1):
        position = starts[row]
        place = 0
        for column in range(len(lists)):
            length = 1
            if lists[column]:
                position += 1
                length = lengths[place, row]
                place += 1
            for i in range(length):
                out[places[column] + i] = numbers[position + i]
            places[column] += length
            position += length
