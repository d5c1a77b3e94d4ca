"""One small run of the demo, shared by the tests that look at what it left."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from pcdistill.cli import run_command

TINY = (
    "ingest.train=2",
    "ingest.validation=1",
    "ingest.frames=16",
    "synthesize.images=2",
    "distill.students=[point,superpoint,superpoint+ensemble]",
    "fuse.store_point_features=true",
    "distill.epochs=4",
    "distill.voxel_size=0.1",
    "distill.width=0.25",
)


def pcdistill(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Carry out a command line in this process, which spares the imports of so many runs.

    One process works, unless --jobs says otherwise.
    """
    words = [str(argument) for argument in arguments]
    if words[0] in ("demo", "run") and "--jobs" not in words:
        words[1:1] = ["--jobs", "1"]
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="160"),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        status = run_command(words)
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


class Ran(NamedTuple):
    """A command that was carried out, its output in one line."""

    status: int
    output: str


@pytest.fixture(name="pcdistill")
def in_one_line():
    """Carries out a command line in this process; no mistake may end in a traceback."""

    def command(*arguments: object) -> Ran:
        ran = pcdistill(*arguments)
        assert "Traceback" not in ran.stdout + ran.stderr
        return Ran(ran.returncode, re.sub(r"\s+", " ", ran.stdout + ran.stderr))

    return command


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """Workspace of a finished demo on three small homes, made as a user makes it.

    The first of all processes of the tests that needs it makes it; the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    workspace, printed = shared / "demo" / "run", shared / "demo" / "stdout.txt"
    workspace.mkdir(parents=True, exist_ok=True)
    with (shared / "demo" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            command = [sys.executable, "-m", "pcdistill.cli", "demo", "--workspace", workspace]
            finished = subprocess.run(
                [*command, "--jobs", "2", "--set", *TINY],
                env={**os.environ, "COLUMNS": "160"},
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
            assert finished.returncode == 0, finished.stdout + finished.stderr
            (workspace / "stdout.txt").write_text(finished.stdout)
            printed.write_text(finished.stdout)
    return workspace


def processes_in(mark: str) -> list[int]:
    """Numbers of the processes that have a file open whose path has `mark` in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            opened = [os.readlink(link) for link in (path / "fd").iterdir()]
        except OSError:  # it has ended meanwhile
            continue
        if any(mark in name for name in opened):
            found.append(int(path.name))
    return found
