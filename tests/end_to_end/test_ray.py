"""Lift and fuse of a small run by a Ray cluster: a machine is removed, or the run is ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pcdistill.pipeline.artifact_files import read_json
from pcdistill.pipeline.ray_package import import_ray
from pcdistill.pipeline.stop_signal import TERMINATED
from tests.end_to_end.conftest import TINY, pcdistill, processes_in

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

STAGES = ("lift", "fuse")
AGAIN = "the same command goes on where it was\n"
LIMIT = 600.0
"""Seconds: the processes of a cluster are many, and machines that test are busy."""


@pytest.fixture(scope="module")
def fused_run(tmp_path_factory) -> Path:
    """A small run, lifted and fused by one process."""
    workspace = tmp_path_factory.mktemp("fused") / "run"
    demo = files("pcdistill") / "configs" / "demo.yaml"
    until = ("ingest", "partition", "synthesize", "score", *STAGES)
    words = ("run", demo, "--workspace", workspace, "--only", *until, "--set", *TINY)
    ran = pcdistill(*words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return workspace


@pytest.fixture
def unlifted(fused_run, tmp_path) -> Path:
    """A run whose scenes are to be lifted and fused."""
    workspace = tmp_path / "run"
    shutil.copytree(fused_run, workspace)
    for folder in ("features", "fused", "manifest/lift", "manifest/fuse"):
        shutil.rmtree(workspace / folder)
    return workspace


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of a head that does no work and two machines of one processor each."""
    import_ray()
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="pcd-test-", dir="/tmp")  # names of sockets must be short
    with mock.patch.dict(os.environ, RAY_TMPDIR=folder):
        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
        made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def made(root: Path) -> dict[str, tuple[dict, bytes]]:
    """Everything that lift and fuse wrote: header and bytes of each file."""
    folders = ("features", "fused")
    found = {}
    for path in (path for folder in folders for path in (root / folder).rglob("*.safetensors")):
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        found[str(path.relative_to(root))] = json.loads(content[8:end]), content[end:]
    return found


def records(root: Path) -> dict[str, dict]:
    """Their manifest entries, without what time it was and who was at work."""
    found = {}
    for path in (root / "manifest").rglob("*.json"):
        if path.parent.name in STAGES:
            entry = read_json(path)
            for key in ("finished", "session"):
                entry["details"].pop(key, None)
            found[str(path.relative_to(root))] = {**entry, "seconds": 0}
    return found


def wait_for(what, *, limit: float = LIMIT) -> None:
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def test_a_machine_is_removed_and_the_results_are_those_of_one_process(
    cluster, fused_run, unlifted
):
    first = unlifted / "manifest" / "lift"
    removed = threading.Event()

    def remove() -> None:
        wait_for(lambda: list(first.glob("*.json")))
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        removed.set()

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    engine = ("--engine", "ray", "--ray-address", cluster.address, "--jobs", "2")
    ran = pcdistill("run", unlifted, "--only", *STAGES, *engine)
    assert removed.is_set()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "(raylet)" not in ran.stdout
    assert made(unlifted) == made(fused_run) != {}
    assert records(unlifted) == records(fused_run) != {}


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGINT, 130, f"interrupted; {AGAIN}"),
        (signal.SIGTERM, TERMINATED, f"ended, because SIGTERM came; {AGAIN}"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_a_run_that_is_ended_leaves_no_process_behind(unlifted, number, status, told):
    command = [sys.executable, "-m", "pcdistill.cli", "run", str(unlifted)]
    options = ["--only", *STAGES, "--engine", "ray", "--jobs", "2"]
    run = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background has them pass over Ctrl-C
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    mark = f"/pcd-ray-{run.pid}-"
    wait_for(
        lambda: list((unlifted / "manifest" / "lift").glob("*.json")) or run.poll() is not None
    )
    assert processes_in(mark)
    run.send_signal(number)
    _, errors = run.communicate(timeout=LIMIT)
    assert run.returncode == status
    assert errors == told
    wait_for(lambda: not processes_in(mark))  # after SIGKILL two helpers of Ray take a minute
    left = list(Path(tempfile.gettempdir()).glob(f"pcd-ray-{run.pid}-*"))
    if number == signal.SIGKILL:
        for folder in left:  # the next run of this machine would remove it
            shutil.rmtree(folder)
    else:
        assert not left
    assert pcdistill("run", unlifted, "--only", *STAGES).returncode == 0
