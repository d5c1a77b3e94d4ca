"""Locks of a workspace: a whole run is alone in it, the shards of one run work side by side."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pcdistill.atomic_io import is_running
from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_to_dict

FOLDER = "running"
"""Below the workspace: one file for each run that works there, held by flock while it does."""
_GATE = "gate"
"""Held for a moment by whoever looks around, so that of two runs that begin at once one does."""
_BEAT = 5.0
"""Seconds after which a run touches its file again."""
_WATCH = 12.0
"""Seconds in which the file of a living run is touched, where locks tell nothing."""
_MACHINE = {
    "run": ("workspace", "title"),
    "ingest": ("path", "train_list", "validation_list"),
    "lift": ("batch", "workers"),
    "distill": ("device", "engine", "pretrained"),
}
"""Settings that may differ between the machines of one run: where files lie, what computes."""


@dataclass(frozen=True)
class Claim:
    """Entry of a run that works in a workspace: process, machine, shard."""

    host: str
    process: int
    shard: tuple[int, int]
    """(i, n) of `--shard i/n`; (0, 1) is a whole run."""
    settings: str
    """Digest of the settings that all shards of one run share."""
    since: str
    locked: bool = False
    """Whether its file is held by flock; some file systems have none."""

    def allows(self, other: Claim) -> bool:
        """Whether both may work at once: different shards of the same number, and one run."""
        return (
            self.shard[1] == other.shard[1]
            and self.shard[0] != other.shard[0]
            and self.settings == other.settings
        )


@contextmanager
def claimed_workspace(root: Path, config: RunConfig, shard: tuple[int, int]) -> Iterator[None]:
    """Claim a workspace for the length of the block; what a killed run left holds nobody up.

    Args:
        root: an existing folder.
        config: of the run; shards of different runs do not go together.
        shard: (i, n).

    Raises:
        ConfigError: another run works there.
        OSError: nothing can be written there.
    """
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    own = Claim(socket.gethostname(), os.getpid(), shard, _digest(config), now)
    path = folder / f"{own.host}.{own.process}.{shard[0]}-of-{shard[1]}.json"
    with _gate(folder):
        for other in sorted(folder.glob("*.json")):
            claim = _living(other)
            if claim is None:
                other.unlink(missing_ok=True)
            elif not own.allows(claim):
                raise ConfigError(_refusal(root, own, claim))
        handle = _make(path, own)
    ended = threading.Event()
    threading.Thread(target=_touch, args=(path, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        path.unlink(missing_ok=True)
        os.close(handle)


def _make(path: Path, claim: Claim) -> int:
    """Write a claim and lock its file; returns the open file, with which the lock ends."""
    handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o666)
    try:
        told = vars(replace(claim, locked=_lock(handle)))
        os.write(handle, json.dumps(told).encode())
    except OSError:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    return handle


def _digest(config: RunConfig) -> str:
    sections = config_to_dict(config)
    for section, keys in _MACHINE.items():
        for key in keys:
            del sections[section][key]
    for key in ("label_set", "vocabulary"):  # files have another path elsewhere
        sections["run"][key] = Path(sections["run"][key]).name
    return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:16]


def _refusal(root: Path, own: Claim, other: Claim) -> str:
    number, count = other.shard
    shard = f", shard {number}/{count}" if count > 1 else ""
    who = f"process {other.process} on {other.host} since {other.since}{shard}"
    fix = "wait until it has ended, or give this one a folder of its own with --workspace"
    if own.shard[1] > 1 and count > 1 and own.shard != other.shard:
        fix = "shards work side by side where they have the same settings and one number n of i/n"
    return f"{root}: another run works there ({who}); {fix}"


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    handle = os.open(folder / _GATE, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        with suppress(OSError):  # no locks here: the files are then watched instead
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock a file; False where the file system has no locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _living(path: Path) -> Claim | None:
    """Read the claim of a run that still works; None where it ended, however it did.

    A lock that is held says so. One that could be had says that its owner ended, if it is of this
    machine: locks are not passed on between machines everywhere. Else its file is watched.
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    except PermissionError:  # somebody else's
        handle = os.open(path, os.O_RDONLY)
    try:
        claim = _read(handle, path)
        try:
            free = _lock(handle)
        except BlockingIOError:
            return claim
        is_here = claim.host == socket.gethostname()
        if is_here and ((free and claim.locked) or not is_running(str(claim.process))):
            return None
    finally:
        os.close(handle)
    return claim if _is_touched(path) else None


def _read(handle: int, path: Path) -> Claim:
    try:
        told = json.loads(os.pread(handle, 1 << 16, 0))
        return Claim(**{**told, "shard": tuple(told["shard"])})
    except (ValueError, TypeError, KeyError):  # not yet written, or not by us
        host, _, rest = path.name.removesuffix(".json").rpartition(".")[0].rpartition(".")
        return Claim(host, int(rest) if rest.isdecimal() else 0, (0, 1), "", "just now")


def _is_touched(path: Path) -> bool:
    """Watch a file for some seconds: whether somebody touches it."""
    end = time.monotonic() + _WATCH
    before = _mark(path)
    while time.monotonic() < end:
        time.sleep(_WATCH / 50)
        if _mark(path) != before:
            return _mark(path) is not None
    return False


def _mark(path: Path) -> int | None:
    """Modification time, ns; of the open file, as some network file systems only then look anew."""
    try:
        with path.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        with suppress(OSError):
            os.utime(path)
