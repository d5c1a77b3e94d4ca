"""SIGTERM, noted instead of obeyed at once, so that work can be put away first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a process that ended because of SIGTERM."""


class StopSignal:
    """Whether SIGTERM came."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def noted_sigterm() -> Iterator[StopSignal]:
    """Note SIGTERM while the block runs; who reads it ends with `SystemExit(TERMINATED)`."""
    noted = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        noted.came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, before)
    if noted.came:
        signal.raise_signal(signal.SIGTERM)  # too late for the block to heed it
