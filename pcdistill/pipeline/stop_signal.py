"""Signals that end a process: as an exception, or noted so that work can be put away first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a process that ended because of SIGTERM."""
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C; `kill` or a scheduler; a terminal that was closed."""
UNHEARD = 128 + 13
"""Exit status of a process that ended because nobody reads what it prints (13 is SIGPIPE)."""


_asked: list[BaseException] = []
"""What was raised because a signal came, in this process."""


class StoppedError(BaseException):
    """This process was asked to end; no handler of usual exceptions may keep it.

    Args:
        reason: such as "SIGTERM came".
        exit_status: of the process, as a shell gives it.
    """

    def __init__(self, reason: str, exit_status: int) -> None:
        super().__init__(reason, exit_status)
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"ended, because {self.args[0]}; the same command goes on where it was"


def stop_at_signals() -> None:
    """Raise `StoppedError`, or KeyboardInterrupt, where a signal asks this process to end.

    A second one ends it at once, and nothing is put away; but for SIGHUP, which a terminal that is
    closed may send twice. A signal that is ignored, as under nohup, stays so.
    """
    _asked.clear()
    for name in STOPPING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for name in STOPPING:
        other = getattr(signal, name, None)
        if other is not None and signal.getsignal(other) is _stop:
            signal.signal(other, signal.SIG_IGN if name == "SIGHUP" else signal.SIG_DFL)
    error: BaseException = KeyboardInterrupt()
    if number != signal.SIGINT:
        error = StoppedError(f"{signal.Signals(number).name} came", 128 + number)
    _asked.append(error)
    raise error


def heed_signals() -> None:
    """Raise once more what a signal raised: compiled code may have made another error of it."""
    if _asked:
        raise _asked[0]


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back signals that stop this process, where its main thread runs the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    caught = [number for number in numbers if callable(signal.getsignal(number))]
    before = {n: signal.signal(n, lambda number, frame: came.append(number)) for n in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


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
