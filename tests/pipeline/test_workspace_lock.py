"""Runs of the same settings work side by side, others are refused; nobody waits for the dead."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline import heartbeat
from pcdistill.pipeline import workspace_lock as lock
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.workspace import Workspace
from pcdistill.pipeline.workspace_lock import RunEntry, joined_workspace
from pcdistill.processes import ProcessName, own_name
from tests.pipeline.test_runner import STAGES, states_of

CONFIG = RunConfig()
HOLD = (
    "import pathlib, sys, time\n"
    "from pcdistill.pipeline.config import RunConfig\n"
    "from pcdistill.pipeline.workspace import Workspace\n"
    "from pcdistill.pipeline.workspace_lock import joined_workspace\n"
    "workspace = Workspace(pathlib.Path(sys.argv[1]))\n"
    "with joined_workspace(workspace, RunConfig(), (0, 2), ('lift', 'fuse')) as joined:\n"
    "    joined.claims.take('lift', 'a')\n"
    "    print('begun', flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture
def other_run(tmp_path):
    """Another process that works in the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def seeded(seed: int) -> RunConfig:
    return replace(CONFIG, run=replace(CONFIG.run, seed=seed))


def entries(root: Path) -> list[Path]:
    return list(Workspace(root).running.glob("*.json"))


def test_a_run_with_other_settings_is_refused_in_a_sentence_that_names_the_first(
    tmp_path, other_run
):
    with (
        pytest.raises(ConfigError) as caught,
        joined_workspace(Workspace(tmp_path), seeded(1)),
    ):
        pass
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: another run works there (process {other_run.pid} on ")
    assert socket.gethostname() in message
    assert "with other settings; wait until it has ended, or give this one a folder" in message
    assert "\n" not in message


def test_a_killed_run_holds_nobody_up(tmp_path, other_run):
    """What it had claimed is free at once, and files of it that no other run needs are gone."""
    workspace = Workspace(tmp_path)
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert len(entries(tmp_path)) == 1
    name = own_name()._replace(process=other_run.pid)
    half = tmp_path / f".x.json.{name.host}.{name.machine}.{name.process}.part"
    half.touch()
    with joined_workspace(workspace, seeded(1)) as joined:
        (left,) = entries(tmp_path)
        assert json.loads(left.read_text())["name"][2] == os.getpid()
        assert joined.is_first
        assert not half.exists()
        assert not workspace.claims.exists()
    assert entries(tmp_path) == []


def test_a_refused_run_changes_nothing_and_readers_go_on(tmp_path, other_run):
    config = replace(seeded(1), run=replace(seeded(1).run, workspace=str(tmp_path)))
    (tmp_path / "config.yaml").write_text("# of the first\n")
    with pytest.raises(ConfigError, match="another run works there"):
        run_stages(config, STAGES)
    assert (tmp_path / "config.yaml").read_text() == "# of the first\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims", "config.yaml", "running"]
    assert states_of(config)["letters"]["missing"] == 4


def test_runs_of_the_same_settings_work_side_by_side_whatever_their_shards(tmp_path, other_run):
    """They are of one session, and the others leave alone what the first is at."""
    other = own_name()._replace(process=other_run.pid)
    for shard in [(1, 2), (0, 2), (0, 1), (1, 3)]:
        with joined_workspace(Workspace(tmp_path), CONFIG, shard) as joined:
            assert not joined.is_first
            assert joined.claims.take("lift", "a") == other
            assert joined.maker("fuse", 2) == other
            assert len(entries(tmp_path)) == 2
    assert len(entries(tmp_path)) == 1
    with joined_workspace(Workspace(tmp_path), CONFIG) as joined:
        other_run.send_signal(signal.SIGKILL)
        other_run.wait()
        assert joined.maker("fuse", 2) is None


def test_a_run_knows_which_units_others_make_or_will(tmp_path):
    workspace, every = Workspace(tmp_path), ("ingest", "lift", "fuse")
    with (
        joined_workspace(workspace, CONFIG) as joined,
        joined_workspace(workspace, CONFIG, (1, 2), every) as other,
    ):
        assert [joined.maker("fuse", number) for number in range(3)] == [None, own_name(), None]
        assert joined.maker("partition", 1) is None
        assert joined.maker("ingest", 1) == own_name()
        other.leave_behind("ingest")
        assert joined.maker("ingest", 1) is None
        assert joined.maker("lift", 1) == own_name()


