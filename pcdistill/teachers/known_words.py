"""Known words of the static text encoder.

Its vocabulary is that of a WordPiece tokenizer: what is not in it falls into pieces, down to
single letters of any alphabet, and the mean of their vectors says nothing of the word ("faucet" is
nearest to "its", "стул" to "tak"). A word is known if it is in the vocabulary as a whole, or is put
together from words or from a word and an English ending that are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

_ENDINGS = ("s", "es", "d", "ed", "ing", "r", "er", "ers", "or", "ors", "y", "ly", "less", "able")
_MIN_PART = 3
"""Letters of each part of a compound, of which one has more."""
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_MARKS = r"\s\-–—/\\_,.;:!?¿¡\"'’‘“”„«»()\[\]{}<>|+*=&%#@~`^…。，、！？：；（）「」"
_WORD = re.compile(rf"[{_CJK}]+|[^{_MARKS}{_CJK}]+")
_CONTRACTION = re.compile(r"(?<=\w)['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
_SMALL_WORDS = frozenset(
    (
        *("a", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "do", "does"),
        *("find", "for", "from", "give", "has", "have", "here", "how", "i", "in", "into", "is"),
        *("it", "its", "me", "my", "no", "not", "of", "off", "on", "one", "or", "our", "out"),
        *("over", "please", "seem", "show", "some", "that", "the", "their", "there", "these"),
        *("they", "this", "those", "to", "under", "up", "us", "was", "we", "what", "when"),
        *("where", "which", "who", "will", "with", "you", "your"),
    )
)
"""Words that do not tell what to look for."""


class Words(NamedTuple):
    """The words of a text, as written."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]
    known_text: str
    """The text without the unknown words."""
    is_empty: bool
    """Whether there are no words at all, not even small ones."""


def sort_words(
    text: str,
    is_token: Callable[[str], bool],
    normalize: Callable[[str], str],
    own: Collection[str] = (),
) -> Words:
    """Tell the words of a text that an encoder knows from those that it does not.

    Small words ("a", "where") and single Latin letters are neither.

    Args:
        text: in any alphabet.
        is_token: whether a normalised word is in the encoder's vocabulary as a whole.
        normalize: lower case, no accents, as the encoder reads.
        own: normalised words that are known besides.
    """
    known: list[str] = []
    unknown: list[str] = []
    spans: list[tuple[int, int]] = []
    plain = _CONTRACTION.sub(lambda found: " " * len(found[0]), text)
    for found in _WORD.finditer(plain):
        word = normalize(found[0]).strip()
        if word in _SMALL_WORDS or (len(word) == 1 and word.isascii() and word.isalpha()):
            continue
        if word in own or is_known_word(word, is_token):
            known.append(found[0])
        else:
            unknown.append(found[0])
            spans.append(found.span())
    kept = text
    for start, end in reversed(spans):
        kept = f"{kept[:start]} {kept[end:]}"
    if spans:
        kept = " ".join(part for part in kept.split() if _WORD.search(part))
    return Words(tuple(known), tuple(unknown), kept, _WORD.search(plain) is None)


def is_known_word(word: str, is_token: Callable[[str], bool]) -> bool:
    """Whether a normalised word is in the vocabulary, or made of words that are."""
    if _is_word(word, is_token):
        return True
    if not (word.isascii() and word.isalpha()):
        return False
    for place in range(_MIN_PART, len(word) - _MIN_PART + 1):
        parts = word[:place], word[place:]
        long = max(map(len, parts)) > _MIN_PART
        if long and _is_word(parts[0], is_token) and _is_inflected(parts[1], is_token):
            return True
    return _is_inflected(word, is_token)


def _is_inflected(word: str, is_token: Callable[[str], bool]) -> bool:
    """Whether a word is in the vocabulary, perhaps without its ending."""
    if _is_word(word, is_token):
        return True
    stems = [word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending)]
    return any(
        _is_word(stem, is_token) or (stem[-1] == stem[-2] and _is_word(stem[:-1], is_token))
        for stem in stems
        if len(stem) >= _MIN_PART
    )


def _is_word(word: str, is_token: Callable[[str], bool]) -> bool:
    """Single characters and numbers are in vocabularies, too, but say nothing."""
    return len(word) > 1 and any(map(str.isalpha, word)) and is_token(word)
