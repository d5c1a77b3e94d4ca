"""Atomic writes of files and folders, which appear under their name only when complete."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pcdistill.errors import ConfigError

_KINDS = ("part", "partial", "replaced")


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
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; when the block ends well it becomes `path`.

    The content is on the disk before the name changes; after an exception nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_writer()}.part")
    temporary.unlink(missing_ok=True)  # a link that somebody left there would be followed
    try:
        yield temporary
        _give_usual_mode([temporary])
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder`; when the block ends well it takes its place.

    An older folder of that name is there until everything new is on the disk, and is restored if
    the exchange fails. What killed writers of this machine left behind is removed first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
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
        if folder.exists():
            folder.rename(replaced)
        try:
            temporary.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            raise
        _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _give_usual_mode(files: Sequence[Path]) -> None:
    """Give files the user's usual permissions; some writers let nobody read them (0600).

    The umask cannot be asked for without setting it, so a new file beside them says what is usual.
    """
    closed = [file for file in files if file.exists() and file.stat().st_mode & 0o777 == 0o600]
    if not closed:
        return
    probe = closed[0].with_name(f".{_writer()}.mode.part")
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

    Returns:
        How many files and folders went; those of living processes and other machines stay.
    """
    removed = 0
    for kind in _KINDS:
        for left in list(folder.rglob(f".*.{kind}")):
            stem, host, process = _split(left.name, kind)
            if stem and host == socket.gethostname() and not is_running(process):
                _delete(left)
                removed += 1
    return removed


def _split(name: str, kind: str) -> tuple[str, str, str]:
    """Name, host and process of a temporary name; the host may have dots of its own."""
    host = socket.gethostname()
    stem, found, process = name.removesuffix(f".{kind}").rpartition(f".{host}.")
    return stem, host if found else "", process


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _writer() -> str:
    return f"{socket.gethostname()}.{os.getpid()}"


def _remove_leftovers(folder: Path) -> None:
    for kind in ("partial", "replaced"):
        prefix, suffix = f".{folder.name}.{socket.gethostname()}.", f".{kind}"
        for left in folder.parent.iterdir():
            process = left.name.removeprefix(prefix).removesuffix(suffix)
            if left.name == f"{prefix}{process}{suffix}" and not is_running(process):
                shutil.rmtree(left, ignore_errors=True)


def is_running(process: str) -> bool:
    """Whether a process of this machine lives, given by its number; True for what is no number."""
    if not process.isdecimal():
        return True  # not a name of ours: left alone
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
