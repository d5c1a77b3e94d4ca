"""A command line as a process of its own, that a test may do anything to."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from pcdistill.cli.app import main

LIMIT = 300.0
"""Seconds after which a test gives up; no test waits for them."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.warm"])


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    """Exit status; negative where a signal ended it."""
    output: str
    errors: str

    @property
    def sentence(self) -> str:
        """The one line on stderr.

        Raises:
            AssertionError: there are more, or none.
        """
        assert "Traceback" not in self.output + self.errors, self.errors
        (line,) = self.errors.splitlines()
        return line


class Child:
    """A running `pcdistill`, in a process group of its own as from a shell."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[object],
        prepare: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Begin.

        Args:
            folder: for what it prints.
            arguments: command line.
            prepare: called in the process first; a function of a module, or a partial of one.
            environment: of a process that is not forked of a warm one, but started by a shell.
        """
        self._output, self._errors = folder / "stdout.txt", folder / "stderr.txt"
        words = [str(word) for word in arguments]
        for file in (self._output, self._errors):
            file.write_text("")
        if environment is None:
            files = (str(self._output), str(self._errors))
            forked = _FORKS.Process(target=_main, args=(words, *files, prepare))
            forked.start()
            self._forked, self._started = forked, None
            self.pid = forked.pid or 0
        else:
            with self._output.open("w") as output, self._errors.open("w") as errors:
                self._started = subprocess.Popen(
                    [sys.executable, "-m", "pcdistill.cli", *words],
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    start_new_session=True,
                )
            self._forked = None
            self.pid = self._started.pid

    @property
    def printed(self) -> str:
        """What it said until now."""
        return self._output.read_text()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        if self._forked is not None:
            return self._forked.is_alive()
        return self._started is not None and self._started.poll() is None

    def wait_for(self, pattern: str) -> None:
        """Wait until it has said something, or has ended.

        Args:
            pattern: regular expression.

        Raises:
            AssertionError: it ended without.
        """
        end = time.monotonic() + LIMIT
        while not re.search(pattern, self.printed):
            assert time.monotonic() < end, self.printed
            assert self.is_running or re.search(pattern, self.printed), self.end().errors
            time.sleep(0.002)

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send it a signal, or to its whole group, as a terminal does."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:
            assert not self.is_running

    def end(self) -> Ended:
        """Wait for its end."""
        if self._forked is not None:
            self._forked.join(LIMIT)
            status = self._forked.exitcode
        else:
            assert self._started is not None
            status = self._started.wait(LIMIT)
        assert status is not None, f"it does not end: {self.printed}"
        return Ended(status, self.printed, self._errors.read_text())


def _main(words: list[str], output: str, errors: str, prepare: Callable[[], None] | None) -> None:
    os.setsid()
    # a shell that starts the tests in the background has them pass over Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, output), (2, errors)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    # torch leaves its pool of threads behind in a fork: one thread makes it anew, before several do
    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = ["pcdistill", *words]
    main()
