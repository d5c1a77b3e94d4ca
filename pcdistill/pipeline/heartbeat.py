"""Heartbeat of files: who holds one touches it, and others watch whether it still does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import NamedTuple

BEAT = 5.0
"""Seconds after which files that are held are touched again."""
TAKEOVER = 120.0
"""Seconds of silence after which the claim of a run on another machine is taken over.

It is longer than network file systems keep what they know of a file, and than a process works
without a moment for other threads."""


class Heartbeat:
    """One thread that touches all open files it was given, until it is stopped."""

    def __init__(self) -> None:
        self._handles: set[int] = set()
        self._change = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, handle: int) -> None:
        """Touch an open file from now on."""
        with self._change:
            self._handles.add(handle)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()

    def remove(self, handle: int) -> None:
        """Touch an open file no more; it may be closed then."""
        with self._change:
            self._handles.discard(handle)

    def stop(self) -> None:
        """Touch nothing more."""
        self._ended.set()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with self._change:
                for handle in self._handles:
                    with suppress(OSError):  # it was deleted, or the disk is away for a moment
                        os.utime(handle)


class _Look(NamedTuple):
    mark: Hashable
    since: float


class Watch:
    """How long marks of files stay as they are, by this process's own clock alone.

    Clocks of two machines are never compared, and a clock that jumps changes nothing.

    Args:
        clock: seconds since some moment, never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Look] = {}

    def silence(self, name: str, mark: Hashable) -> float:
        """Seconds since a mark was first seen as it is now.

        Args:
            name: of what is watched.
            mark: anything that changes when somebody touches it.
        """
        now = self._clock()
        known = self._seen.get(name)
        if known is None or known.mark != mark:
            known = self._seen[name] = _Look(mark, now)
        return now - known.since

    def forget(self, name: str) -> None:
        """Watch something no more."""
        self._seen.pop(name, None)


def touch_mark(handle: int) -> tuple[int, int]:
    """Inode and modification time, ns, of an open file.

    Some network file systems look anew only when a file is opened.
    """
    found = os.fstat(handle)
    return found.st_ino, found.st_mtime_ns
