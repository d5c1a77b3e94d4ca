"""The runner, with two toy stages: letters are written, then a word is made of them."""

from __future__ import annotations

import errno
import multiprocessing.synchronize
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.pipeline.artifact_files import atomic_file
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.stage import Dependency, Stage
from pcdistill.pipeline.status import failed_units, stage_states

LETTERS = ("a", "b", "c", "d")


class OfRoot(Stage):
    """A stage that knows the folder of its run."""

    version = 1

    def __init__(self, run):
        self.root = run.workspace.root
        self.seed = run.config.run.seed

    def units(self):
        return LETTERS

    def settings(self, unit):
        return {}

    def outputs(self, unit):
        return (self.root / self.name / unit,)

    def tally(self, unit: str) -> None:
        """Count the work in a file, because it may happen in another process."""
        with (self.root / f"worked-{unit}").open("a") as handle:
            handle.write("x")


def times_worked(root: Path, unit: str) -> int:
    path = root / f"worked-{unit}"
    return len(path.read_text()) if path.exists() else 0


class Letters(OfRoot):
    name = "letters"

    def settings(self, unit):
        return {"seed": self.seed}

    def work(self, task, report):
        self.tally(task.unit)
        if (self.root / f"refuse-{task.unit}").exists():
            raise SceneError(f"letter {task.unit} is unreadable; remove refuse-{task.unit}")
        if (self.root / f"break-{task.unit}").exists():
            raise ZeroDivisionError("a bug")
        deadly = self.root / f"die-{task.unit}"
        if deadly.exists():
            if deadly.read_text() == "once":
                deadly.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with atomic_file(self.outputs(task.unit)[0]) as temporary:
            temporary.write_text(task.unit)
        return f"wrote {task.unit}"


class NewerLetters(Letters):
    version = 2


class EnormousLetters(Letters):
    def estimate(self, unit):
        return 2**60


class Word(OfRoot):
    name = "word"

    def units(self):
        return ("word",)

    def inputs(self, unit):
        return tuple(Dependency("letters", letter, required=letter == "a") for letter in LETTERS)

    def outputs(self, unit):
        return (self.root / "word",)

    def work(self, task, report):
        self.tally(task.unit)
        letters = task.units_of("letters")
        parts = [(self.root / "letters" / letter).read_text() for letter in letters]
        with atomic_file(self.root / "word") as temporary:
            temporary.write_text("".join(parts))
        return "wrote the word"


STAGES = (Letters, Word)


class Chain(OfRoot):
    name = "chain"

    def units(self):
        return ("c", "a", "b")

    def inputs(self, unit):
        return (Dependency("chain", "a"), Dependency("chain", "b")) if unit == "c" else ()

    def work(self, task, report):
        folder = self.root / "chain"
        for number in (1, 2):
            report(number, 2, "halves")
        time.sleep(0.3)  # words travel by another way than results
        parts = [(folder / unit).read_text() for unit in task.units_of("chain")]
        with atomic_file(folder / task.unit) as temporary:
            temporary.write_text("+".join([*parts, task.unit]))
        return f"wrote {task.unit}"


class Glances(OfRoot):
    """Notes which teacher of which process looks."""

    name = "glances"

    def __init__(self, run):
        super().__init__(run)
        self.load_teacher = run.teacher
        self.seen = []

    def work(self, task, report):
        teacher = self.load_teacher("demo-dense")
        self.seen.append(teacher)  # so that no other comes to lie where it was
        with atomic_file(self.outputs(task.unit)[0]) as temporary:
            temporary.write_text(f"{os.getpid()} {id(teacher)}")
        return "looked"


class Threads(OfRoot):
    name = "threads"

    def work(self, task, report):
        with atomic_file(self.outputs(task.unit)[0]) as temporary:
            temporary.write_text(f"{os.getpid()} {torch.get_num_threads()}")
        return "counted"


def states_of(config: RunConfig) -> dict:
    run = RunContext(config)
    return stage_states(run.workspace, [stage(run) for stage in STAGES])


def test_a_second_run_does_nothing(config, root):
    first = run_stages(config, STAGES)
    second = run_stages(config, STAGES)
    assert (first.done, first.skipped, first.exit_status) == (5, 0, 0)
    assert (second.done, second.skipped, second.exit_status) == (0, 5, 0)
    assert (root / "word").read_text() == "abcd"
    assert times_worked(root, "a") == 1


