"""Help comes at once: describing the commands loads none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numba", "numpy", "scipy", "PIL", "skimage", "model2vec", "embreex", "yaml")

PROBE = """
import sys
from pcdistill.cli import run_command
try:
    status = run_command(sys.argv[2:])
except SystemExit as ended:
    status = ended.code
loaded = [name for name in sys.argv[1].split(",") if name in sys.modules]
assert not loaded, f"{' '.join(sys.argv[2:])} loads {', '.join(loaded)}"
sys.exit(status)
"""


def probe(*arguments: str, without: tuple[str, ...] = HEAVY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE, ",".join(without), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["demo", "--help"],
        ["run", "--help"],
        ["doctor", "--help"],
        ["status", "--help"],
        ["query", "--help"],
        ["view", "--help"],
        ["evaluate", "--help"],
        ["export", "--help"],
        ["slurm", "--help"],
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    shown = probe(*arguments)
    assert shown.returncode == 0, shown.stderr
    assert "usage: pcdistill" in shown.stdout


def test_version_loads_nothing_heavy():
    assert probe("--version").stdout.startswith("pcdistill ")


def test_completion_loads_nothing_heavy():
    assert "pcdistill" in probe("--tyro-print-completion", "bash").stdout


def test_a_mistake_in_a_name_is_found_before_anything_heavy_is_loaded():
    for arguments in (["qurey"], ["run", "nowhere.yaml", "--from", "fus"]):
        refused = probe(*arguments)
        assert refused.returncode == 2, refused.stderr
        assert "did you mean" in refused.stderr


def test_the_probe_sees_what_is_loaded():
    assert "loads tyro" in probe("--help", without=("tyro",)).stderr
