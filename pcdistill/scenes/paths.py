"""Look-up of files and folders that may be missing or unreadable."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pcdistill.errors import SceneError

_LEFT_OUT: ContextVar[list[SceneError] | None] = ContextVar("unreadable places", default=None)


@contextmanager
def leaving_out_unreadable() -> Iterator[list[SceneError]]:
    """Inside, places that may not be read count as empty; the list tells which there were.

    For looking around in a folder that has more in it than the scan.
    """
    left_out: list[SceneError] = []
    token = _LEFT_OUT.set(left_out)
    try:
        yield left_out
    finally:
        _LEFT_OUT.reset(token)


def is_existing_file(path: Path) -> bool:
    """Whether `path` is a file, also where its name is one no file can have.

    Raises:
        SceneError: that cannot be told, because a folder above it may not be read.
    """
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, also where its name is one no folder can have.

    Raises:
        SceneError: that cannot be told, because a folder above it may not be read.
    """
    return stat.S_ISDIR(_mode(path))


def entries_of(folder: Path) -> list[Path]:
    """What is in a folder, in the order of names; nothing where there is no such folder.

    Raises:
        SceneError: it may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        _refuse(folder, error)
        return []


def require_readable(path: Path) -> None:
    """Refuse a file or folder that is there and may not be read.

    Raises:
        SceneError: it may not be read.
    """
    try:
        if is_folder(path):
            os.scandir(path).close()
            is_existing_file(path / "scene.json")  # may its entries be looked at?
        elif is_existing_file(path):
            path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> SceneError:
    """What to say of a file or folder that the system does not let us read."""
    return SceneError(
        f"{path}: cannot be read ({error.strerror or error}), expected a scan of yours; "
        "give yourself the right to read it"
    )


def _mode(path: Path) -> int:
    """The kind of what is at `path`; 0 where there is nothing."""
    try:
        return path.stat().st_mode
    except PermissionError as error:
        _refuse(path, error)
    except (OSError, ValueError):  # no such file, or a name that no file can have
        pass
    return 0


def _refuse(path: Path, error: OSError) -> None:
    left_out = _LEFT_OUT.get()
    if left_out is None:
        raise unreadable(path, error) from error
    left_out.append(unreadable(path, error))


def path_inside(folder: Path, name: str) -> Path | None:
    """The path below a folder that a file of a scan names; None where it leads out of the folder.

    What a capture names is opened, kept in the workspace and shown. A path that is absolute, or
    climbs out by `..`, is not the capture's, wherever it leads. Links in the folder are followed:
    whoever owns the folder made them.

    Args:
        folder: of the scan.
        name: as the file has it, with slashes.
    """
    above = os.path.normpath(folder.absolute())
    found = os.path.normpath(os.path.join(above, name))
    inside = found.startswith(os.path.join(above, "")) and "\0" not in name
    return folder / name if inside else None
