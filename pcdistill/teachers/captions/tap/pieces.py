"""Pieces of words of a SentencePiece model, which token ids stand for.

Only decoding is needed, and only this of the file: a message of Protocol Buffers whose fields 1 are
the pieces, each with its text in field 1 and its kind in field 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pcdistill.atomic_io import require_readable
from pcdistill.errors import ArtifactError, UnreadableError, file_trouble

_CONTROL, _BYTE = 3, 6
_BLANK = "\u2581"
_UNKNOWN = 2
"""Kind of the piece that stands for what is in no piece."""
_UNKNOWN_TEXT = " \u2047 "


class Piece(NamedTuple):
    """What one token stands for."""

    text: str
    kind: int


class WordPieces:
    """Token ids to text."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Take the pieces in the order of their ids."""
        self._pieces = tuple(pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids; control tokens are left out."""
        raw = bytearray()
        for token in tokens:
            text, kind = self._pieces[token]
            if kind == _BYTE:  # "<0x41>"
                raw.append(int(text[1:-1], 16))
            elif kind == _UNKNOWN:
                raw += _UNKNOWN_TEXT.encode()
            elif kind != _CONTROL:
                raw += text.encode()
        return raw.decode(errors="replace").replace(_BLANK, " ").removeprefix(" ")


def load_word_pieces(path: Path) -> WordPieces:
    """Read the pieces of a SentencePiece model.

    Raises:
        ArtifactError: it is no such file.
        UnreadableError: it cannot be read.
    """
    try:
        require_readable(path)
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    try:
        pieces = [_piece(value) for number, value in _fields(content) if number == 1]
    except (ValueError, IndexError):
        pieces = []
    if not pieces:
        raise ArtifactError(
            f"{path}: found no pieces of words, expected a SentencePiece model; fetch it again"
        )
    return WordPieces(pieces)


def _piece(content: bytes | int) -> Piece:
    if isinstance(content, int):
        raise ValueError("a piece is a message")
    found = dict(_fields(content))
    text, kind = found.get(1, b""), found.get(3, 1)
    if isinstance(text, int) or not isinstance(kind, int):
        raise ValueError("fields of another type")
    return Piece(text.decode(), kind)


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a message: bytes as such, whole numbers as int."""
    place = 0
    while place < len(content):
        key, place = _whole_number(content, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _whole_number(content, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _whole_number(content, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + size > len(content):
            raise ValueError("truncated")
        yield number, content[place : place + size]
        place += size


def _whole_number(content: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place behind it."""
    value, shift = 0, 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("number of more than 64 bits")
