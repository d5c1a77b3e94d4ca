"""Size limits of files that others made: a factor that raises all, and what archives unpack to."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from pcdistill.errors import ArtifactError, ConfigError

VARIABLE = "PCDISTILL_SIZE_LIMITS"
"""Environment variable with the factor, 1 by default."""
HOW_TO_RAISE = f"where the file is right, allow twice as much by {VARIABLE}=2"
MAX_EXPANSION = 16
"""Times its own size that an archive of weights may unpack to; `torch.save` does not compress."""
_SPARE = 64 << 20
"""Bytes that any archive may unpack to: the programs in one are compressed, and small."""


def raised(limit: int) -> int:
    """A limit as the user has it, for files of unusual size.

    Args:
        limit: bytes, pixels or entries.

    Raises:
        ConfigError: the variable is no number of at least 1.
    """
    text = os.environ.get(VARIABLE, "1")
    try:
        factor = float(text)
        if not 1 <= factor <= 1e6:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{VARIABLE} is '{text[:40]}', expected a factor from 1 to a million, such as 2; set "
            "it so, or take it out of the environment"
        ) from None
    return int(limit * factor)


def read_bounded(path: Path, limit: int) -> bytes | None:
    """Read a whole file; None where it has more bytes than a limit as the user has it.

    Args:
        path: of the file.
        limit: bytes, before they are raised.

    Raises:
        ConfigError: see `raised`.
        OSError: the file cannot be read.
    """
    most = raised(limit)
    with path.open("rb") as file:
        content = file.read(most + 1)
    return None if len(content) > most else content


def unpacked_bytes(path: Path) -> int:
    """Bytes that a zip archive says it unpacks to; the size of any other file.

    Raises:
        OSError: the file cannot be read.
        zipfile.BadZipFile: the directory of the archive is damaged.
    """
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        return size
    with zipfile.ZipFile(path) as archive:
        return max(size, sum(entry.file_size for entry in archive.infolist()))


def require_no_bomb(path: Path) -> None:
    """Refuse an archive of weights that unpacks to far more than it has.

    Raises:
        ArtifactError: it does; what is damaged otherwise is left to whoever reads it.
    """
    try:
        found, size = unpacked_bytes(path), path.stat().st_size
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return
    most = raised(MAX_EXPANSION * size + _SPARE)
    if found > most:
        raise ArtifactError(
            f"{path}: its {size} bytes unpack to {found}, expected at most {most} of a file of "
            f"weights, which is not compressed; fetch it again, or, {HOW_TO_RAISE}"
        )
