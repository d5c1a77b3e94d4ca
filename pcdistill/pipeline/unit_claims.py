"""Claims of units: of all runs in a workspace, the one whose file is there works on the unit."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from pcdistill.pipeline import heartbeat
from pcdistill.pipeline.heartbeat import Heartbeat, Watch, touch_mark
from pcdistill.pipeline.workspace import Workspace, slug
from pcdistill.processes import ProcessName, own_name

_TRIES = 5
"""How often a claim is tried that changes hands while it is looked at."""


class _Found(NamedTuple):
    """What the file of a claim says."""

    path: Path
    token: str
    """Of this claim alone, whoever has the unit before or after."""
    holder: ProcessName
    mark: tuple[int, int]


class _Held(NamedTuple):
    path: Path
    token: str
    handle: int


class UnitClaims:
    """Claims of one run: a file for each unit that it works on, touched while it does.

    A file is made exclusively, so that one run has it. When its holder is known to have ended, or
    did not touch it for `TAKEOVER` seconds as this process saw, it has a successor: a file named by
    the token of the claim, made exclusively again, so that one of many takes over. Who has the unit
    is the last one in this chain. A holder that was only slow finds that its claim is lost.
    """

    def __init__(self, workspace: Workspace, beating: Heartbeat) -> None:
        self._root = workspace.claims
        self._beating = beating
        self._watch = Watch()
        self._held: dict[Path, _Held] = {}

    def take(self, stage: str, unit: str) -> ProcessName | None:
        """Claim a unit; returns who has it already, None where it is this run's now.

        Raises:
            OSError: no file can be written in the workspace.
        """
        first = self._path(stage, unit)
        holder = _UNKNOWN
        for _ in range(_TRIES):
            if self._make(first, first):
                return None
            chain = _follow(first)
            if not chain:
                continue  # it was given back meanwhile
            holder = chain[-1].holder
            if not self._is_left(chain[-1]):
                break
            if self._make(first, _successor(first, chain[-1])):
                if not self.is_lost(stage, unit):
                    return None
                self._release(first)  # the unit was given back, and claimed anew
        return holder

    def holder(self, stage: str, unit: str) -> ProcessName | None:
        """Who works on a unit, as far as is known; None where nobody does."""
        chain = _follow(self._path(stage, unit))
        return chain[-1].holder if chain and not self._is_left(chain[-1]) else None

    def is_lost(self, stage: str, unit: str) -> bool:
        """Whether another run took over what this one claimed."""
        first = self._path(stage, unit)
        chain, held = _follow(first), self._held.get(first)
        return held is None or not chain or chain[-1].token != held.token

    def give_back(self, stage: str, unit: str) -> None:
        """End the claim of a unit, if there is one."""
        self._release(self._path(stage, unit))

    def give_back_all(self) -> None:
        """End all claims of this run."""
        for path in list(self._held):
            self._release(path)

    def _path(self, stage: str, unit: str) -> Path:
        return self._root / stage / f"{slug(unit)}.json"

    def _make(self, first: Path, path: Path) -> bool:
        """Make the file of a claim, the first or a later one; False where there is one."""
        try:
            handle = _new_file(path)
        except FileExistsError:
            return False
        token = secrets.token_hex(8)
        try:
            os.write(handle, json.dumps([token, *own_name()]).encode())
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        self._held[first] = _Held(path, token, handle)
        self._beating.add(handle)
        return True

    def _release(self, first: Path) -> None:
        held = self._held.pop(first, None)
        if held is None:
            return
        self._beating.remove(held.handle)
        os.close(held.handle)
        chain = _follow(first)
        tokens = [link.token for link in chain]
        if tokens[-1:] == [held.token]:
            for link in chain:  # the first one first: without it the others mean nothing
                link.path.unlink(missing_ok=True)
        elif held.token not in tokens and (own := _look(held.path)) and own.token == held.token:
            held.path.unlink(missing_ok=True)  # it follows a claim that is no more

    def _is_left(self, found: _Found) -> bool:
        """Whether nobody works on a claimed unit any more."""
        if found.holder.is_gone:
            return True
        return self._watch.silence(str(found.path), found.mark) >= heartbeat.TAKEOVER


_UNKNOWN = ProcessName("another machine", "", 0)
"""Who wrote a file that cannot be read, because it is just being written, or not by us."""


def _new_file(path: Path) -> int:
    """Make a file, and the folder that it is in; returns it open.

    Raises:
        FileExistsError: another process has just made it.
        OSError: it cannot be made.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, flags, 0o666)


def _follow(first: Path) -> list[_Found]:
    """Read a claim and those that followed it; the last one counts."""
    chain: list[_Found] = []
    found = _look(first)
    while found is not None:
        chain.append(found)
        found = _look(_successor(first, found))
    return chain


def _successor(first: Path, found: _Found) -> Path:
    return first.with_name(f"{first.stem}.{found.token}.json")


def _look(path: Path) -> _Found | None:
    """Read a claim; None where it is not there."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        mark = touch_mark(handle)
        token, host, machine, process = json.loads(os.pread(handle, 1 << 12, 0))
        return _Found(path, str(token), ProcessName(str(host), str(machine), int(process)), mark)
    except (ValueError, OverflowError, TypeError):
        return _Found(path, f"{mark[0]:x}-{mark[1]:x}", _UNKNOWN, mark)
    finally:
        os.close(handle)
