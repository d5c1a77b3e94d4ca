"""Ways in which a file comes out wrong, drawn by hypothesis."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

HEAD = 400
"""Bytes at the beginning, where counts and types stand: half of the damage is there."""
COUNTS = (0, 1, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**53, 2**62, 2**63, 2**64 - 1)
NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e30, 1e300, 5e-324)
WORDS = (
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"1e-999", b"99999999999999999999", b"9" * 5000),
    *(b"1000000000000", b"-0", b"1_000", b"0x10", b"null", b"true", b'"', b"[", b"{", b"]", b"}"),
    *(b"../../etc/passwd", b"/etc/passwd", b"\0", b"\n", b"\xff\xfe", b"\xef\xbb\xbf", b"%s", b""),
    *(b"&a [*a, *a]", b"!!python/name:os.system", b"[" * 2000, b"double", b"list", b"char"),
)
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**12, 10**400, 1.5, float("nan"), float("inf"), "", "x", "../../x"),
    *([], [[]], {}, {"a": 1}, [None], "\ud800", "9" * 5000, [1] * 17),
)
"""JSON values that stand where others were meant."""


class Damage(NamedTuple):
    """One change of a file."""

    kind: str
    place: float
    """Where, as a share of the file, or of its head."""
    near: bool
    """Whether in the head."""
    number: int
    """Chooses among words, bits and lengths."""

    def apply(self, content: bytes) -> bytes:
        """Change the bytes of a file."""
        length = min(len(content), HEAD) if self.near else len(content)
        spot = min(int(self.place * length), max(length - 1, 0))
        return _KINDS[self.kind](content, spot, self.number)


def _cut(content: bytes, spot: int, number: int) -> bytes:
    return content[:spot]


def _flip(content: bytes, spot: int, number: int) -> bytes:
    changed = bytearray(content)
    for step in range(number % 3 + 1):
        if changed:
            changed[(spot + step * 7919) % len(changed)] ^= 1 << (number >> 3 * step) % 8
    return bytes(changed)


def _count(content: bytes, spot: int, number: int) -> bytes:
    order, kind = "<>"[number % 2], "IQHB"[number // 2 % 4]
    value = COUNTS[number // 8 % len(COUNTS)] % 2 ** (8 * struct.calcsize(kind))
    packed = struct.pack(order + kind, value)
    return content[:spot] + packed + content[spot + len(packed) :]


def _float(content: bytes, spot: int, number: int) -> bytes:
    kind = ("<f", "<d", ">f", ">d")[number % 4]
    value = NUMBERS[number // 4 % len(NUMBERS)]
    packed = struct.pack(kind, value if kind[1] == "d" else max(min(value, 3e38), -3e38))
    return content[:spot] + packed + content[spot + len(packed) :]


def _digits(content: bytes, spot: int, number: int) -> bytes:
    """Another number or word in the place of one of a text."""
    found = re.search(rb"[-+0-9.eE]{1,40}", content[spot:])
    if found is None:
        return content[:spot]
    word = WORDS[number % len(WORDS)]
    return content[: spot + found.start()] + word + content[spot + found.end() :]


def _word(content: bytes, spot: int, number: int) -> bytes:
    return content[:spot] + WORDS[number % len(WORDS)] + content[spot + number // 64 % 8 :]


def _insert(content: bytes, spot: int, number: int) -> bytes:
    return content[:spot] + number.to_bytes(8, "little") * (number % 5 + 1) + content[spot:]


def _delete(content: bytes, spot: int, number: int) -> bytes:
    return content[:spot] + content[spot + number % 64 + 1 :]


def _splice(content: bytes, spot: int, number: int) -> bytes:
    """A piece of the file once more, elsewhere."""
    start = number % max(len(content), 1)
    return content[:spot] + content[start : start + number % 200] + content[spot:]


def _empty(content: bytes, spot: int, number: int) -> bytes:
    return b"" if number % 2 else b"\n"


def _noise(content: bytes, spot: int, number: int) -> bytes:
    """Nothing of the file but perhaps its first bytes."""
    kept = content[: number % 3 * 4]
    state, noise = number | 1, bytearray()
    for _ in range(number % 300):
        state = state * 6364136223846793005 % 2**64 + 1442695040888963407
        noise.append(state >> 56 & 255)
    return kept + bytes(noise)


def _repeat(content: bytes, spot: int, number: int) -> bytes:
    return content + content


def _json(content: bytes, spot: int, number: int) -> bytes:
    """Another value in the place of one of a JSON file; the digits of a file that is none."""
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):  # of an earlier damage
        return _digits(content, spot, number)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = value if isinstance(value, dict) else range(len(value))
        for key in list(keys)[:200]:
            places.append((value, key))
            if isinstance(value[key], dict | list) and len(places) < 2000:
                walk(value[key])

    if isinstance(whole, dict | list) and whole:
        walk(whole)
        holder, key = places[spot * 7919 % len(places)]
        if number % 7 == 0:
            del holder[key]
        else:
            holder[key] = STRANGE[number % len(STRANGE)]
    return json.dumps(whole).encode()


_KINDS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "cut": _cut,
    "flip": _flip,
    "count": _count,
    "float": _float,
    "digits": _digits,
    "word": _word,
    "insert": _insert,
    "delete": _delete,
    "splice": _splice,
    "empty": _empty,
    "noise": _noise,
    "repeat": _repeat,
    "json": _json,
}

damages = st.builds(
    Damage,
    kind=st.sampled_from(sorted(_KINDS)),
    place=st.floats(0, 1),
    near=st.booleans(),
    number=st.integers(0, 2**32 - 1),
)
"""One change."""
all_damages = st.lists(damages, min_size=1, max_size=3)
"""What happens to one file."""


def damaged(content: bytes, changes: list[Damage]) -> bytes:
    """The bytes of a file after all changes."""
    for change in changes:
        content = change.apply(content)
    return content
