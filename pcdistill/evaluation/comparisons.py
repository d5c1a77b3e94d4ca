"""Differences between methods in sentences that follow from their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pcdistill.evaluation.paired import PairedDifference, Verdict

_FEW = 8
"""Scenes below which the bootstrap's interval misses the truth clearly more often than it says."""


class Comparison(NamedTuple):
    """How far one method is ahead of another."""

    first: str
    second: str
    apart: PairedDifference


def comparison_sentence(compared: Sequence[Comparison], scenes: str) -> str:
    """Compose the sentence on what one method is ahead of, behind, and not told from.

    Args:
        compared: at least one, all with the same `first`.
        scenes: what was measured on, as in "the 4 homes".
    """
    words: dict[Verdict | None, str] = {
        "ahead": "ahead of",
        "behind": "behind",
        "no difference": f"no difference that {scenes} can tell from",
        None: "away from",
    }
    return f"{compared[0].first}: {_by_verdict(compared, words, {})}"


def reach_sentence(compared: Sequence[Comparison], scenes: str, what: Mapping[str, str]) -> str:
    """Compose the sentence on which methods one does not reach, beats, and is not told from.

    Args:
        compared: at least one, all with the same `first`.
        scenes: what was measured on, as in "the 4 homes".
        what: words that explain a method, by its name.
    """
    words: dict[Verdict | None, str] = {
        "behind": "does not reach",
        "ahead": "is ahead of",
        "no difference": f"shows no difference that {scenes} can tell from",
        None: "is away from",
    }
    return f"{compared[0].first} {_by_verdict(compared, words, what)}"


def _by_verdict(
    compared: Sequence[Comparison], words: Mapping[Verdict | None, str], what: Mapping[str, str]
) -> str:
    parts = []
    for verdict, verb in words.items():
        names = [
            f"{second} ({what[second]}, {apart})" if second in what else f"{second} ({apart})"
            for _, second, apart in compared
            if apart.verdict == verdict
        ]
        if names:
            parts.append(f"{verb} {enumerated(names)}")
    return "; ".join(parts)


def interval_note(scenes: int, noun: str, seeds: int = 1) -> str:
    """Explain in one line what stands in the brackets.

    Args:
        scenes: how many of them, over all seeds.
        noun: what they are called when they are many.
        seeds: how often they were drawn anew.
    """
    if scenes == 1:
        return f"differences are points of mIoU; one of the {noun} alone gives no interval"
    few = f"; of {scenes} it is rather too narrow" if scenes < _FEW else ""
    over = f"{scenes} {noun}" if seeds == 1 else f"{seeds} seeds and their {scenes} {noun}"
    return (
        f"differences are points of mIoU, in brackets the 95 % interval of a paired bootstrap over "
        f"{over}{few}"
    )


def enumerated(names: Sequence[str]) -> str:
    """Names as in "one, two and three"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
