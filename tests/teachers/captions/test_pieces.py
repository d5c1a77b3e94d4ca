"""Texts of tokens, read from SentencePiece models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.errors import ArtifactError
from pcdistill.teachers.captions.tap.pieces import load_word_pieces
from tests.teachers.captions.made_files import write_pieces

PIECES = [
    *(("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<0xE3>", 6), ("<0x83>", 6), ("<0x97>", 6)),
    *(("\u2581a", 1), ("\u2581bro", 1), ("wn", 1), ("s" * 200, 1)),
]


@pytest.fixture
def words(tmp_path):
    write_pieces(tmp_path / "pieces.model", PIECES)
    return load_word_pieces(tmp_path / "pieces.model")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([1, 6, 7, 8, 2], "a brown"),
        ([8, 6], "wn a"),
        ([3, 4, 5], "\u30d7"),  # three bytes of one letter
        ([7, 3], "bro\ufffd"),
        ([6, 0, 8], "a \u2047 wn"),
        ([9], "s" * 200),
        ([], ""),
    ],
)
def test_decode(words, tokens, text):
    assert words.decode(tokens) == text


def test_pieces_are_counted(words):
    assert len(words) == len(PIECES)


def ends(folder):
    """Places in the file at which a piece ends."""
    found = set()
    for count in range(1, len(PIECES) + 1):
        write_pieces(folder / "some.model", PIECES[:count])
        found.add((folder / "some.model").stat().st_size - 4)  # without the settings
    return found


@given(cut=st.integers(1, 300))
def test_a_truncated_file_is_refused(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("pieces")
    write_pieces(folder / "pieces.model", PIECES)
    whole = (folder / "pieces.model").read_bytes()
    if len(whole) - cut in ends(folder):  # a model of fewer pieces
        return
    (folder / "pieces.model").write_bytes(whole[:-cut])
    with pytest.raises(ArtifactError, match="no pieces of words"):
        load_word_pieces(folder / "pieces.model")


@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("pieces") / "any.model"
    file.write_bytes(content)
    try:
        assert len(load_word_pieces(file)) > 0
    except ArtifactError as error:
        assert "\n" not in str(error)  # noqa: PT017
