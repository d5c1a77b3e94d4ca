"""The undisturbed run, made once for all faults, and fresh workspaces."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from pcdistill.pipeline import STAGE_NAMES
from tests.faults.child import Child
from tests.faults.tiny_run import write_config
from tests.faults.trial import Trial, Undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A finished tiny run; the first of all processes of the tests that needs it makes it."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "faults"
    shared.mkdir(exist_ok=True)
    config, workspace, finished = shared / "run.yaml", shared / "run", shared / "finished"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            write_config(shared)
            words = ["run", config, "--workspace", workspace, "--jobs", 1]
            ended = Child(shared, words).end()
            assert ended.status == 0, ended.output + ended.errors
            finished.touch()
    return Undisturbed(config, workspace, *_units(workspace))


@pytest.fixture
def trial(undisturbed: Undisturbed, tmp_path: Path) -> Trial:
    """An empty workspace."""
    return Trial(undisturbed, tmp_path)


def _units(workspace: Path) -> tuple[dict[str, dict[str, list[str]]], dict[str, float]]:
    """Files of each unit of each stage, and seconds of each stage, as the manifest has them."""
    units: dict[str, dict[str, list[str]]] = {}
    seconds: dict[str, float] = {}
    for stage in STAGE_NAMES:
        entries = sorted((workspace / "manifest" / stage).glob("*.json"))
        records = {entry.stem: json.loads(entry.read_text()) for entry in entries}
        units[stage] = {name: sorted(record["outputs"]) for name, record in records.items()}
        seconds[stage] = sum(record["seconds"] for record in records.values())
    return units, seconds
