"""Text, tables of numbers and JSON files of a scan, in the disguises that tools give them.

A byte-order mark, UTF-16, the line ends of any system, blanks and empty lines, comments after `#`,
fields divided by blanks, commas or semicolons, and decimal commas mean what they meant to whoever
wrote the file. What cannot be understood is refused in one sentence.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pcdistill.errors import SceneError
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded

MAX_TEXT_BYTES = 64 << 20
"""Bytes; the text files of scans are far smaller."""
MAX_NUMBERS = 1 << 16
"""Bytes of a file with one matrix or one camera."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
_NUMERIC = re.compile(r"[-+0-9.,eE]*[0-9][-+0-9.,eE]*")
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+(?:[eE][-+]?[0-9]+)?")


def read_text(path: Path, what: str, *, largest: int = MAX_TEXT_BYTES) -> str:
    """Read a text file of a scan.

    Args:
        path: a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark.
        what: what it should hold, for messages.
        largest: bytes it may have.

    Returns:
        Its text without the mark, every line ended by a line feed.

    Raises:
        SceneError: the file is missing, cannot be read, is too large, or no text.
    """
    content = _read_bytes(path, what, largest)
    try:
        text = _decoded(content)
    except UnicodeDecodeError as error:
        raise SceneError(
            f"{path}: is no text (byte {error.start} is not {error.encoding.upper()}), expected "
            f"{what}; restore the original file, or save it as UTF-8"
        ) from error
    if "\0" in text:
        raise SceneError(
            f"{path}: holds zero bytes, expected {what}; restore the original file, or save it as "
            "UTF-8"
        )
    return text


def _read_bytes(path: Path, what: str, largest: int) -> bytes:
    try:
        content = read_bounded(path, largest)
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}), expected {what}; restore the file"
        ) from error
    if content is None:
        raise SceneError(
            f"{path}: has more than {raised(largest)} bytes, expected {what}; restore the original "
            f"file, or, {HOW_TO_RAISE}"
        )
    return content


def _decoded(content: bytes, errors: str = "strict") -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    text = content.decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, what: str, *, largest: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """Read a JSON object of a scan.

    Args:
        path: a text file, see `read_text`.
        what: what it should hold, for messages.
        largest: bytes it may have.

    Raises:
        SceneError: the file is missing, cannot be read, is too large, damaged, or holds something
            else.
    """
    text = read_text(path, what, largest=largest)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0][:80]
        raise SceneError(
            f"{path}: is no readable JSON ({reason}), expected {what}; it is damaged or truncated, "
            "restore the original file"
        ) from error
    if not isinstance(content, dict):
        raise SceneError(
            f"{path}: holds a {type(content).__name__}, expected an object with {what}; "
            "restore the original file"
        )
    return content


def read_rows(
    path: Path, what: str, *, largest: int = MAX_TEXT_BYTES
) -> list[tuple[int, list[str]]]:
    """The lines of a table that hold something: the number of each, from 1, and its fields.

    Args:
        path: a text file, see `read_text`.
        what: what it should hold, for messages.
        largest: bytes it may have.

    Returns:
        Fields of numbers have a decimal point, whatever the file has.

    Raises:
        SceneError: the file is missing, cannot be read, is too large, or no text.
    """
    return _rows(read_text(path, what, largest=largest))


def _rows(text: str) -> list[tuple[int, list[str]]]:
    lines = [_COMMENT.sub("", line).strip() for line in text.split("\n")]
    return [(number, row) for number, row in enumerate(split_fields(lines), start=1) if row]


def split_fields(lines: Sequence[str]) -> list[list[str]]:
    """The fields of each line of one table.

    A comma is a decimal comma where semicolons divide the fields, or where blanks do and no number
    has a point; else it divides. All lines are looked at before one is divided.

    Args:
        lines: without comments and line ends.
    """
    decimal = _has_decimal_commas(lines)
    return [_fields(line, decimal) for line in lines]


def _has_decimal_commas(lines: Iterable[str]) -> bool:
    seen = divided = False
    for line in lines:
        if "," not in line and "." not in line:
            continue
        words = line.replace(";", " ").split()
        for word in words:
            if "," in word and not _DECIMAL_COMMA.fullmatch(word):
                return False
            if "." in word and _NUMERIC.fullmatch(word):
                return False
            seen |= "," in word
        divided |= "," in line and len(words) > 1
    return seen and divided


def _fields(line: str, decimal: bool) -> list[str]:
    if not decimal:
        return line.replace(",", " ").replace(";", " ").split()
    words = line.replace(";", " ").split()
    return [word.replace(",", ".") if _DECIMAL_COMMA.fullmatch(word) else word for word in words]


def parse_numbers(where: str, words: list[str], count: int) -> list[float]:
    """Parse the numbers of one line of text; they may be infinite or NaN.

    Args:
        where: file and line, for messages.
        words: the line's words.
        count: how many numbers are expected.

    Raises:
        SceneError: there are fewer or more, or a word is no number.
    """
    if len(words) != count:
        raise SceneError(
            f"{where}: has {len(words)} numbers, expected {count}; "
            "the file is damaged or truncated, restore it"
        )
    try:
        return [number_of(word) for word in words]
    except ValueError as error:
        raise SceneError(
            f"{where}: has a word that is no number ({str(error)[:80]}), expected {count} numbers; "
            "the file is damaged, restore it"
        ) from error


def number_of(word: str) -> float:
    """The number that a word writes, perhaps infinite or NaN.

    Raises:
        ValueError: it is none; unlike Python, files do not write 1000 as 1_000.
    """
    if "_" in word:
        raise ValueError(f"'{word[:40]}' is no number")
    return float(word)


def read_numbers(path: Path, shapes: str, *, largest: int = MAX_NUMBERS) -> list[float]:
    """All numbers of a small text file, row by row; they may be infinite or NaN.

    Args:
        path: a text file, see `read_text`.
        shapes: what the numbers should form, for messages.
        largest: bytes it may have.

    Raises:
        SceneError: the file is missing, cannot be read, is too large, or holds something else.
    """
    text = _decoded(_read_bytes(path, shapes, largest), "replace")
    try:
        return [number_of(word) for _, words in _rows(text) for word in words]
    except ValueError as error:
        raise SceneError(
            f"{path}: is not a matrix of numbers ({str(error)[:80]}), expected {shapes}; "
            "write it as text, row by row"
        ) from error


def stream_lines(path: Path, what: str) -> Iterator[str]:
    """The lines of a text file that may be too large to be held at once, without their ends.

    Args:
        path: a text file, see `read_text`.
        what: what it should hold, for messages.

    Raises:
        SceneError: the file is missing, cannot be read, or is no text.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
        with path.open(encoding=encoding, errors="replace") as text:  # names may be in any encoding
            while line := text.readline(MAX_TEXT_BYTES):
                yield line.rstrip("\n")
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}), expected {what}; restore the file"
        ) from error
    except UnicodeError as error:  # UTF-16 that ends within a letter
        raise SceneError(
            f"{path}: is no text ({str(error)[:80]}), expected {what}; restore the original file, "
            "or save it as UTF-8"
        ) from error
