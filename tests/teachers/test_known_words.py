"""Words that the text encoder has no meaning for are told from those it knows, in any alphabet."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.scenes import (
    label_set_names,
    load_label_set,
    load_vocabulary,
    vocabulary_names,
)
from pcdistill.teachers import Words, build_text_encoder, read_words

UNKNOWN = {
    "Latin letters": "xyzzyq",
    "syllables": "blorptang",
    "keys": "ghjklzx",
    "German": "Stuhl",
    "French": "fauteuil",
    "accents": "ñandú",
    "Cyrillic": "стул",
    "capitals": "СТУЛ",
    "Greek": "ζωή",
    "Chinese": "椅子",
    "one character": "子",
    "Japanese": "いす",
    "Korean": "의자",
    "Arabic": "كرسي",
    "Hebrew": "כיסא",
    "Hindi": "कुर्सी",
    "Thai": "เก้าอี้",
    "Georgian": "სკამი",
    "emoji": "🪑",
    "emoji with a joiner": "👩‍💻",
    "digits": "12345",
    "one number": "42",
    "a digit": "7",
    "rare English": "faucet",
}
KNOWN = (
    "chair",
    "Fridge",
    "TV",
    "café",
    "windowsill",
    "bookshelf",
    "dishwasher",
    "headphones",
    "heaters",
    "potted",
    "chair's",
    "mp3",
)


@pytest.fixture(scope="module")
def encoder():
    return build_text_encoder("static")


@pytest.mark.parametrize("word", UNKNOWN.values(), ids=UNKNOWN)
def test_a_word_without_meaning_is_unknown_alone_and_beside_others(encoder, word):
    assert encoder.words(word) == Words((), (word,), "", False)
    assert encoder.words(f"where is the {word}?").unknown == (word,)
    beside = encoder.words(f"a {word}, red chair")
    assert (beside.known, beside.unknown) == (("red", "chair"), (word,))
    one, other = encoder.encode([beside.known_text, "a red chair"])
    assert float(one @ other) > 0.999


@pytest.mark.parametrize("word", [word for name, word in UNKNOWN.items() if name != "rare English"])
def test_a_text_of_unknown_words_is_refused_and_named(encoder, word):
    for text in (word, f"a {word}", f"where is the {word}?", f"{word} {word}"):
        with pytest.raises(ConfigError) as caught:
            encoder.encode(["chair", text])
        assert str(caught.value).startswith(f"the text '{text}' has no word that the text encoder")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", KNOWN)
def test_words_their_compounds_and_endings_are_known(encoder, word):
    words = encoder.words(word)
    assert words.unknown == ()
    assert words.known
    assert words.known_text == word


def test_small_words_and_letters_are_neither(encoder):
    words = encoder.words("where is a b?")
    assert (words.known, words.unknown, words.is_empty) == ((), (), False)
    encoder.encode(["where is a b?"])


@pytest.mark.parametrize("text", ["", "  ", "?!", " - ", "..."])
def test_a_text_without_words_is_refused(encoder, text):
    assert encoder.words(text).is_empty
    with pytest.raises(ConfigError, match="has no word that the text encoder knows"):
        encoder.encode([text])


def test_characters_of_other_scripts_need_no_blank(encoder):
    words = encoder.words("椅子sofa")
    assert (words.known, words.unknown, words.known_text) == (("sofa",), ("椅子",), "sofa")


def test_a_run_knows_its_own_words(encoder):
    assert encoder.words("bulldozer", own={"bulldozer"}).known == ("bulldozer",)
    assert encoder.words("a Bulldozer", own={"bulldozer"}).unknown == ()


def test_all_names_that_come_with_the_package_can_be_embedded(encoder):
    names = [name for known in label_set_names() for name in load_label_set(known).prompt_names]
    names += [name for known in vocabulary_names() for name in load_vocabulary(known)]
    assert bool(torch.isfinite(encoder.encode(names)).all())
    indoor = (*load_label_set("scannet20").names, *load_vocabulary("indoor"))
    assert encoder.words("; ".join(indoor)).unknown == ()  # the demo has nothing to be told of


def test_several_texts_are_named_together(encoder):
    with pytest.raises(ConfigError, match=r"the texts 'стул', 'a стол' have no word that"):
        encoder.encode(["стул", "chair", "a стол"])
    with pytest.raises(ConfigError, match=r"'стул4' and 3 more have no word"):
        encoder.encode([f"стул{number}" for number in range(8)])


def test_an_encoder_that_cannot_tell_knows_every_word():
    class Any:
        text_space = "any"
        dimensions = 2

        def encode(self, texts):
            return torch.ones(len(texts), 2)

    assert read_words(Any(), "a стул").unknown == ()
    assert read_words(Any(), " ").is_empty
