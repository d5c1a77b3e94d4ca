"""The elements of a PLY file as columns of numbers, whatever its encoding."""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.ply_lists import (
    BadRowError,
    TruncatedError,
    split_bytes,
    split_numbers,
)

_LOG = logging.getLogger(__name__)

MAX_HEADER_BYTES = 1 << 20
"""Bytes; a header that has not ended by then is not one."""

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
_BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

Column = np.ndarray[Any, np.dtype[Any]]


class _Property(NamedTuple):
    name: str
    type: str  # NumPy type of a value, in the file's byte order
    count_type: str | None  # of a list's length


class _Element(NamedTuple):
    name: str
    rows: int
    properties: list[_Property]


class ListColumn(NamedTuple):
    """A list property: `lengths` (rows,), `values` one after the other."""

    lengths: Column
    values: Column


Table = dict[str, "Column | ListColumn"]


class PlyContent(NamedTuple):
    """What a PLY file holds."""

    tables: dict[str, Table]
    """For each element its columns by property name."""
    comments: list[str]
    """Lines of the header that begin with comment or obj_info, without that word."""


def read_tables(path: Path, stream: BinaryIO) -> PlyContent:
    """Read every element of a PLY file, and its comments.

    Args:
        path: the file, for messages.
        stream: the same file, opened for reading bytes, at its beginning.

    Raises:
        SceneError: the file is no PLY file, is truncated, or has more rows than it declares.
    """
    order, elements, comments = _read_header(path, stream)
    tables = {element.name: _read_element(path, stream, order, element) for element in elements}
    if elements:
        _require_end(path, stream, order, elements[-1])
    return PlyContent(tables, comments)


def _require_end(path: Path, stream: BinaryIO, order: str, last: _Element) -> None:
    """Refuse further rows, which a header with too small a count would hide; warn of the rest."""
    remaining = os.fstat(stream.fileno()).st_size - stream.tell()
    if remaining == 0 or not stream.read(4096).strip():
        return
    row = sum(np.dtype(prop.type).itemsize for prop in last.properties)
    has_lists = any(prop.count_type for prop in last.properties)
    if not order or has_lists or row == 0 or remaining % row == 0:
        raise SceneError(
            f"{path}: its header declares {last.rows} {last.name} rows, {remaining} bytes follow "
            "them; the header does not fit the file, write it again"
        )
    _LOG.warning("%s: %d bytes after the last %s row are ignored", path, remaining, last.name)


def _read_header(path: Path, stream: BinaryIO) -> tuple[str, list[_Element], list[str]]:
    if stream.readline(16).removeprefix(BOM_UTF8).strip() != b"ply":
        raise SceneError(f"{path}: does not begin with 'ply', expected a PLY file")
    order: str | None = None
    elements: list[_Element] = []
    comments: list[str] = []
    while True:
        raw = stream.readline(MAX_HEADER_BYTES)
        if not raw.endswith(b"\n") or stream.tell() > MAX_HEADER_BYTES:
            raise SceneError(f"{path}: its header has no 'end_header' line; the file is truncated")
        line = raw.decode("ascii", errors="replace").strip()
        words = line.split()
        if not words:
            continue
        if words[0] in ("comment", "obj_info"):
            comments.append(" ".join(words[1:]))
            continue
        if words == ["end_header"]:
            break
        if words[0] == "format" and len(words) == 3 and words[1] in _BYTE_ORDERS:
            order = _BYTE_ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal():
            if any(element.name == words[1] for element in elements):
                raise SceneError(f"{path}: its header declares '{words[1]}' twice; write it again")
            elements.append(_Element(words[1], _count(words[2]), []))
        elif words[0] == "property" and elements and order is not None:
            elements[-1].properties.append(_property(path, line, words, order, elements[-1]))
        else:
            raise SceneError(
                f"{path}: its header has the line '{line[:80]}', expected a format, element or "
                "property of PLY 1.0; write the file again"
            )
    if order is None:
        raise SceneError(f"{path}: its header names no known format; write the file again")
    return order, elements, comments


