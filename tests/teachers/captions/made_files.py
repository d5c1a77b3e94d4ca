"""Files in the layouts of a release, made of little."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def whole_number(value: int) -> bytes:
    """A number as Protocol Buffers write it."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def write_pieces(path: Path, pieces: Sequence[tuple[str, int]]) -> None:
    """A SentencePiece model of (text, kind), with a score each and settings behind them."""
    content = bytearray()
    for text, kind in pieces:
        raw = text.encode()
        piece = b"\x0a" + whole_number(len(raw)) + raw + b"\x15\x00\x00\x00\x00"
        piece += b"" if kind == 1 else b"\x18" + whole_number(kind)
        content += b"\x0a" + whole_number(len(piece)) + piece
    path.write_bytes(bytes(content) + b"\x12\x02\x18\x01")


def write_vocabulary(path: Path, size: int) -> None:
    """A SentencePiece model of `size` pieces, in which token n > 2 is the word "w" and n."""
    own = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    write_pieces(path, [*own, *((f"\u2581w{number}", 1) for number in range(3, size))])


def write_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    """A pickle of arrays by name in half precision, as TAP is published."""
    halves = {
        key: value.astype(np.float16) if value.dtype == np.float32 else value
        for key, value in weights.items()
    }
    path.write_bytes(pickle.dumps(halves))
