"""Two runs never work in one workspace; shards of one run do, and nobody waits for the dead."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pcdistill.errors import ConfigError
from pcdistill.pipeline import workspace_lock as lock
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.workspace_lock import FOLDER, Claim, claimed_workspace
from tests.pipeline.test_runner import STAGES, states_of

CONFIG = RunConfig()
WHOLE = (0, 1)
HOLD = (
    "import pathlib, sys, time\n"
    "from pcdistill.pipeline.config import RunConfig\n"
    "from pcdistill.pipeline.workspace_lock import claimed_workspace\n"
    "with claimed_workspace(pathlib.Path(sys.argv[1]), RunConfig(), (0, 1)):\n"
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


def test_the_second_run_is_refused_in_a_sentence_that_names_the_first(tmp_path, other_run):
    with pytest.raises(ConfigError) as caught, claimed_workspace(tmp_path, CONFIG, WHOLE):
        pass
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: another run works there (process {other_run.pid} on ")
    assert socket.gethostname() in message
    assert "wait until it has ended, or give this one a folder of its own" in message
    assert "\n" not in message


def test_a_killed_run_holds_nobody_up(tmp_path, other_run):
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert len(list((tmp_path / FOLDER).glob("*.json"))) == 1
    with claimed_workspace(tmp_path, CONFIG, WHOLE):
        (left,) = (tmp_path / FOLDER).glob("*.json")
        assert json.loads(left.read_text())["process"] == os.getpid()
    assert list((tmp_path / FOLDER).glob("*.json")) == []


def test_a_refused_run_changes_nothing_and_readers_go_on(tmp_path, other_run):
    config = replace(seeded(1), run=replace(seeded(1).run, workspace=str(tmp_path)))
    (tmp_path / "config.yaml").write_text("# of the first\n")
    with pytest.raises(ConfigError, match="another run works there"):
        run_stages(config, STAGES)
    assert (tmp_path / "config.yaml").read_text() == "# of the first\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", FOLDER]
    assert states_of(config)["letters"]["missing"] == 4


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ((0, 2), (1, 2), True),
        ((3, 16), (4, 16), True),
        ((0, 2), (0, 2), False),
        ((0, 2), (0, 1), False),
        ((0, 1), (1, 2), False),
        ((0, 2), (1, 3), False),
        ((0, 1), (0, 1), False),
    ],
)
def test_only_different_shards_of_one_number_work_side_by_side(tmp_path, first, second, together):
    with claimed_workspace(tmp_path, CONFIG, first), ExitStack() as more:
        if together:
            more.enter_context(claimed_workspace(tmp_path, CONFIG, second))
        else:
            with pytest.raises(ConfigError, match="another run works there"):
                more.enter_context(claimed_workspace(tmp_path, CONFIG, second))
    with claimed_workspace(tmp_path, CONFIG, WHOLE):
        pass  # whatever was held is free again


def test_shards_share_their_settings_but_not_what_differs_between_machines(tmp_path):
    elsewhere = replace(
        CONFIG,
        run=replace(CONFIG.run, workspace="/mnt/run", vocabulary="/mnt/indoor"),
        ingest=replace(CONFIG.ingest, path="/mnt/scans"),
        lift=replace(CONFIG.lift, workers=7),
        distill=replace(CONFIG.distill, device="cpu"),
    )
    with claimed_workspace(tmp_path, CONFIG, (0, 3)):
        with claimed_workspace(tmp_path, elsewhere, (1, 3)):
            pass
        with (
            pytest.raises(ConfigError, match="the same settings and one number n of i/n"),
            claimed_workspace(tmp_path, seeded(1), (1, 3)),
        ):
            pass


def test_of_runs_that_begin_at_once_one_works(tmp_path):
    begin, end, won = threading.Barrier(8), threading.Event(), []
    refused = threading.Semaphore(0)

    def try_it() -> None:
        begin.wait()
        try:
            with claimed_workspace(tmp_path, CONFIG, WHOLE):
                won.append(1)
                end.wait(30)
        except ConfigError:
            refused.release()

    threads = [threading.Thread(target=try_it) for _ in range(8)]
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
    monkeypatch.setattr(lock, "_BEAT", 0.02)
    monkeypatch.setattr(lock, "_WATCH", 1.0)


@pytest.fixture
def no_locks(quick, monkeypatch):
    """A file system such as some network file systems are."""

    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)


def test_a_living_run_is_found_where_the_file_system_has_no_locks(tmp_path, no_locks):
    with (
        claimed_workspace(tmp_path, CONFIG, WHOLE),
        pytest.raises(ConfigError, match="another run works there"),
        claimed_workspace(tmp_path, CONFIG, WHOLE),
    ):
        pass
    with claimed_workspace(tmp_path, CONFIG, WHOLE):
        pass


@pytest.mark.parametrize("process", [4194304, "own"])
def test_a_dead_run_is_found_where_the_file_system_has_no_locks(tmp_path, no_locks, process):
    """Its number may meanwhile be that of another process, which does not touch the file."""
    number = os.getpid() if process == "own" else process
    left = leave_claim(tmp_path, socket.gethostname(), number, locked=False)
    with claimed_workspace(tmp_path, CONFIG, WHOLE):
        assert not left.exists() or json.loads(left.read_text())["since"] != "then"


def leave_claim(root: Path, host: str, process: int, *, locked: bool) -> Path:
    """What a run of another machine, or one that was killed, has written."""
    claim = Claim(host, process, WHOLE, "", "then", locked)
    path = root / FOLDER / f"{host}.{process}.0-of-1.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(vars(claim)))
    return path


@pytest.mark.parametrize("alive", [True, False])
def test_another_machine_is_watched_because_locks_may_not_reach_it(tmp_path, quick, alive):
    path = leave_claim(tmp_path, "other-machine", os.getpid(), locked=True)
    ended = threading.Event()
    touching = threading.Thread(target=lock._touch, args=(path, ended))
    if alive:
        touching.start()
    try:
        if alive:
            with (
                pytest.raises(ConfigError, match=r"\(process \d+ on other-machine since then\)"),
                claimed_workspace(tmp_path, CONFIG, WHOLE),
            ):
                pass
        else:
            with claimed_workspace(tmp_path, CONFIG, WHOLE):
                assert not path.exists()
    finally:
        ended.set()
        if alive:
            touching.join()


def test_a_claim_that_is_not_yet_written_counts_as_one(tmp_path, quick):
    path = leave_claim(tmp_path, "other-machine", 7, locked=True)
    path.write_text("")
    ended = threading.Event()
    touching = threading.Thread(target=lock._touch, args=(path, ended))
    touching.start()
    try:
        with (
            pytest.raises(ConfigError, match="process 7 on other-machine"),
            claimed_workspace(tmp_path, CONFIG, WHOLE),
        ):
            pass
    finally:
        ended.set()
        touching.join()
