"""Downloader of files of weights: resumed where it stopped, checked, complete or not there."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pcdistill.atomic_io import make_folder
from pcdistill.checksums import file_sha256
from pcdistill.errors import ArtifactError, ConfigError, file_trouble
from pcdistill.teachers.weight_files import how_to_get, require_parts
from pcdistill.teachers.weight_sources import WeightFile

ByteProgress = Callable[[int, int | None], None]
"""Called with the bytes that are there, and all of them where the server says how many."""
_BLOCK = 1 << 20
_PATIENCE = 30.0
"""Seconds without a byte after which a server is given up."""
_RANGE_IS_WHOLE = 416


def fetch_weights(known: WeightFile, folder: Path, progress: ByteProgress) -> Path:
    """Download an entry of `WEIGHT_FILES` into a folder, unless it is there.

    What a broken download left is continued by the next call. The name appears when all bytes are
    there and have the published checksum.

    Returns:
        the file, or the folder of a model that is one.

    Raises:
        ConfigError: the address is a page for a person, or cannot be reached; or a folder is there
            that lacks a file.
        ArtifactError: what came is not what was published, and was deleted.
    """
    target = folder / known.file_name
    if target.exists():
        require_parts(known, target)
        return target
    if not known.direct:
        raise ConfigError(
            f"the weights '{known.name}' are on a page that a person opens; "
            f"{how_to_get(known, folder)}"
        )
    make_folder(folder, "--folder")
    partial = folder / f".{known.file_name}.part"
    try:
        with _alone(folder / f".{known.file_name}.lock", known):
            if known.parts:
                for part in known.parts:
                    file = partial / part
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _download(f"{known.address}/{part}", file, known, progress)
            else:
                _download(known.address, partial, known, progress)
                require_published(known, partial, delete=True)
            partial.rename(target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        reason = getattr(e, "reason", None) or str(e) or type(e).__name__
        raise ConfigError(
            f"weights '{known.name}': {known.address} cannot be reached ({reason}); try again, "
            f"which continues the download, or bring {known.file_name} into {folder} yourself"
        ) from None
    except OSError as error:
        raise ConfigError(file_trouble(error, partial)) from None
    return target


def require_published(known: WeightFile, path: Path, *, delete: bool = False) -> bool:
    """Compare a file with what its authors publish of it.

    Args:
        known: the entry.
        path: the file.
        delete: whether a file that is another one is deleted.

    Returns:
        whether a checksum is published, so that anything was compared but the size.

    Raises:
        ArtifactError: the size or the checksum is another one.
    """
    found, expected = str(path.stat().st_size), str(known.size)
    what = "bytes"
    if known.size is None or found == expected:
        what = "as SHA-256" if known.sha256 else "at the beginning of its MD5"
        if known.sha256:
            found, expected = file_sha256(path), known.sha256
        elif known.md5_prefix:
            found, expected = _md5(path)[: len(known.md5_prefix)], known.md5_prefix
        else:
            return False
    if found == expected:
        return True
    if delete:
        path.unlink()
    raise ArtifactError(
        f"{path}: has {found} {what}, expected {expected} of '{known.name}'; "
        f"{'it was deleted, fetch it again' if delete else 'delete it and fetch it again'}"
    )


def _download(address: str, file: Path, known: WeightFile, progress: ByteProgress) -> None:
    """Append what is missing of one file; a server that cannot continue begins anew."""
    there = file.stat().st_size if file.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "pcdistill"})
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        if there and error.code == _RANGE_IS_WHOLE:
            return  # nothing is missing
        raise
    with answer:
        continued = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        missing = answer.headers.get("Content-Length")
        there = there if continued else 0
        total = None if missing is None else there + int(missing)
        with file.open("ab" if continued else "wb") as output:
            for block in _blocks(answer):
                output.write(block)
                there += len(block)
                progress(there, total)
            output.flush()
            os.fsync(output.fileno())
    if total is not None and there < total:
        raise ConnectionError(f"the connection ended after {there} of {total} bytes")


def _blocks(answer: IO[bytes] | Any) -> Iterator[bytes]:
    while block := answer.read(_BLOCK):
        yield block


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _alone(lock: Path, known: WeightFile) -> Iterator[None]:
    """Keep a second process from writing the same file."""
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"weights '{known.name}' are being fetched by another process; wait for it"
            ) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
