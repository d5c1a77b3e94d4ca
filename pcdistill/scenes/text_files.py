"""Small text and JSON files of a scan, or one sentence that says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pcdistill.errors import SceneError

LARGEST_TEXT = 64 << 20
"""Bytes; the text files of scans are far smaller."""


def read_text(path: Path, what: str, *, largest: int = LARGEST_TEXT) -> str:
    """A text file of a scan.

    Args:
        path: a UTF-8 file.
        what: what it should hold, for messages.
        largest: bytes it may have.

    Raises:
        SceneError: the file is missing, too large, or no text.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise SceneError(
            f"{path}: cannot be read ({error.strerror or error}), expected {what}; restore the file"
        ) from error
    if len(content) > largest:
        raise SceneError(
            f"{path}: has more than {largest} bytes, expected {what}; restore the original file"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SceneError(
            f"{path}: is no text (byte {error.start} is not UTF-8), expected {what}; "
            "restore the original file"
        ) from error
    if "\0" in text:
        raise SceneError(f"{path}: holds zero bytes, expected {what}; restore the original file")
    return text


def read_json(path: Path, what: str, *, largest: int = LARGEST_TEXT) -> dict[str, Any]:
    """A JSON object of a scan.

    Args:
        path: a UTF-8 file.
        what: what it should hold, for messages.
        largest: bytes it may have.

    Raises:
        SceneError: the file is missing, too large, damaged, or holds something else.
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


def numbers_of(where: str, words: list[str], count: int) -> list[float]:
    """Numbers of one line of text; they may be infinite or NaN.

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
        return [float(word) for word in words]
    except ValueError as error:
        raise SceneError(
            f"{where}: has a word that is no number ({str(error)[:80]}), expected {count} numbers; "
            "the file is damaged, restore it"
        ) from error
