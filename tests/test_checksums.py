"""SHA-256 of files."""

import hashlib

import pytest

from pcdistill.checksums import file_sha256


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 1])
def test_the_checksum_is_that_of_the_whole_content(tmp_path, size):
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