def test_runs_share_their_settings_but_not_what_differs_between_machines(tmp_path):
    elsewhere = replace(
        CONFIG,
        run=replace(CONFIG.run, workspace="/mnt/run", vocabulary="/mnt/indoor"),
        ingest=replace(CONFIG.ingest, path="/mnt/scans"),
        lift=replace(CONFIG.lift, workers=7),
        distill=replace(CONFIG.distill, device="cpu"),
    )
    workspace = Workspace(tmp_path)
    with joined_workspace(workspace, CONFIG, (0, 3)):
        with joined_workspace(workspace, elsewhere, (1, 3)):
            pass
        with (
            pytest.raises(ConfigError, match="with other settings"),
            joined_workspace(workspace, seeded(1), (1, 3)),
        ):
            pass


def test_of_runs_with_different_settings_that_begin_at_once_one_works(tmp_path):
    begin, end, won = threading.Barrier(8), threading.Event(), []
    refused = threading.Semaphore(0)

    def try_it(seed: int) -> None:
        begin.wait()
        try:
            with joined_workspace(Workspace(tmp_path), seeded(seed)):
                won.append(1)
                end.wait(30)
        except ConfigError:
            refused.release()

    threads = [threading.Thread(target=try_it, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(7):
        assert refused.acquire(timeout=30)
    end.set()
    for thread in threads:
        thread.join()
    assert won == [1]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    monkeypatch.setattr(lock, "_WATCH", 1.0)


@pytest.fixture
def no_locks(quick, monkeypatch):
    """A file system such as some network file systems are."""

    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)


def test_a_living_run_is_found_where_the_file_system_has_no_locks(tmp_path, no_locks):
    workspace = Workspace(tmp_path)
    with (
        joined_workspace(workspace, CONFIG),
        pytest.raises(ConfigError, match="another run works there"),
        joined_workspace(workspace, seeded(1)),
    ):
        pass
    with joined_workspace(workspace, seeded(1)):
        pass


@pytest.mark.parametrize("process", [4194304, "own"])
def test_a_dead_run_is_found_where_the_file_system_has_no_locks(tmp_path, no_locks, process):
    """Its number may meanwhile be that of another process, which does not touch the file."""
    number = os.getpid() if process == "own" else process
    left = leave_entry(tmp_path, own_name()._replace(process=number), locked=False)
    with joined_workspace(Workspace(tmp_path), CONFIG) as joined:
        assert not left.exists()
        assert joined.is_first


def leave_entry(root: Path, name: ProcessName, *, locked: bool) -> Path:
    """What a run of another machine, or one that was killed, has written."""
    entry = RunEntry(name, "settings", "then", "session", stages=("lift",), locked=locked)
    path = Workspace(root).running / f"{name.host}.{name.process}.session.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(entry)))
    return path


class Touching:
    """Another machine that touches a file, as long as the block runs."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY)
        self._beating = heartbeat.Heartbeat()

    def __enter__(self) -> None:
        self._beating.add(self._handle)

    def __exit__(self, *error: object) -> None:
        self._beating.stop()
        self._beating.remove(self._handle)
        os.close(self._handle)


ELSEWHERE = ProcessName("other-machine", "abcdef", os.getpid())


def test_a_living_run_of_another_machine_is_found_though_locks_may_not_reach_it(tmp_path, quick):
    path = leave_entry(tmp_path, ELSEWHERE, locked=True)
    with (
        Touching(path),
        pytest.raises(ConfigError, match=r"\(process \d+ on other-machine since then\)"),
        joined_workspace(Workspace(tmp_path), CONFIG),
    ):
        pass


def test_a_dead_run_of_another_machine_is_found(tmp_path, quick):
    path = leave_entry(tmp_path, ELSEWHERE, locked=True)
    with joined_workspace(Workspace(tmp_path), CONFIG) as joined:
        assert not path.exists()
        assert joined.is_first


def test_a_run_of_another_machine_that_dies_makes_nothing_after_a_while(
    tmp_path, quick, monkeypatch
):
    monkeypatch.setattr(lock, "TAKEOVER", 0.2)
    with joined_workspace(Workspace(tmp_path), CONFIG) as joined:
        path = leave_entry(tmp_path, ELSEWHERE, locked=True)
        with Touching(path):
            for _ in range(30):
                assert joined.maker("lift", 0) == ELSEWHERE
                time.sleep(0.01)
        assert joined.maker("lift", 0) == ELSEWHERE
        time.sleep(0.3)
        assert joined.maker("lift", 0) is None


def test_an_entry_that_is_not_yet_written_counts_as_a_run(tmp_path, quick):
    path = leave_entry(tmp_path, ELSEWHERE._replace(process=7), locked=True)
    path.write_text("")
    with (
        Touching(path),
        pytest.raises(ConfigError, match="process 7 on other-machine"),
        joined_workspace(Workspace(tmp_path), CONFIG),
    ):
        pass
