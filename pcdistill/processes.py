"""Names of processes, by which those that share a folder know each other and find the dead."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple


class ProcessName(NamedTuple):
    """One process of one machine."""

    host: str
    machine: str
    """Digits that tell machines and containers of one host name apart, and what was before a
    restart; empty where the system has none."""
    process: int

    @property
    def is_here(self) -> bool:
        """Whether its number means something to this process."""
        return (self.host, self.machine) == (socket.gethostname(), machine_mark())

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; nothing is known of other machines."""
        return self.is_here and not is_running(str(self.process))

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def own_name() -> ProcessName:
    """Name of this process."""
    return ProcessName(socket.gethostname(), machine_mark(), os.getpid())


@cache
def machine_mark() -> str:
    """Six digits of the running system and of the space of its process numbers.

    Containers of one machine may have one host name and other process numbers, copies of one
    virtual machine the same name and numbers.
    """
    known = ""
    with suppress(OSError):
        known += Path("/proc/sys/kernel/random/boot_id").read_text()
        known += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(known.encode()).hexdigest()[:6] if known else ""


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
    return not _has_only_an_entry(process)


def _has_only_an_entry(process: str) -> bool:
    """Whether a process ended and nobody has asked yet how; containers without `init` keep such."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except (OSError, ValueError):
        return False
    return text.rpartition(")")[2].split()[:1] == ["Z"]
