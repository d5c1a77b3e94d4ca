"""Atomic writes of files and folders, which appear under their name only when complete."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from pcdistill.errors import ConfigError
from pcdistill.processes import is_running, machine_mark

_KINDS = ("part", "partial", "replaced")
_EXCHANGES = 100
"""How often a folder is put in the place of one that another writer has just put there."""


def require_readable(path: Path) -> None:
    """Open a file and close it again, because libraries call missing whatever they cannot open.

    Raises:
        FileNotFoundError: it is missing.
        OSError: it is there, or may be, but cannot be read.
    """
    with path.open("rb"):
        pass


def make_folder(path: Path, setting: str) -> None:
    """Make a folder to write to, unless it is there.

    Args:
        path: the folder; those above it are made too.
        setting: what named it, such as --to.

    Raises:
        ConfigError: it is a file, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        what = "a file" if path.exists() else "a link that leads nowhere"
        raise ConfigError(f"{setting}: {path} is {what}, expected a folder; name another") from None
    except OSError as error:
        raise ConfigError(
            f"{setting}: the folder {path} cannot be made ({error.strerror}); name another"
        ) from None


@contextmanager
def atomic_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path`; when the block ends well it becomes `path`.

    After an exception nothing is left.

    Args:
        path: the file; folders above it are made.
        flush: have the content on the disk before the name changes, and the name before this ends.
            Without, a machine that loses its power may leave the file empty, or the older one.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_writer()}.part")
    temporary.unlink(missing_ok=True)  # a link that somebody left there would be followed
    try:
        yield temporary
        _give_usual_mode([temporary])
        if flush:
            _flush(temporary)
        temporary.replace(path)
        if flush:
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder`; when the block ends well it takes its place.

    An older folder of that name is there until everything new is on the disk, and is restored if
    the exchange fails. Of several writers at once the last one's folder stays, whole. Before a
    process writes its first folder in a place, what killed writers of this machine left there is
    removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder.parent.absolute())
    temporary = folder.with_name(f".{folder.name}.{_writer()}.partial")
    replaced = folder.with_name(f".{folder.name}.{_writer()}.replaced")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        _give_usual_mode([file for file in temporary.rglob("*") if file.is_file()])
        for place, _, files in os.walk(temporary):
            for file in files:
                _flush(Path(place) / file)
            _flush(Path(place))
        _exchange(temporary, folder, replaced)
        _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _exchange(temporary: Path, folder: Path, replaced: Path) -> None:
    """Rename `temporary` to `folder`; what stands there goes to `replaced`."""
    for attempt in range(_EXCHANGES):
        shutil.rmtree(replaced, ignore_errors=True)
        with suppress(FileNotFoundError):  # nothing is there, or another writer took it away
            folder.rename(replaced)
        try:
            temporary.rename(folder)
        except OSError as error:
            others = error.errno in (errno.ENOTEMPTY, errno.EEXIST)  # another writer was quicker
            if others and attempt + 1 < _EXCHANGES:
                continue
            if replaced.exists() and not folder.exists():
                replaced.rename(folder)
            raise
        return


def _give_usual_mode(files: Sequence[Path]) -> None:
    """Give files the user's usual permissions; some writers let nobody read them (0600).

    The umask cannot be asked for without setting it, so a new file beside them says what is usual.
    """
    closed = [file for file in files if file.exists() and file.stat().st_mode & 0o777 == 0o600]
    if not closed:
        return
    probe = closed[0].with_name(f".mode.{_writer()}.part")
    descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        usual = os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    for file in closed:
        file.chmod(usual)


def remove_stale_temporaries(folder: Path) -> int:
    """Delete what killed writers of this machine left half-written below `folder`.

    What was written under this host's name before the machine was started anew, or in another
    container of it, goes too: no other process may be writing below `folder` there.

    Returns:
        How many files and folders went; those of living processes and other machines stay.
    """
    removed = 0
    for place, folders, files in os.walk(folder):
        for name in [name for name in folders if _is_stale(name)]:
            shutil.rmtree(Path(place) / name, ignore_errors=True)
            folders.remove(name)
            removed += 1
        for name in filter(_is_stale, files):
            (Path(place) / name).unlink(missing_ok=True)
            removed += 1
    return removed


def _is_stale(name: str) -> bool:
    """Whether a file or folder is a temporary of this host, and none of a living process."""
    writer = _writer_of(name)
    if writer is None:
        return False
    mark, process = writer
    return mark not in ("", machine_mark()) or not is_running(process)


def _writer_of(name: str) -> tuple[str, str] | None:
    """Mark of the machine and process of a temporary of this host; None for any other name."""
    rest, dot, kind = name.rpartition(".")
    if not dot or kind not in _KINDS or not name.startswith("."):
        return None
    stem, found, writer = rest.rpartition(f".{socket.gethostname()}.")
    mark, _, process = writer.rpartition(".")
    return (mark, process) if stem and found else None


def _writer() -> str:
    return f"{socket.gethostname()}.{machine_mark()}.{os.getpid()}"


@cache  # a folder may have many others beside it: they are listed once
def _remove_leftovers(place: Path) -> None:
    for entry in os.scandir(place):
        writer = _writer_of(entry.name)
        if writer is None or entry.name.endswith(".part"):
            continue
        mark, process = writer
        if mark == machine_mark() and not is_running(process):
            shutil.rmtree(entry.path, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
