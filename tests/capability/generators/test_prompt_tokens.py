"""Where the words of a class stand among the tokens of a prompt."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from pcdistill.capability.generators.prompt_tokens import find_word_tokens
from pcdistill.errors import ConfigError
from tests.capability.generators.tiny_diffusion import TEXT_LENGTH, write_tokenizer


class Words:
    """Words and marks, each in pieces of at most four letters; what is not ASCII has no token."""

    model_max_length = 16

    def __call__(self, text: str) -> SimpleNamespace:
        words = re.findall(r"[a-z]+|[^\sa-z]", text.lower().encode("ascii", "ignore").decode())
        pieces = [word[i : i + 4] for word in words for i in range(0, len(word), 4)]
        return SimpleNamespace(input_ids=["<start>", *pieces, "<end>"])


@pytest.mark.parametrize(
    ("prompt", "words", "tokens"),
    [
        ("a good photo of a bed", "bed", (7,)),
        ("a good photo of a bed in a room", "bed", (7,)),
        ("bed", "bed", (1,)),
        ("a Shower  Curtain, wet", "shower curtain", (2, 3, 4, 5)),  # show er curt ain
        ("a bookshelf", "bookshelf", (2, 3, 4)),
        ("a tablecloth on a table", "table", (7, 8)),  # not where it is part of a longer word
        ("a bed beside a bed", "bed", (2,)),
        ("a t.v. set", "t.v.", (2, 3, 4, 5)),
        ("a (red) chair's leg", "chair", (5, 6)),
    ],
)
def test_all_tokens_of_the_first_occurrence(prompt, words, tokens):
    assert find_word_tokens([Words()], prompt, words) == tokens


@pytest.mark.parametrize(
    ("prompt", "words", "sentence"),
    [
        ("a photo of a table", "chair", "prompt 'a photo of a table' does not have the words"),
        ("a bedroom", "bed", "does not have the words 'bed'"),
        ("a bed", " ", "does not have the words ' '"),
        ("a photo of Öäü here", "öäü", "has no token for 'öäü'"),
        (
            "a " * 12 + "shower curtain",
            "shower curtain",
            "ends at token 17, expected within the 14",
        ),
    ],
)
def test_words_that_are_not_read_are_named(prompt, words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        find_word_tokens([Words()], prompt, words)


def test_the_last_token_that_is_read():
    assert find_word_tokens([Words()], "a " * 13 + "bed", "bed") == (14,)


def test_words_joined_with_what_stands_beside_them_are_refused():
    class Pairs(Words):
        def __call__(self, text: str) -> SimpleNamespace:
            joined = text.replace("bed -", "bed-")
            return SimpleNamespace(input_ids=["<start>", *joined.split(), "<end>"])

    with pytest.raises(ConfigError, match="the tokenizer joins 'bed' with what stands beside it"):
        find_word_tokens([Pairs()], "a bed - of oak", "bed")


def test_two_tokenizers_must_agree():
    class Letters(Words):
        def __call__(self, text: str) -> SimpleNamespace:
            return SimpleNamespace(input_ids=["<start>", *text, "<end>"])

    assert find_word_tokens([Words(), Words()], "a bed", "bed") == (2,)
    with pytest.raises(ConfigError, match="the tokenizer joins 'bed'"):
        find_word_tokens([Words(), Letters()], "a bed", "bed")


@pytest.mark.thorough
def test_the_tokenizer_of_clip(tmp_path):
    """Of transformers, from the files of published models."""
    from transformers import CLIPTokenizer

    write_tokenizer(tmp_path / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    for prompt, words, pieces in (
        ("a good photo of a chair", "chair", ["chair</w>"]),
        ("A good photo of a Chair in a room", "chair", ["chair</w>"]),
        ("a good photo of a shower curtain in a room", "shower curtain", None),
        ("a bookshelf", "bookshelf", None),
        ("a chair, a table", "table", ["table</w>"]),
    ):
        tokens = find_word_tokens([tokenizer], prompt, words)
        found = tokenizer.convert_ids_to_tokens(tokenizer(prompt).input_ids)
        chosen = [found[token] for token in tokens]
        assert "".join(chosen).replace("</w>", " ").strip() == words
        assert pieces is None or chosen == pieces
        assert len(chosen) > 1 or pieces is not None
    with pytest.raises(ConfigError, match=f"expected within the {TEXT_LENGTH - 2} that"):
        find_word_tokens([tokenizer], "a " * 18 + "chair", "chair")
    assert find_word_tokens([tokenizer], "a " * 17 + "chair", "chair") == (TEXT_LENGTH - 2,)