def _count(digits: str) -> int:
    return int(digits[:20])  # more digits than any file has bytes


def _property(path: Path, line: str, words: list[str], order: str, element: _Element) -> _Property:
    byte_order = order or "="
    if len(words) == 3 and words[1] in _TYPES:
        found = _Property(words[2], byte_order + _TYPES[words[1]], None)
    elif (
        len(words) == 5
        and words[1] == "list"
        and _TYPES.get(words[2], "f")[0] != "f"
        and words[3] in _TYPES
    ):
        count_type = byte_order + _TYPES[words[2]]
        found = _Property(words[4], byte_order + _TYPES[words[3]], count_type)
    else:
        raise SceneError(
            f"{path}: its header has the line '{line[:80]}', expected "
            "'property TYPE NAME' or 'property list TYPE TYPE NAME'; write the file again"
        )
    if any(known.name == found.name for known in element.properties):
        raise SceneError(f"{path}: {element.name} has '{found.name}' twice; write the file again")
    return found


def _read_element(path: Path, stream: BinaryIO, order: str, element: _Element) -> Table:
    if not element.properties or element.rows == 0:
        return {prop.name: _nothing(prop) for prop in element.properties}
    remaining = os.fstat(stream.fileno()).st_size - stream.tell()
    if order:
        smallest = sum(np.dtype(p.count_type or p.type).itemsize for p in element.properties)
        needed = element.rows * smallest
    else:
        needed = element.rows * 2 * len(element.properties) - 1  # a digit and a blank each
    if needed > remaining:
        raise _truncated(path, element, remaining)
    if not order:
        return _read_ascii(path, stream, element)
    if any(prop.count_type for prop in element.properties):
        return _read_binary_lists(path, stream, element, remaining)
    row = np.dtype([(prop.name, prop.type) for prop in element.properties])
    rows = np.fromfile(stream, dtype=row, count=element.rows)
    return {prop.name: rows[prop.name] for prop in element.properties}


def _nothing(prop: _Property) -> Column | ListColumn:
    empty = np.empty(0, dtype=prop.type)
    return empty if prop.count_type is None else ListColumn(np.empty(0, dtype=np.int64), empty)


def _truncated(path: Path, element: _Element, remaining: int) -> SceneError:
    return SceneError(
        f"{path}: its header declares {element.rows} {element.name} rows, the {remaining} bytes "
        "that follow hold fewer; the file is truncated or its header wrong, write it again"
    )


def _read_binary_lists(path: Path, stream: BinaryIO, element: _Element, remaining: int) -> Table:
    start = stream.tell()
    lengths = _first_lengths(stream, element)
    stream.seek(start)
    if lengths is not None:
        row = np.dtype(
            [
                entry
                for prop, length in zip(element.properties, lengths, strict=True)
                for entry in _row_entries(prop, length)
            ]
        )
        if element.rows * row.itemsize <= remaining:
            rows = np.fromfile(stream, dtype=row, count=element.rows)
            if all(
                prop.count_type is None or (rows[f"{prop.name}\n"] == length).all()
                for prop, length in zip(element.properties, lengths, strict=True)
            ):
                return {
                    prop.name: rows[prop.name]
                    if prop.count_type is None
                    else ListColumn(
                        np.full(element.rows, length, dtype=np.int64),
                        rows[prop.name].reshape(-1),
                    )
                    for prop, length in zip(element.properties, lengths, strict=True)
                }
            stream.seek(start)
    return _read_uneven(path, stream, element, remaining)


def _row_entries(prop: _Property, length: int) -> list[tuple[str, str, int] | tuple[str, str]]:
    if prop.count_type is None:
        return [(prop.name, prop.type)]
    # no property has a line break in its name, so the list's own name stays free
    return [(f"{prop.name}\n", prop.count_type), (prop.name, f"({length},){prop.type}")]


