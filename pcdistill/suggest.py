"""Look-up of names that users give, with suggestions for misspelt ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from pcdistill.errors import ConfigError

T = TypeVar("T")


def suggest(wrong: str, choices: Iterable[str]) -> str:
    """Suggest which of `choices` was meant, as the end of an error message.

    Where none is close, all are listed: a sequence in its order, anything else sorted.
    """
    known = list(choices) if isinstance(choices, tuple | list) else sorted(choices)
    close = get_close_matches(wrong, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"expected one of: {', '.join(known)}"


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Find what a user names in a table.

    Args:
        kind: what the table holds, for the message.
        name: the key.
        known: the table.

    Raises:
        ConfigError: there is no such key; the message suggests the closest one.
    """
    if name not in known:
        raise ConfigError(f"unknown {kind} '{name}'; {suggest(name, known)}")
    return known[name]
