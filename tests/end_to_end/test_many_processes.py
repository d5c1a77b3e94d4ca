"""Students trained by the processes of torchrun: the run goes on with them, killed or not."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pcdistill.pipeline.stop_signal import TERMINATED
from tests.distillation.rank_processes import free_port, rank_environment
from tests.end_to_end.conftest import pcdistill

pytestmark = pytest.mark.thorough

TOOL = Path(__file__).resolve().parents[2] / "tools" / "distill.py"
STUDENT = "superpoint"
SHORT = ("distill.students=[superpoint,superpoint+ensemble]", "distill.batch_size=2")
FAST = (*SHORT, "distill.precision=float32", "distill.epochs=3")
LONG = (*SHORT, "distill.precision=float32", "distill.epochs=24")
"""Some seconds, so that there is time to kill it."""
EVERYTHING = (
    *("distill.optimizer=adamw", "distill.weight_decay=0.1", "distill.accumulate=2"),
    *("distill.max_gradient_norm=1.0", "distill.ema_decay=0.9", "distill.validate_every=5"),
    *("distill.answer=best", "distill.log=step"),
)
LIMIT = 240
RANDOM = random.Random(5)


@pytest.fixture
def fused(tiny_run, tmp_path) -> Path:
    """A run whose students are not trained yet."""
    workspace = tmp_path / "run"
    shutil.copytree(tiny_run, workspace)
    for folder in ("students", "manifest/distill", "manifest/evaluate"):
        shutil.rmtree(workspace / folder)
    return workspace


def start(world: int, workspace: Path, changes: tuple[str, ...]) -> list[subprocess.Popen]:
    """Start the processes as torchrun does, without it, so that nobody ends them but the test."""
    command = [sys.executable, TOOL, workspace, "--student", STUDENT, "--set", *changes]
    port, pipe = free_port(), subprocess.PIPE
    return [
        subprocess.Popen(
            command,
            env={**os.environ, **(rank_environment(rank, world, port) if world > 1 else {})},
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        for rank in range(world)
    ]


def ended(process: subprocess.Popen) -> tuple[int, str]:
    output, errors = process.communicate(timeout=LIMIT)
    assert "Traceback" not in output + errors, output + errors
    return process.returncode, re.sub(r"\s+", " ", output + errors)


def trained(world: int, workspace: Path, changes: tuple[str, ...]) -> dict[str, np.ndarray]:
    for process in start(world, workspace, changes):
        status, words = ended(process)
        assert status == 0, words
    return load_file(workspace / "students" / STUDENT / "checkpoint.safetensors")


def wait_for_epoch(workspace: Path, epoch: int) -> None:
    metrics, end = workspace / "students" / STUDENT / "metrics.jsonl", time.monotonic() + LIMIT
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= epoch):
        assert time.monotonic() < end, "it does not train"
        time.sleep(0.02)


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


def test_torchrun_trains_both_students_and_the_run_goes_on_with_them(fused):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    watched = (*FAST, "distill.validate_every=2", "distill.log=step")
    command += ["--master-port", str(free_port()), str(TOOL), str(fused), "--set", *watched]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("2 scenes, 3 epochs, loss") == 2  # one process tells
    text = (fused / "students" / STUDENT / "metrics.jsonl").read_text()
    told = [json.loads(line) for line in text.splitlines()]
    assert [one["epoch"] for one in told] == [1, 2, 3]
    assert ["validation_miou" in one for one in told] == [False, True, True]
    steps = (fused / "students" / STUDENT / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == [1, 2, 3]
    on = pcdistill("run", fused, "--only", "distill", "evaluate", "--set", *watched)
    assert on.returncode == 0, on.stdout + on.stderr
    assert "distill: 2 of 2 up to date" in on.stdout
    assert f"student:{STUDENT}" in on.stdout


@pytest.mark.slow
def test_one_process_writes_what_a_run_writes(fused, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(fused, plain)
    ran = pcdistill("run", plain, "--only", "distill", "--set", *FAST)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = trained(1, fused, FAST)
    assert_equal(found, load_file(plain / "students" / STUDENT / "checkpoint.safetensors"))
    one, other = (
        json.loads((folder / "manifest" / "distill" / f"{STUDENT}.json").read_text())
        for folder in (plain, fused)
    )
    for key in ("fingerprint", "state", "summary"):
        assert one[key] == other[key], key
    for record, log in itertools.product((one, other), ("metrics.jsonl", "card.md")):
        assert record["outputs"].pop(f"students/{STUDENT}/{log}") > 0  # has the seconds of each
    assert one["outputs"] == other["outputs"]


def test_what_is_missing_is_said_once(tiny_run, tmp_path):
    workspace = tmp_path / "bare"
    workspace.mkdir()
    shutil.copy(tiny_run / "config.yaml", workspace)
    (status, words), (other, nothing) = map(ended, start(2, workspace, FAST))
    assert status == other == 2
    assert words.startswith("error: student superpoint cannot be trained yet: ")
    assert "--only ingest partition lift synthesize score fuse" in words
    assert nothing == ""


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_all_go_on_from_the_last_state(fused, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(fused, whole)
    expected = trained(2, whole, LONG)
    first, second = start(2, fused, LONG)
    wait_for_epoch(fused, 3)
    second.send_signal(signal.SIGTERM)  # to one: both end, with a state
    for process in (first, second):
        assert ended(process)[0] == TERMINATED
    assert (fused / "students" / STUDENT / "state.safetensors").exists()
    first, second = start(2, fused, LONG)
    wait_for_epoch(fused, 6)
    second.kill()
    status, words = ended(first)
    assert status == 2
    assert "error: rank 0 of 2: another process of the training ended or did not answer" in words
    assert "give the same command again" in words
    second.communicate()
    assert_equal(trained(2, fused, LONG), expected)


@pytest.mark.slow
def test_a_training_killed_at_random_moments_gives_the_same_student(fused, tmp_path):
    """Ten times by SIGTERM, ten times by SIGKILL; one that was finished before begins anew."""
    changes = (*LONG, "distill.epochs=60", *EVERYTHING)
    whole = tmp_path / "whole"
    shutil.copytree(fused, whole)
    expected = trained(1, whole, changes)
    cut = 0
    for number in range(20):
        (process,) = start(1, fused, changes)
        time.sleep(RANDOM.uniform(3, 13))
        process.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
        process.communicate(timeout=LIMIT)
        cut += process.returncode != 0
        if process.returncode == 0:
            assert_equal(trained(1, fused, changes), expected)
            shutil.rmtree(fused / "students")
    assert cut > 5
    assert_equal(trained(1, fused, changes), expected)
