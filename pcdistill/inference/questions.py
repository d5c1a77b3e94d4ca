"""Questions: what is looked for, in which words, and what is not meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from unicodedata import category

from torch import Tensor

from pcdistill.errors import ConfigError
from pcdistill.inference.relevancy import meant_word, query_alternatives
from pcdistill.pipeline import RunWords
from pcdistill.teachers import WordReader, Words, no_known_word, read_words

GENERAL_PHRASES = ("object", "things", "stuff", "texture")
"""What anything may be instead, beside the vocabulary; the phrases of LERF."""

_NO_TEXT = ("Cc", "Cs")
"""Unicode's categories of control characters, and of bytes that a terminal could not decode."""
DESCRIBING_WORDS = 3
"""Words, without articles, from which a text describes a thing. What the phrase is about is then
told by less: it is not as near to any word as a name is."""
NAME_QUANTILE = 0.95
"""Of the cosines between different words, that a name has to exceed to mean a word of the
vocabulary: every name is nearest to some word, also that of a thing which is not here."""
_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Question:
    """What is looked for."""

    text: str
    """In plain words."""
    synonyms: tuple[str, ...] = ()
    """Further texts that ask for the same; of all, the one counts that a place fits best."""
    negatives: tuple[str, ...] = ()
    """Texts of what is not meant; what fits one of them better is no answer."""
    min_similarity: float | None = None
    """Cosine that a place has to exceed; by default it comes from the features of its scene."""

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ConfigError: a text is no text, or asked for and excluded, or no cosine can be that
                high.
        """
        for text in (*self.texts, *self.negatives):
            if any(letter != "\t" and category(letter) in _NO_TEXT for letter in text):
                raise ConfigError(
                    f"the question {text[:60]!a} has a line break, a control character or "
                    "bytes that are no text, expected words in one line; type it again"
                )
        both = [text for text in self.texts if text in self.negatives]
        if both:
            raise ConfigError(f"'{both[0]}' is asked for and excluded; leave out one of the two")
        least = self.min_similarity
        if least is not None and not -1 <= least <= 1:
            raise ConfigError(f"the least similarity is {least:g}, expected a cosine in [-1, 1]")

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that asks for it."""
        return (self.text, *self.synonyms)

    def __str__(self) -> str:
        """In one line: a chair or stool, not sofa."""
        asked = " or ".join(self.texts)
        return asked + "".join(f", not {text}" for text in self.negatives)


@dataclass(frozen=True, eq=False)
class EmbeddedQuestion:
    """A question in the text space of a run."""

    queries: Tensor
    """(Q, D) float32, unit rows, what asks for it."""
    negatives: Tensor
    """(M, D) float32, unit rows, what is not meant."""
    alternatives: Tensor
    """(A, D) float32, unit rows, what a place may be instead, the negatives among it."""
    meant: frozenset[int]
    """Words of the vocabulary, rows, that the texts are about."""
    looked_like: frozenset[int]
    """Those of them that a place only has to look like, however similar it is to the texts."""
    ignored: tuple[str, ...]
    """Words that the text encoder does not know."""


def embed_question(words: RunWords, question: Question) -> EmbeddedQuestion:
    """Embed the texts of a question without the words that the text encoder does not know.

    Raises:
        ConfigError: a text has no known word.
    """
    read = [known_words(words, text) for text in (*question.texts, *question.negatives)]
    ignored = tuple(dict.fromkeys(word for one in read for word in one.unknown))
    embedded = words.text_encoder.encode([one.known_text for one in read])
    queries, negatives = embedded[: len(question.texts)], embedded[len(question.texts) :]
    vocabulary = words.vocabulary_embeddings
    phrases = words.text_encoder.encode(GENERAL_PHRASES)
    meant = [meant_word(query, vocabulary) for query in queries]
    alike = [
        about if _describes(text) else meant_word(query, words.bare_vocabulary, NAME_QUANTILE)
        for about, query, text in zip(meant, queries, question.texts, strict=True)
    ]
    return EmbeddedQuestion(
        queries,
        negatives,
        query_alternatives(queries, vocabulary, phrases, negatives),
        frozenset(word for word in meant if word is not None),
        frozenset(word for word in alike if word is not None),
        ignored,
    )


def _describes(text: str) -> bool:
    """Whether a text is a phrase about a thing, and not its name."""
    return len([word for word in text.lower().split() if word not in _ARTICLES]) >= DESCRIBING_WORDS


Verdict = Literal["answer", "unlike", "excluded"]
"""Of a place: it answers, it is not similar enough, it fits better what is not meant."""


def judge_place(
    asked: EmbeddedQuestion, mean: Tensor, vocabulary: Tensor, floor: float, *, by_name: bool
) -> tuple[Verdict, float]:
    """Decide whether a place answers a question.

    It does if it is more similar to one of the texts than the floor, or most similar, of all words
    of the vocabulary, to one that it only has to look like; and if nothing that is not meant is
    nearer.

    Args:
        asked: the question.
        mean: (D,) float, unit length, mean feature of the place.
        vocabulary: (K, D) float, unit rows.
        floor: cosine.
        by_name: whether the words that it may look like count.

    Returns:
        The verdict, and the cosine between the place and the text that it fits best.
    """
    similarity = float((asked.queries @ mean).max())
    cosines = vocabulary @ mean
    named = by_name and int(cosines.argmax()) in asked.looked_like
    if not named and similarity <= floor:
        return "unlike", similarity
    nearest = max([similarity, *(float(cosines[word]) for word in asked.meant)])
    excluded = len(asked.negatives) > 0 and float((asked.negatives @ mean).max()) >= nearest
    return ("excluded" if excluded else "answer"), similarity


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
