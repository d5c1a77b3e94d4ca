"""The sentence that helps after a misspelt name: the closest choice, or all of them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(wrong: str, choices: Iterable[str]) -> str:
    """Say which of `choices` was probably meant, for the end of an error message.

    Where none is close, all are listed: a sequence in its order, anything else sorted.
    """
    known = list(choices) if isinstance(choices, tuple | list) else sorted(choices)
    close = get_close_matches(wrong, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"expected one of: {', '.join(known)}"