def test_other_settings_make_the_unit_and_what_follows_anew(config, root):
    run_stages(config, STAGES)
    changed = replace(config, run=replace(config.run, seed=1))
    states = states_of(changed)
    assert states["letters"]["stale"] == 4
    assert states["word"]["stale"] == 1
    assert run_stages(changed, STAGES).done == 5


def test_another_version_of_a_stage_makes_its_units_anew(config):
    run_stages(config, STAGES)
    assert run_stages(config, (NewerLetters, Word)).done == 5


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_damaged_output_is_made_anew(config, root, damage):
    run_stages(config, STAGES)
    path = root / "letters" / "b"
    if damage == "delete":
        path.unlink()
    else:
        path.write_text("")
    again = run_stages(config, STAGES)
    assert path.read_text() == "b"
    assert times_worked(root, "b") == 2
    assert again.skipped == 4  # the word's inputs have the same fingerprints as before


def test_a_failing_unit_does_not_stop_the_others(config, root):
    (root / "refuse-b").touch()
    summary = run_stages(config, STAGES)
    assert summary.exit_status == 1
    assert [(f.stage, f.unit) for f in summary.failures] == [("letters", "b")]
    assert summary.failures[0].reason == "letter b is unreadable; remove refuse-b"
    assert (root / "word").read_text() == "acd"
    run = RunContext(config)
    failed = failed_units(run.workspace, [stage(run) for stage in STAGES])
    assert failed[0].unit == "b"
    (root / "refuse-b").unlink()
    assert run_stages(config, STAGES).exit_status == 0
    assert (root / "word").read_text() == "abcd"
    assert times_worked(root, "a") == 1


def test_what_needs_a_failed_unit_is_not_tried_and_says_so(config, root):
    (root / "refuse-a").touch()
    summary = run_stages(config, STAGES)
    assert [f.unit for f in summary.failures] == ["a", "word"]
    assert summary.failures[1].reason == "not tried, because letters a failed"
    assert not (root / "word").exists()
    assert states_of(config)["word"]["blocked"] == 1


def test_a_bug_is_a_failed_unit_too(config, root):
    (root / "break-c").touch()
    summary = run_stages(config, STAGES)
    assert summary.failures[0].reason == "unexpected ZeroDivisionError: a bug"
    assert (root / "word").read_text() == "abd"


def test_status_before_and_after(config):
    before = states_of(config)
    assert (before["letters"]["missing"], before["word"]["missing"]) == (4, 1)
    run_stages(config, STAGES, only=["letters"])
    assert states_of(config)["letters"]["done"] == 4


def test_only_and_from_choose_stages(config, root):
    alone = run_stages(config, STAGES, only=["word"])
    assert alone.failures[0].reason == "not tried, because letters a is not there yet"
    run_stages(config, STAGES, only=["letters"])
    assert run_stages(config, STAGES, start="word").done == 1
    with pytest.raises(ConfigError, match=r"unknown stage 'words'; did you mean 'word'\?"):
        run_stages(config, STAGES, only=["words"])


def test_what_comes_before_the_first_stage_is_left_alone(config, root):
    run_stages(config, STAGES)
    assert run_stages(config, STAGES, start="word", redo=True).done == 1
    assert [times_worked(root, unit) for unit in (*LETTERS, "word")] == [1, 1, 1, 1, 2]
    (root / "letters" / "b").unlink()
    left = run_stages(config, STAGES, start="word")
    assert left.failures[0].reason == "not tried, because letters b is not there yet"
    assert not (root / "letters" / "b").exists()


def test_redo_works_on_what_is_done(config, root):
    run_stages(config, STAGES)
    assert run_stages(config, STAGES, only=["letters"], redo=True).done == 4
    assert times_worked(root, "d") == 2


def test_shards_share_the_units_and_nobody_takes_a_half_finished_set(config, root):
    first = run_stages(config, STAGES, shard=(0, 2))
    assert sorted(p.name for p in (root / "letters").iterdir()) == ["a", "c"]
    assert first.failures[0].reason == "not tried, because letters b is not there yet"
    run_stages(config, STAGES, shard=(1, 2))
    run_stages(config, STAGES, shard=(0, 2))
    assert (root / "word").read_text() == "abcd"
    assert [times_worked(root, letter) for letter in LETTERS] == [1, 1, 1, 1]


