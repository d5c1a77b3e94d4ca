"""SHA-256 of large files, remembered on disk so that each command need not read them again."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from pathlib import Path

from pcdistill.atomic_io import atomic_file
from pcdistill.checksums import file_sha256
from pcdistill.teachers.embedding_cache import default_cache_folder

SMALL = 16 * 2**20
"""Bytes below which a file is read each time."""
_SETTLED_NS = 2 * 10**9
"""A file that was written less long ago may be written again within the same tick of its clock."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def remembered_sha256(file: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    What was computed for the same path, size and time of change is taken from the cache folder
    (`default_cache_folder`). A file that is changed without any of these is not noticed;
    `pcdistill weights verify` reads every byte.

    Raises:
        OSError: the file cannot be read.
    """
    status = file.stat()
    if status.st_size < SMALL:
        return file_sha256(file)
    mark = f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    name = hashlib.sha256(mark.encode("utf-8", "surrogateescape")).hexdigest()
    kept = default_cache_folder() / "digests" / name
    with suppress(OSError, ValueError):
        known = kept.read_text().strip()
        if _DIGEST.fullmatch(known):
            return known
    found = file_sha256(file)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        with suppress(OSError), atomic_file(kept) as temporary:  # a cache that is not there
            temporary.write_text(found + "\n")
    return found
