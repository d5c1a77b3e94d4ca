"""Registry of the runs in a workspace: those of the same settings work there side by side."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pcdistill.atomic_io import remove_stale_temporaries
from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_to_dict
from pcdistill.pipeline.heartbeat import TAKEOVER, Heartbeat, Watch, touch_mark
from pcdistill.pipeline.unit_claims import UnitClaims
from pcdistill.pipeline.workspace import Workspace
from pcdistill.processes import ProcessName, own_name

_GATE = "gate"
"""Held for a moment by whoever looks around, so that of two runs that begin at once one does."""
_WATCH = 12.0
"""Seconds in which the file of a living run is touched, where locks tell nothing."""
_READ_TRIES = 5
"""How often a file is read that is just being written."""
_READ_PAUSE = 0.02
"""Seconds between."""
_MACHINE = {
    "run": ("workspace", "title"),
    "ingest": ("path", "train_list", "validation_list"),
    "lift": ("batch", "workers"),
    "distill": ("device", "engine", "pretrained"),
}
"""Settings that may differ between the machines of one run: where files lie, what computes."""


@dataclass(frozen=True)
class RunEntry:
    """A run that works in a workspace: process, settings, what it works on."""

    name: ProcessName
    settings: str
    """Digest of the settings that all runs in a workspace share."""
    since: str
    session: str = ""
    """Shared by runs that work at the same time, and by those that join them."""
    shard: tuple[int, int] = (0, 1)
    """(i, n) of `--shard i/n`; (0, 1) is a whole run."""
    stages: tuple[str, ...] = ()
    """Those that it works on, in order, without those that it has left behind."""
    locked: bool = False
    """Whether its file is held by flock; some file systems have none."""

    def makes(self, stage: str, number: int) -> bool:
        """Whether it works on a unit, given by its number among those of the stage, or will."""
        return stage in self.stages and number % self.shard[1] == self.shard[0]


class JoinedRun:
    """This run among those that work in a workspace."""

    def __init__(self, workspace: Workspace, path: Path, own: RunEntry, handle: int) -> None:
        self._path = path
        self._own = own
        self._handle = handle
        self._watch = Watch()
        self._beating = Heartbeat()
        self._beating.add(handle)
        self.claims = UnitClaims(workspace, self._beating)

    @property
    def session(self) -> str:
        """Shared by runs that work at the same time, and by those that join them."""
        return self._own.session

    @property
    def is_first(self) -> bool:
        """Whether no other run worked there when this one began."""
        return self._path.stem.endswith(f".{self.session}")

    def leave_behind(self, stage: str) -> None:
        """Tell others that this run works on a stage, or those before it, no more."""
        stages = self._own.stages
        if stage in stages:
            self._own = replace(self._own, stages=stages[stages.index(stage) + 1 :])
            _write(self._handle, self._own)

    def maker(self, stage: str, number: int) -> ProcessName | None:
        """A run that works on a unit or will do so, given by its number; None where none does.

        A file that stays untouched for as long as this run watched it is that of a dead run.
        """
        for path in _entries(self._path.parent):
            if path == self._path:
                continue
            looked = _look(path)
            if looked is None or not looked.entry.makes(stage, number):
                continue
            silent = self._watch.silence(path.name, looked.mark) > TAKEOVER
            if looked.lives or (looked.lives is None and not silent):
                return looked.entry.name
        return None

    def end(self) -> None:
        """Give back all claims and leave."""
        self._beating.stop()
        self.claims.give_back_all()
        self._beating.remove(self._handle)
        self._path.unlink(missing_ok=True)
        os.close(self._handle)


@contextmanager
def joined_workspace(
    workspace: Workspace,
    config: RunConfig,
    shard: tuple[int, int] = (0, 1),
    stages: Sequence[str] = (),
) -> Iterator[JoinedRun]:
    """Work in a workspace for the length of the block; what a killed run left holds nobody up.

    The first of several runs removes what killed ones left: their claims, and half-written files
    of this machine.

    Args:
        workspace: its folder is there.
        config: of the run; runs of different settings do not go together.
        shard: (i, n).
        stages: names of those that the run works on.

    Raises:
        ConfigError: a run with other settings works there.
        OSError: nothing can be written there.
    """
    folder = workspace.running
    folder.mkdir(exist_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    token = secrets.token_hex(4)
    own = RunEntry(own_name(), _digest(config), now, token, shard, tuple(stages))
    path = folder / f"{own.name.host}.{own.name.process}.{token}.json"
    with _gate(folder):
        other = _find_living(folder)
        if other is not None and other.settings != own.settings:
            raise ConfigError(_refusal(workspace.root, other))
        if other is None:
            shutil.rmtree(workspace.claims, ignore_errors=True)
            remove_stale_temporaries(workspace.root)
        else:
            own = replace(own, session=other.session)
        handle = _make(path, own)
    joined = JoinedRun(workspace, path, own, handle)
    try:
        yield joined
    finally:
        joined.end()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _find_living(folder: Path) -> RunEntry | None:
    """Find a run that works; files of dead ones that are come across go.

    Runs that work at the same time have the same settings, so that one tells of all. Where locks
    tell nothing, files are watched until one is touched.
    """
    end = time.monotonic() + _WATCH
    marks: dict[Path, tuple[int, int]] = {}
    doubtful = _entries(folder)
    while doubtful:
        is_late = time.monotonic() > end
        for path in list(doubtful):
            looked = _look(path)
            if looked is not None and looked.lives is not False:
                if looked.lives or looked.mark != marks.setdefault(path, looked.mark):
                    return looked.entry
                if not is_late:
                    continue
            path.unlink(missing_ok=True)
            doubtful.remove(path)
        if doubtful:
            time.sleep(_WATCH / 50)
    return None


class _Look(NamedTuple):
    entry: RunEntry
    lives: bool | None
    """None where only watching its file can tell."""
    mark: tuple[int, int]


def _look(path: Path) -> _Look | None:
    """Read the entry of a run; None where it is not there any more.

    A lock that is held says that the run lives. One that could be had says that it ended, if it is
    of this machine: locks are not passed on between machines everywhere.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        mark = touch_mark(handle)
        entry = _read(handle, path)
        try:
            free = _lock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _Look(entry, True, mark)
    finally:
        os.close(handle)
    ended = entry.name.is_gone or (entry.name.is_here and free and entry.locked)
    return _Look(entry, False if ended else None, mark)


