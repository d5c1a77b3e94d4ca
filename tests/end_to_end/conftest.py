"""One small run of the demo, shared by the tests that look at what it left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pcdistill.cli import run_command

TINY = (
    "ingest.train=2",
    "ingest.validation=1",
    "ingest.frames=10",
    "synthesize.images=2",
    "distill.epochs=4",
    "distill.voxel_size=0.1",
    "distill.width=0.25",
)


def pcdistill(*arguments: object, folder: Path | None = None, **environment: str):
    """Run the command as a user would; returns the finished process with its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "pcdistill.cli", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


class Ran(NamedTuple):
    """A command that was carried out in this process."""

    status: int
    output: str


@pytest.fixture(name="pcdistill")
def in_this_process(capsys):
    """Carries out a command line in this process, which spares the imports of so many runs."""

    def command(*arguments: object) -> Ran:
        capsys.readouterr()
        status = run_command([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        return Ran(status, re.sub(r"\s+", " ", output.out + output.err))

    return command


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """Workspace of a finished demo on three small homes."""
    workspace = tmp_path_factory.mktemp("demo") / "run"
    finished = pcdistill("demo", "--workspace", workspace, "--jobs", 2, "--set", *TINY)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (workspace / "stdout.txt").write_text(finished.stdout)
    return workspace
