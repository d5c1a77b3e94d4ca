"""Positions of the tokens of some words in a prompt, sub-word pieces included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from pcdistill.errors import ConfigError


class Tokenizer(Protocol):
    """What is used of the tokenizer of a text encoder."""

    model_max_length: int

    def __call__(self, text: str) -> Any:
        """`input_ids` of a text, between one token of its start and one of its end."""
        ...


def find_word_tokens(tokenizers: Sequence[Tokenizer], prompt: str, words: str) -> tuple[int, ...]:
    """Find the tokens of some words where they first stand in a prompt.

    The text before the words and the text up to their end are tokenized, so that the tokens between
    are theirs: all words of a class of several, all pieces of a word that the vocabulary does not
    have. Case does not matter, and words within longer ones do not count.

    Args:
        tokenizers: one or more of CLIP, which cut texts alike.
        prompt: what is drawn.
        words: a class, as the prompt has it.

    Returns:
        Positions in the text encoder's sequence, the start token being 0.

    Raises:
        ConfigError: the prompt does not have the words, or too late for the text encoder; or the
            words have no token of their own.
    """
    wanted = r"\s+".join(re.escape(word) for word in words.split())
    found = re.search(rf"(?<!\w){wanted}(?!\w)", prompt, re.IGNORECASE) if wanted else None
    if found is None:
        raise ConfigError(
            f"the prompt '{prompt}' does not have the words '{words}', whose attention is wanted; "
            "write them in synthesize.prompt, with {} for the class"
        )
    spans = {_span(tokenizer, prompt, found.start(), found.end()) for tokenizer in tokenizers}
    if len(spans) != 1 or None in spans:
        raise ConfigError(
            f"the prompt '{prompt}': the tokenizer joins '{words}' with what stands beside it; "
            "put spaces around {} in synthesize.prompt"
        )
    (span,) = spans
    assert span is not None
    first, end = span
    if first == end:
        raise ConfigError(
            f"the prompt '{prompt}': the tokenizer of the diffusion model has no token for "
            f"'{words}'; name the class in letters that it knows"
        )
    length = min(tokenizer.model_max_length for tokenizer in tokenizers)
    if end > length - 1:  # the last is the end token
        raise ConfigError(
            f"the prompt '{prompt}': '{words}' ends at token {end}, expected within the "
            f"{length - 2} that the text encoder reads; shorten synthesize.prompt"
        )
    return tuple(range(first, end))


def _span(tokenizer: Tokenizer, prompt: str, start: int, end: int) -> tuple[int, int] | None:
    """First token of prompt[start:end] and the one after its last; None where it has no own."""
    whole, before, until = (
        list(tokenizer(text).input_ids) for text in (prompt, prompt[:start], prompt[:end])
    )
    before, until = before[:-1], until[:-1]  # without the end token
    cut_alike = whole[: len(before)] == before and whole[: len(until)] == until
    return (len(before), len(until)) if cut_alike else None