def test_workers_give_the_same(config, root):
    assert run_stages(config, STAGES, jobs=2).done == 5
    assert (root / "word").read_text() == "abcd"


def test_units_of_a_lost_worker_are_done_by_another(config, root):
    (root / "die-b").write_text("once")
    assert run_stages(config, STAGES, jobs=2).exit_status == 0
    assert (root / "word").read_text() == "abcd"


def test_a_unit_that_kills_its_worker_twice_is_a_failure_of_its_own(config, root):
    (root / "die-b").write_text("always")
    summary = run_stages(config, STAGES, jobs=2)
    assert summary.exit_status == 1
    assert [failure.unit for failure in summary.failures] == ["b"]  # and none that was beside it
    assert "its worker process died twice" in summary.failures[0].reason
    assert (root / "word").read_text() == "acd"
    run = RunContext(config)
    recorded = failed_units(run.workspace, [stage(run) for stage in STAGES])
    assert [(one.unit, one.reason) for one in recorded] == [("b", summary.failures[0].reason)]


def test_a_disk_that_is_too_small_is_refused_before_the_work(config, root):
    with pytest.raises(ConfigError, match=r"will write about \d+\.\d GiB \(letters .*\) but only"):
        run_stages(config, (EnormousLetters, Word))
    assert times_worked(root, "a") == 0


def test_an_unreadable_record_counts_as_never_tried(config, root):
    run_stages(config, STAGES)
    (root / "manifest" / "letters" / "a.json").write_text("{")
    assert run_stages(config, STAGES).done == 1


@pytest.mark.slow
def test_a_worker_loads_a_teacher_once_for_all_of_its_units(config, root):
    assert run_stages(config, [Glances], jobs=2).done == len(LETTERS)
    looks = {tuple((root / "glances" / letter).read_text().split()) for letter in LETTERS}
    processes = {process for process, _ in looks}
    assert len(processes) <= 2
    assert str(os.getpid()) not in processes
    assert len(looks) == len(processes)


def test_units_that_need_each_other_are_worked_on_in_waves(config, root):
    """A stage whose second unit takes the first as input works with several workers too."""
    summary = run_stages(config, [Chain], jobs=2)
    assert (summary.done, summary.failures) == (3, [])
    assert (root / "chain" / "c").read_text() == "a+b+c"


@pytest.mark.slow
def test_workers_tell_how_far_they_are(config, root):
    heard: list[tuple[str, int, int]] = []

    class Listening(Progress):
        def unit_callback(self, stage, unit):
            return lambda done, total, words: heard.append((unit, done, total))

    run_stages(config, [Chain], jobs=2, progress=Listening(quiet=True))
    assert {("a", 1, 2), ("b", 2, 2)} <= set(heard)


@pytest.mark.parametrize("said", [pytest.param("1", marks=pytest.mark.slow), "2", None])
def test_workers_have_as_many_threads_as_openmp_is_told_to(config, root, monkeypatch, said):
    """Else each has its share of the cores that the process may use."""
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert run_stages(config, [Threads], jobs=2).done == len(LETTERS)
    found = [(root / "threads" / letter).read_text().split() for letter in LETTERS]
    asked = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    alone = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    fraction = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert {threads for _, threads in found} == {fraction if said is None else alone}
    assert str(os.getpid()) not in {process for process, _ in found}


def test_a_worker_that_dies_as_it_begins_costs_no_unit(config, root, monkeypatch):
    """Its pipe is closed while it is told what it is."""
    begin, refused = ProcessPoolExecutor.submit, []

    def submit(executor, *arguments):
        if not refused:
            refused.append(arguments)
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return begin(executor, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    summary = run_stages(config, [Letters], jobs=2)
    assert (summary.done, summary.failures) == (len(LETTERS), [])


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOSYS, errno.ENOSPC])
def test_one_process_works_where_no_others_can_be_started(
    config, root, monkeypatch, number, caplog
):
    """Without a /dev/shm that can be written there are no semaphores."""

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", refuse)
    summary = run_stages(config, STAGES, jobs=2)
    assert (summary.done, summary.failures) == (5, [])
    assert (root / "word").read_text() == "abcd"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("one process works, because this machine can start no")
