"""Known and unknown words of a question."""

from __future__ import annotations

from pcdistill.errors import ConfigError
from pcdistill.pipeline import RunWords
from pcdistill.teachers import WordReader, Words, no_known_word, read_words


def known_words(words: RunWords, text: str) -> Words:
    """Sort the words of a question into those that the text encoder knows and the others.

    Raises:
        ConfigError: none is known.
    """
    encoder = words.text_encoder
    own = words.own_words if isinstance(encoder, WordReader) else ()
    read = read_words(encoder, text, own)
    if read.is_empty or (read.unknown and not read.known):
        raise ConfigError(no_known_word([text]))
    return read


def ignored_words(text: str, unknown: tuple[str, ...]) -> str:
    """Compose the sentence about unknown words of a question that has known ones too."""
    listed = ", ".join(f"'{word}'" for word in unknown)
    return f"the text encoder does not know {listed}, so that only the rest of '{text}' is asked"