def _first_lengths(stream: BinaryIO, element: _Element) -> list[int] | None:
    """Lengths of the lists of the first row; None where they cannot all be as long."""
    lengths = []
    for prop in element.properties:
        length = 1
        if prop.count_type is not None:
            head = stream.read(np.dtype(prop.count_type).itemsize)
            if len(head) < np.dtype(prop.count_type).itemsize:
                return None
            length = int(np.frombuffer(head, dtype=prop.count_type)[0])
        if not 0 <= length <= 1024:
            return None
        stream.seek(length * np.dtype(prop.type).itemsize, os.SEEK_CUR)
        lengths.append(length)
    return lengths


def _read_uneven(path: Path, stream: BinaryIO, element: _Element, remaining: int) -> Table:
    """Rows whose lists differ in length."""
    start = stream.tell()
    content = np.fromfile(stream, dtype=np.uint8, count=remaining)
    properties = element.properties
    try:
        split, size = split_bytes(
            content, element.rows, [p.type for p in properties], [p.count_type for p in properties]
        )
    except TruncatedError:
        raise _truncated(path, element, remaining) from None
    except BadRowError as error:
        raise SceneError(
            f"{path}: a list of {element.name} {error}; the file is damaged, write it again"
        ) from error
    stream.seek(start + size)
    return _table(element, split.values, split.lengths)


def _table(element: _Element, values: Sequence[Column], lengths: Sequence[Column | None]) -> Table:
    return {
        prop.name: column if counted is None else ListColumn(counted, column)
        for prop, column, counted in zip(element.properties, values, lengths, strict=True)
    }


def _read_ascii(path: Path, stream: BinaryIO, element: _Element) -> Table:
    remaining = os.fstat(stream.fileno()).st_size - stream.tell()
    lines = list(itertools.islice(stream, element.rows))
    if len(lines) < element.rows:
        raise _truncated(path, element, remaining)
    if any(prop.count_type for prop in element.properties):
        return _read_text_lists(path, lines, element)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lines without content, refused below
            rows = np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None, encoding="latin-1")
    except ValueError:
        raise _bad_row(path, element) from None
    if rows.shape != (element.rows, len(element.properties)):
        raise _bad_row(path, element)
    return {
        prop.name: _cast(path, rows[:, axis], prop) for axis, prop in enumerate(element.properties)
    }


def _read_text_lists(path: Path, lines: list[bytes], element: _Element) -> Table:
    starts = np.zeros(len(lines) + 1, dtype=np.int64)
    starts[1:] = np.cumsum([len(line.split()) for line in lines])
    try:
        with warnings.catch_warnings():  # older NumPy only warns of words that are no numbers
            warnings.simplefilter("ignore")
            numbers = np.fromstring(b"".join(lines), dtype=np.float64, sep=" ")
    except ValueError:
        raise _bad_row(path, element) from None
    if len(numbers) != starts[-1]:
        raise _bad_row(path, element)
    try:
        split = split_numbers(
            numbers, starts, [p.count_type is not None for p in element.properties]
        )
    except BadRowError:
        raise _bad_row(path, element) from None
    values = [
        _cast(path, column, prop)
        for column, prop in zip(split.values, element.properties, strict=True)
    ]
    return _table(element, values, split.lengths)


def _bad_row(path: Path, element: _Element) -> SceneError:
    names = " ".join(prop.name for prop in element.properties)
    return SceneError(
        f"{path}: a {element.name} row is not the numbers '{names}' its header declares; "
        "the file is damaged or truncated, write it again"
    )


def _cast(path: Path, values: Column, prop: _Property) -> Column:
    kind = np.dtype(prop.type)
    if kind.kind != "f":
        limits = np.iinfo(kind)
        if not ((values >= limits.min) & (values <= limits.max) & (values % 1 == 0)).all():
            raise SceneError(
                f"{path}: '{prop.name}' has a number that is no {kind.name}, as its header "
                "declares; write the file again"
            )
    with np.errstate(over="ignore"):  # too large for the declared float: infinity, refused later
        return values.astype(kind)
