"""Embeddings are found again by another process, for the same text and model alone."""

from __future__ import annotations

import os
import struct

import pytest
import torch

from pcdistill.teachers.embedding_cache import EmbeddingCache, default_cache_folder

ROW = torch.tensor([0.6, 0.8, 0.0])


def cache(folder, model="clip", revision="1") -> EmbeddingCache:
    return EmbeddingCache(folder, model, revision, 3)


def test_a_text_is_found_again(tmp_path):
    cache(tmp_path).put("a bed", ROW)
    assert torch.equal(cache(tmp_path).get("a bed"), ROW)
    for other in ("a bed ", "A bed", "bed", "../bed"):
        assert cache(tmp_path).get(other) is None


def test_another_model_or_revision_finds_nothing(tmp_path):
    cache(tmp_path).put("a bed", ROW)
    assert cache(tmp_path, revision="2").get("a bed") is None
    assert cache(tmp_path, model="other").get("a bed") is None


HEADS = [b"{'descr': (\0", b"{'descr': ('<f4',\n", b"[" * 4000]
"""Headers that are no Python: each raises another kind of error in NumPy."""
NPY = [b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head for head in HEADS]


EMPTY_ARCHIVE = b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"damaged", b"\x80\x04N.", EMPTY_ARCHIVE, *NPY]
)
def test_a_damaged_file_is_as_none(tmp_path, content):
    cache(tmp_path).put("a bed", ROW)
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    file.write_bytes(content)
    assert cache(tmp_path).get("a bed") is None
    cache(tmp_path).put("a bed", ROW)
    assert torch.equal(cache(tmp_path).get("a bed"), ROW)


def test_only_whole_rows_of_the_right_length_are_taken(tmp_path):
    cache(tmp_path).put("a bed", ROW)
    assert EmbeddingCache(tmp_path, "clip", "1", 4).get("a bed") is None
    cache(tmp_path).put("a sofa", torch.full((3,), torch.nan))
    assert cache(tmp_path).get("a sofa") is None


def test_nothing_unfinished_is_left(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", fail)
    cache(tmp_path).put("a bed", ROW)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_takes_nothing_is_named_once(tmp_path, caplog):
    (tmp_path / "embeddings").write_text("a file where the folder should be")
    kept = cache(tmp_path)
    kept.put("a bed", ROW)
    kept.put("a sofa", ROW)
    assert torch.equal(kept.get("a bed"), ROW)
    assert caplog.text.count("text embeddings cannot be kept") == 1


def test_the_folder_is_that_of_the_environment_else_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("PCDISTILL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "pcdistill"
    assert os.listdir(tmp_path) == []