def _read(handle: int, path: Path) -> RunEntry:
    for _ in range(_READ_TRIES):
        try:
            told = json.loads(os.pread(handle, 1 << 16, 0))
            lists = {"shard": tuple(told["shard"]), "stages": tuple(told["stages"])}
            return RunEntry(**{**told, **lists, "name": ProcessName(*told["name"])})
        except (ValueError, OverflowError, TypeError, KeyError):  # just being written, or not by us
            time.sleep(_READ_PAUSE)
    host, _, process = path.name.removesuffix(".json").rpartition(".")[0].rpartition(".")
    number = int(process) if process.isdecimal() else 0
    return RunEntry(ProcessName(host, "", number), "", "just now")


def _make(path: Path, entry: RunEntry) -> int:
    """Write an entry and lock its file; returns the open file, with which the lock ends."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        _write(handle, replace(entry, locked=_lock(handle, fcntl.LOCK_EX)))
    except OSError:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    return handle


def _write(handle: int, entry: RunEntry) -> None:
    content = json.dumps(asdict(entry)).encode()
    os.pwrite(handle, content, 0)
    os.ftruncate(handle, len(content))


def _lock(handle: int, operation: int) -> bool:
    """Lock a file; False where the file system has no locks.

    Raises:
        BlockingIOError: another process holds it, and the operation does not wait.
    """
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    handle = os.open(folder / _GATE, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        _lock(handle, fcntl.LOCK_EX)  # without locks the files are watched instead
        yield
    finally:
        os.close(handle)


def _digest(config: RunConfig) -> str:
    sections = config_to_dict(config)
    for section, keys in _MACHINE.items():
        for key in keys:
            del sections[section][key]
    for key in ("label_set", "vocabulary"):  # files have another path elsewhere
        sections["run"][key] = Path(sections["run"][key]).name
    return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:16]


def _refusal(root: Path, other: RunEntry) -> str:
    return (
        f"{root}: another run works there ({other.name} since {other.since}) with other settings; "
        "wait until it has ended, or give this one a folder of its own with --workspace"
    )
