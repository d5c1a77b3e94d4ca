"""Digests of large files are remembered by path, size and time, and never wrong for it."""

from __future__ import annotations

import hashlib
import os

import pytest

from pcdistill.teachers import digest_cache
from pcdistill.teachers.digest_cache import remembered_sha256

LONG_AGO = 1_600_000_000


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Files whose bytes were read; files of a byte count as large here."""
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "SMALL", 1)
    names, whole = [], digest_cache.file_sha256

    def counted(path):
        names.append(path.name)
        return whole(path)

    monkeypatch.setattr(digest_cache, "file_sha256", counted)
    return names


def write(path, content, changed=LONG_AGO):
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return hashlib.sha256(content).hexdigest()


def test_it_is_read_once(tmp_path, read):
    file = tmp_path / "a.pt"
    expected = write(file, b"weights")
    assert [remembered_sha256(file) for _ in range(3)] == [expected] * 3
    assert read == ["a.pt"]


@pytest.mark.parametrize("content", [b"others!", b"longer weights"])
def test_another_content_with_another_time_or_size_is_read(tmp_path, read, content):
    file = tmp_path / "a.pt"
    write(file, b"weights")
    remembered_sha256(file)
    expected = write(file, content, LONG_AGO + (len(content) == 7))
    assert remembered_sha256(file) == expected
    assert read == ["a.pt"] * 2


def test_two_files_of_equal_size_and_time_are_two(tmp_path, read):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    expected = [write(first, b"weights"), write(second, b"others!")]
    for _ in range(2):
        assert [remembered_sha256(first), remembered_sha256(second)] == expected


def test_what_was_just_written_is_not_remembered(tmp_path, read):
    file = tmp_path / "a.pt"
    file.write_bytes(b"weights")
    remembered_sha256(file)
    stamp = file.stat().st_mtime_ns
    file.write_bytes(b"others!")
    os.utime(file, ns=(stamp, stamp))
    assert remembered_sha256(file) == hashlib.sha256(b"others!").hexdigest()


@pytest.mark.parametrize("junk", [b"", b"abc", b"\xff" * 70])
def test_a_damaged_memory_is_made_anew(tmp_path, read, junk):
    file = tmp_path / "a.pt"
    expected = write(file, b"weights")
    remembered_sha256(file)
    (kept,) = (tmp_path / "cache" / "digests").iterdir()
    kept.write_bytes(junk)
    assert remembered_sha256(file) == expected
    assert kept.read_text().strip() == expected


def test_a_cache_that_cannot_be_written_is_gone_without(tmp_path, read):
    (tmp_path / "cache").write_bytes(b"a file where the folder would be")
    file = tmp_path / "a.pt"
    expected = write(file, b"weights")
    assert [remembered_sha256(file) for _ in range(2)] == [expected] * 2


def test_small_files_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "a.pt"
    expected = write(file, b"weights")
    assert remembered_sha256(file) == expected
    assert not (tmp_path / "cache").exists()
