"""What a run's text encoder understands of a question."""

from __future__ import annotations

from pcdistill.errors import ConfigError
from pcdistill.pipeline import RunContext
from pcdistill.teachers import WordReader, Words, no_known_word, read_words


def known_words(run: RunContext, text: str) -> Words:
    """The words of a question that the run's text encoder knows, and the others.

    Raises:
        ConfigError: none is known.
    """
    encoder = run.text_encoder
    own = run.own_words if isinstance(encoder, WordReader) else ()
    words = read_words(encoder, text, own)
    if words.is_empty or (words.unknown and not words.known):
        raise ConfigError(no_known_word([text]))
    return words


def ignored_words(text: str, unknown: tuple[str, ...]) -> str:
    """The sentence about the words of a question that are not known beside others that are."""
    listed = ", ".join(f"'{word}'" for word in unknown)
    return f"the text encoder does not know {listed}, so that only the rest of '{text}' is asked"
