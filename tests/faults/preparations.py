"""What is done to a process before its command line begins, so that a fault meets it later."""

from __future__ import annotations

import ctypes
import os
import pkgutil
import resource
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from pcdistill.pipeline import disk_space
from tests.file_modes import modes_that_hold

_KEPT = ExitStack()
"""What holds to the end of the process."""
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_READ_ONLY, _PRIVATE, _RECURSIVE = 1, 1 << 18, 1 << 14


def let_modes_hold() -> None:
    """Take from root what it may beyond the modes of files."""
    _KEPT.enter_context(modes_that_hold())


def limit_files(size: int) -> None:
    """Let no file be longer than some bytes, as a quota does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fill_disk_later(folder: Path) -> None:
    """Report much free space now, which others have taken when the run writes."""
    usage = disk_space.shutil.disk_usage(folder)
    plenty = usage._replace(free=1 << 40)
    mock.patch.object(disk_space.shutil, "disk_usage", return_value=plenty).start()


def print_to(file: Path) -> None:
    """Let stdout be a named pipe."""
    os.dup2(os.open(file, os.O_WRONLY), 1)


def attach_terminal(name: str, *, nohup: bool) -> None:
    """Let this process be what a terminal began, so that it hears it close; stderr stays a file."""
    if nohup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal = os.open(name, os.O_RDWR)
    for stream in range(2):
        os.dup2(terminal, stream)


def shift_clock(seconds: float) -> None:
    """Let this process believe that it is so much later."""
    true_time, true_local = time.time, time.localtime
    time.time = lambda: true_time() + seconds
    time.localtime = lambda moment=None: true_local(time.time() if moment is None else moment)


def lose_gpu_memory(name: str, times: int) -> None:
    """Raise what a full GPU raises the first times that a function is called.

    Args:
        name: of the function, with its module and class.
        times: how often.
    """
    true: Callable[..., Any] = pkgutil.resolve_name(name)
    left = [times]

    def call(*values: Any, **named: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")
        return true(*values, **named)

    mock.patch(name, call).start()


def without_shared_memory() -> None:
    """Take away /dev/shm: a read-only, empty one lies over it, in this process and its children.

    Raises:
        OSError: this process may not mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for source, target, kind, flags in (
        (b"none", b"/", None, _RECURSIVE | _PRIVATE),
        (b"none", b"/dev/shm", b"tmpfs", _READ_ONLY),
    ):
        if libc.mount(source, target, kind, flags, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
