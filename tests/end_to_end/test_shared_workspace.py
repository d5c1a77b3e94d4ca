"""Four processes share a run, two of them are killed: its files are those of one process."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.status import stage_states
from pcdistill.stages import STAGES

pytestmark = pytest.mark.thorough

SHARED = ("lift", "fuse")
EARLIER = ("ingest", "partition", "synthesize", "score")
RANDOM = random.Random(20)
DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


def in_workspace(config: RunConfig, workspace: Path) -> RunConfig:
    return replace(config, run=replace(config.run, workspace=str(workspace)))


def work(config: RunConfig) -> None:
    """What one of the processes does."""
    sys.exit(run_stages(config, STAGES, only=SHARED).exit_status)


def files_of(workspace: Path) -> dict[str, bytes]:
    """What the two stages have written."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for folder in ("features", "fused")
        for path in (workspace / folder).rglob("*")
        if path.is_file()
    }


def finished_units(workspace: Path) -> int:
    return sum(len(list((workspace / "manifest" / stage).glob("*.json"))) for stage in SHARED)


def kill_at_random(workspace: Path, process_ids: list[int], units: int) -> None:
    """Kill processes one by one, each after some more units of the two stages."""
    for process, at in zip(process_ids, sorted(RANDOM.sample(range(units), 2)), strict=True):
        deadline = time.monotonic() + 600
        while finished_units(workspace) < at and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(RANDOM.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)


def require_same(config: RunConfig, alone: Path, shared: Path) -> None:
    assert files_of(shared) == files_of(alone)
    run = RunContext(in_workspace(config, shared))
    counts = stage_states(run.workspace, [stage(run) for stage in STAGES])
    for name in SHARED:
        assert set(counts[name]) == {"done"}
    assert not [path for path in (shared / "claims").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_two_of_four_processes_are_killed_and_the_others_leave_what_one_leaves(tmp_path):
    (tmp_path / "words.json").write_text('["bed", "chair"]')
    sections = {
        "run": {"vocabulary": str(tmp_path / "words.json")},
        "ingest": {"train": 3, "validation": 1, "frames": 2, "image_size": [48, 64]},
        "synthesize": {"images": 1},
    }
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    config = config_from_dict(sections, "test")
    assert run_stages(in_workspace(config, alone), STAGES, only=EARLIER).exit_status == 0
    shutil.copytree(alone, shared)
    assert run_stages(in_workspace(config, alone), STAGES, only=SHARED).done == 8 + 4
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes: list[BaseProcess] = [
        context.Process(target=work, args=(in_workspace(config, shared),)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    victims = RANDOM.sample(processes, 2)
    kill_at_random(shared, [process.pid for process in victims], 8)
    for process in processes:
        process.join(600)
    codes = {process.pid: process.exitcode for process in processes}
    assert [codes[process.pid] for process in victims] == [-signal.SIGKILL] * 2
    assert sorted(codes.values()) == [-signal.SIGKILL] * 2 + [0, 0]
    require_same(config, alone, shared)


@pytest.mark.slow
def test_two_of_four_processes_of_the_demo_are_killed(tmp_path):
    """The demo's own scenes, by the command line."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    command = [sys.executable, "-m", "pcdistill.cli", "run", DEMO, "--jobs", "1", "--workspace"]
    subprocess.run([*command, alone, "--only", *EARLIER], check=True)
    shutil.copytree(alone, shared)
    subprocess.run([*command, alone, "--only", *SHARED], check=True)
    processes = [subprocess.Popen([*command, shared, "--only", *SHARED]) for _ in range(4)]
    victims = RANDOM.sample(processes, 2)
    kill_at_random(shared, [process.pid for process in victims], finished_units(alone) - 4)
    codes = [process.wait(1800) for process in processes]
    assert sorted(codes) == [-signal.SIGKILL] * 2 + [0, 0]
    from pcdistill.cli.run import load_run_config

    require_same(load_run_config(DEMO, None, alone, ()), alone, shared)
