"""How one of several processes that train together ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ENDS = {
    "what it did": ("return 0", 0, ""),
    "an expected error": ("raise ConfigError('a reason')", 2, "error: a reason\n"),
    "an error of the first process": ("raise SystemExit(2)", 2, ""),
    "help": ("raise SystemExit", 0, ""),
    "Ctrl-C": ("raise KeyboardInterrupt", 130, "interrupted; the same command goes on"),
    "an unforeseen error": ("raise ValueError('a bug')", 1, "ValueError: a bug\n"),
}
SCRIPT = """
import atexit
from pcdistill.cli import distill_ranks
from pcdistill.errors import ConfigError

def work(*arguments, **options):
    print("told")
    {ends}

distill_ranks.tyro.cli = work
atexit.register(print, "tidied up")
distill_ranks.main()
"""


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("world", [1, 2])
def test_one_of_several_ends_without_tidying_up(end, world):
    """Threads of gloo abort a process that takes its time to end after another one has."""
    ends, status, words = ENDS[end]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(ends=ends)],
        env={**os.environ, "WORLD_SIZE": str(world)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == status, ran.stderr
    assert words in ran.stderr
    assert ran.stdout == ("told\n" if world > 1 else "told\ntidied up\n")


def test_output_that_nobody_reads_any_more_changes_no_status():
    ends = "os.close(1); os.dup2(os.open('/dev/full', os.O_WRONLY), 1); return 0"
    ran = subprocess.run(
        [sys.executable, "-c", "import os\n" + SCRIPT.format(ends=ends)],
        env={**os.environ, "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
