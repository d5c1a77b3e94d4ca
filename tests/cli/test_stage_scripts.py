"""One script a stage, for clusters: the same options in each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((REPOSITORY / "preprocessing").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_stage_script_explains_itself(script):
    shown = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=False, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    for option in ("--config", "--shard", "--jobs", "--redo", "--set"):
        assert option in shown.stdout
