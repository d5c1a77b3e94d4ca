"""Workers of a Ray cluster: those that die, stop, are lost with their machine, or do not fit."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.pipeline import ray_workers
from pcdistill.pipeline.artifact_files import atomic_file, read_json
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.ray_actor import Heard, LogLine, RayActor, Token
from pcdistill.pipeline.ray_cluster import RayOptions
from pcdistill.pipeline.ray_package import import_ray
from pcdistill.pipeline.ray_workers import RayWorkers
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.stage import Task
from pcdistill.pipeline.worker_pool import WorkerPool
from pcdistill.pipeline.workers import UnitProgress
from pcdistill.pipeline.workspace import UnitRecord
from tests.pipeline.ray_stand_in import RayError, RayStandIn, RayTaskError, Reference
from tests.pipeline.test_runner import LETTERS, STAGES, Glances, Letters, OfRoot, times_worked


class Heeding(Progress):
    """Notes what workers say."""

    def __init__(self):
        super().__init__(quiet=True)
        self.said = []

    def unit_callback(self, stage, unit):
        return lambda *words: self.said.append((unit, *words))


@pytest.fixture
def cluster(monkeypatch):
    stand_in = RayStandIn("one", "two")
    monkeypatch.setattr(ray_workers, "RayCluster", lambda options, cores: stand_in)
    monkeypatch.setattr(ray_workers, "_DOUBT", 0.05)
    return stand_in


def made(config, units, *, options=None, max_silence=0.3, show=None, **others):
    """How each unit went, by name."""
    pool = WorkerPool(RayWorkers(config, options or RayOptions(), max_silence=max_silence))
    assert pool.can_work()
    tasks = [Task(unit, (), "") for unit in units]
    try:
        return dict(pool.outcomes(Letters, tasks, show or Heeding(), **others))
    finally:
        pool.close(wait=True)


def states(outcomes):
    return {unit: record.state for unit, record in outcomes.items()}


def done(units):
    return dict.fromkeys(units, "done")


def test_each_worker_makes_one_unit_at_a_time_and_all_end(config, cluster, root):
    assert states(made(config, "abcdefgh")) == done("abcdefgh")
    assert len(cluster.actors) == 4  # two machines of two processors
    assert sum(len(actor.units) for actor in cluster.actors) == 8
    assert all(actor.killed for actor in cluster.actors)
    assert cluster.closed
    assert not list(root.iterdir())  # no token is left


def test_ray_itself_starts_and_tries_nothing_again(config, cluster):
    made(config, "a")
    asked = cluster.options_of_actors
    assert (asked["max_restarts"], asked["max_task_retries"]) == (0, 0)
    assert (asked["num_cpus"], asked["num_gpus"]) == (1.0, 0.0)


def test_a_worker_reserves_a_gpu_where_there_are_some_and_the_run_may_use_them(config, cluster):
    def reserved(config, **options):
        made(config, "a", options=RayOptions(**options))
        return cluster.options_of_actors["num_cpus"], cluster.options_of_actors["num_gpus"]

    cluster.gpus = 1.0
    assert reserved(config) == (1.0, 1.0)
    assert reserved(config, cpus=0.5, gpus=0.25) == (0.5, 0.25)
    on_cpu = replace(config, distill=replace(config.distill, device="cpu"))
    assert reserved(on_cpu) == (1.0, 0.0)


def test_a_unit_of_a_dead_worker_is_made_by_another_and_no_other_is_charged(config, cluster):
    cluster.plan = {unit: [RayError("it died")] for unit in "abcd"}
    assert states(made(config, "abcdef")) == done("abcdef")
    cluster.plan = {"b": [RayError("it died"), RayError("it died")], "c": [RayError("it died")]}
    outcomes = made(config, "abcdef")
    assert states(outcomes) == {**done("acdef"), "b": "failed"}
    assert outcomes["b"].summary == (
        "its worker process died twice (out of memory?); let fewer workers share a machine by a "
        "larger --ray-cpus"
    )


def test_a_future_that_never_ends_is_noticed_within_the_limit(config, cluster):
    cluster.plan = {"b": ["never"]}
    begin = time.monotonic()
    assert states(made(config, "abc", options=RayOptions(jobs=1), max_silence=0.3)) == done("abc")
    assert 0.3 < time.monotonic() - begin < 30
    assert cluster.actors[0].killed  # it may only have been slow: it must not go on


def test_a_worker_on_a_lost_machine_is_given_up_before_the_limit(config, cluster):
    cluster.plan = {"a": ["machine"]}
    assert states(made(config, "abcd", max_silence=600.0)) == done("abcd")


def test_a_worker_that_died_while_it_was_idle_costs_no_unit(config, cluster, monkeypatch):
    monkeypatch.setattr(ray_workers, "_STALE", 0.0)
    cluster.ended = {0}
    died = [RayError("it died")]
    cluster.plan = {"a": died, "b": list(died)}  # which each may have once
    assert states(made(config, "abc", options=RayOptions(jobs=1))) == done("abc")
    assert cluster.actors[0].units == []


def test_single_units_have_the_threads_of_a_whole_machine(config, cluster, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made(config, "ab", options=RayOptions(cpus=2.0))
    assert {count for actor in cluster.actors for count in actor.threads} == {2}
    cluster.actors.clear()
    made(config, "ab", options=RayOptions(cpus=2.0), alone=True)
    assert {count for actor in cluster.actors for count in actor.threads} == {8}
    cluster.actors.clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made(config, "ab", options=RayOptions(cpus=2.0))
    found = {count for actor in cluster.actors for count in actor.threads}
    assert found == {torch.get_num_threads()}


OTHER_VERSION = (
    "host-two has pcdistill 0.0.1 and Python 3.11, but this run pcdistill 0.1.0 and Python "
    "3.11; install the same on every machine of the cluster"
)
NOT_SHARED = (
    "host-two does not see the workspace ROOT of this machine; put it on a file system that all "
    "machines of the cluster share under one path (--workspace)"
)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": "0.0.1", "python": "3.11"}, OTHER_VERSION),
        ({"sees_workspace": False}, NOT_SHARED),
    ],
)
def test_a_machine_that_does_not_fit_is_left_out_in_one_sentence(
    config, cluster, root, caplog, monkeypatch, change, sentence
):
    monkeypatch.setattr(ray_workers, "own_versions", lambda: ("0.1.0", "3.11"))
    for node in cluster.nodes:
        cluster.greetings[node] = cluster.greeting(node, version="0.1.0", python="3.11")
    cluster.greetings["two"] = cluster.greetings["two"]._replace(**change)
    assert states(made(config, "abcd")) == done("abcd")
    told = sentence.replace("ROOT", str(root))
    assert caplog.messages == [f"{told}; the run goes on without that machine"]
    assert not cluster.actors[1].units
    cluster.nodes = ("two",)
    with pytest.raises(ConfigError) as refused:
        made(config, "abcd")
    assert str(refused.value) == told


def test_a_machine_without_the_folder_of_the_run_is_told_of_once(config, cluster, caplog):
    cluster.greetings["two"] = cluster.greeting("two", has_folder=False)
    assert states(made(config, "abcd")) == done("abcd")
    assert [message.partition(":")[0] for message in caplog.messages] == ["host-two"]


def test_workers_that_cannot_begin_end_the_run_in_one_sentence(config, cluster):
    cluster.nodes = ("one",)
    cluster.greetings["one"] = Reference(RayError("died\n  No module named 'pcdistill'\n"))
    with pytest.raises(
        ConfigError, match=r"^workers end before they begin \(No module named 'pcdistill'\); every"
    ):
        made(config, "a")
    assert len(cluster.actors) < 10


def test_a_bug_in_a_worker_is_not_swallowed_nor_tried_again(config, cluster):
    cluster.plan = {"a": [RayTaskError(ZeroDivisionError("a bug"))]}
    with pytest.raises(ZeroDivisionError, match="a bug"):
        made(config, "a")
    cluster.plan = {"a": [Heard(outcome=ConfigError("a setting is wrong; mend it"))]}
    with pytest.raises(ConfigError, match="mend it"):
        made(config, "a")


def test_what_workers_say_and_log_arrives_with_the_name_of_their_machine(config, cluster, caplog):
    words = UnitProgress("a", 1, 2, "halves")
    line = LogLine("pcdistill.here", logging.WARNING, "it is 3 % too dark")
    cluster.plan = {"a": [Heard((words,), (line,))], "b": ["done"]}
    show = Heeding()
    pool = WorkerPool(RayWorkers(config, RayOptions(jobs=1)))
    assert pool.can_work()
    outcomes = pool.outcomes(Letters, [Task("b", (), ""), Task("a", (), "")], show)
    assert next(outcomes)[0] == "b"
    monitored = cluster.actors[0]
    monitored.listen = type(monitored.listen)(
        lambda seconds: Heard(outcome=UnitRecord("", "done", "made a", 0.0, {}, {}))
    )
    assert next(outcomes)[0] == "a"
    pool.close()
    assert show.said == [("a", 1, 2, "halves")]
    assert caplog.record_tuples == [
        ("pcdistill.here", logging.WARNING, "host-one: it is 3 % too dark")
    ]


def test_what_another_machine_wrote_counts_once_it_is_seen_here(config, cluster, root, monkeypatch):
    monkeypatch.setattr(ray_workers, "_SHOW_OUTPUTS", 0.3)
    (root / "here").write_text("four")
    outcome = UnitRecord("", "done", "made", 0.0, {"here": 4}, {})
    cluster.plan = {
        "a": [Heard(outcome=outcome)],
        "b": [Heard(outcome=UnitRecord("", "done", "made", 0.0, {"elsewhere": 4}, {}))],
    }
    outcomes = made(config, "ab")
    assert outcomes["a"] == outcome
    assert outcomes["b"].state == "failed"
    assert f"wrote {root / 'elsewhere'}, but this machine does not see it" in outcomes["b"].summary


def test_an_actor_answers_while_it_works(config, root, monkeypatch):
    """Without a cluster: the class is a plain one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.chdir(root)
    logger = logging.getLogger()
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    actor = RayActor(config, str(root), gpus=False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    threads = torch.get_num_threads()
    answer = actor.work(Slow, Task("a", (), "f"), threads, 0.05)
    assert answer.outcome is None
    (root / "go").touch()
    progress, log = list(answer.progress), list(answer.log)
    while answer.outcome is None:
        answer = actor.listen(1.0)
        progress += answer.progress
        log += answer.log
    assert progress == [UnitProgress("a", 1, 2, "halves")]
    assert (answer.outcome.state, answer.outcome.summary) == ("done", "slept")
    assert log == [LogLine("pcdistill.slow", logging.WARNING, "it takes long")]
    assert actor.listen(0.0) == Heard()
    (root / "token").write_text("right")
    monkeypatch.setattr("pcdistill.pipeline.ray_actor._LOOK_FOR", 0.0)
    monkeypatch.setattr("pcdistill.pipeline.ray_actor.import_ray", StandInContext)
    seen = [actor.greet(Token(str(root / "token"), text)) for text in ("right", "wrong")]
    assert [greeting.sees_workspace for greeting in seen] == [True, False]


class StandInContext:
    def get_runtime_context(self):
        return self

    def get_node_id(self):
        return "here"


class Slow(OfRoot):
    name = "slow"

    def work(self, task, report):
        report(1, 2, "halves")
        logging.getLogger("pcdistill.slow").warning("it takes long")
        while not (self.root / "go").exists():
            time.sleep(0.02)
        return "slept"

    def outputs(self, unit):
        return ()


class Stopping(Letters):
    """The unit b stops its process for ever, the first time."""

    name = "stopping"

    def outputs(self, unit):
        return (self.root / "letters" / unit,)

    def work(self, task, report):
        if task.unit == "b" and not times_worked(self.root, "b"):
            self.tally("b")
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().work(task, report)


def records(root: Path) -> dict[str, dict]:
    """Every manifest entry, without what time it was."""
    found = {}
    for path in (root / "manifest").rglob("*.json"):
        entry = read_json(path)
        entry["details"].pop("finished")
        entry["details"].pop("session", None)
        found[str(path.relative_to(root))] = {**entry, "seconds": 0}
    return found


def files(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in ("letters/a", "letters/b", "word")}


@pytest.mark.slow
@pytest.mark.thorough
def test_a_cluster_of_this_machine_makes_the_same_as_one_process(config, root, tmp_path, capfd):
    """One worker is killed on the way, single units are made by workers too, all in silence."""
    alone = RunConfig(run=GeneralConfig(workspace=str(tmp_path / "alone")))
    run_stages(alone, STAGES)
    (root / "die-b").write_text("once")
    workers = RayWorkers(config, RayOptions(address="local", jobs=2))
    summary = run_stages(config, (*STAGES, Pids), workers=workers)
    assert (summary.done, summary.failures) == (6, [])
    assert files(root) == files(tmp_path / "alone")
    mine = {name: entry for name, entry in records(root).items() if "pids" not in name}
    assert mine == records(tmp_path / "alone")
    assert times_worked(root, "b") == 2
    assert [times_worked(root, unit) for unit in ("a", "c", "d", "word")] == [1, 1, 1, 1]
    assert int((root / "pids").read_text()) != os.getpid()
    assert not import_ray().is_initialized()
    assert capfd.readouterr() == ("", "")


class Pids(OfRoot):
    name = "pids"

    def units(self):
        return ("only",)

    def outputs(self, unit):
        return (self.root / "pids",)

    def work(self, task, report):
        with atomic_file(self.root / "pids") as temporary:
            temporary.write_text(str(os.getpid()))
        return "noted"


@pytest.fixture(scope="module")
def ray():
    """A cluster of this machine that several tests use."""
    options = RayOptions(address="local")
    cluster = ray_workers.RayCluster(options, 4)
    yield cluster
    cluster.close()


@pytest.mark.slow
@pytest.mark.thorough
def test_a_unit_that_kills_its_worker_twice_fails_alone(ray, config, root):
    (root / "die-b").write_text("always")
    summary = run_stages(config, STAGES, workers=RayWorkers(config, RayOptions(jobs=2)))
    assert [failure.unit for failure in summary.failures] == ["b"]
    assert "its worker process died twice" in summary.failures[0].reason
    assert (root / "word").read_text() == "acd"
    assert [times_worked(root, unit) for unit in "abcd"] == [1, 2, 1, 1]


@pytest.mark.slow
@pytest.mark.thorough
def test_a_process_that_stands_still_is_replaced(ray, config, root):
    workers = RayWorkers(config, RayOptions(jobs=2), max_silence=20.0)
    summary = run_stages(config, (Stopping,), workers=workers)
    assert (summary.done, summary.failures) == (4, [])
    assert times_worked(root, "b") == 2


@pytest.mark.slow
@pytest.mark.thorough
def test_an_actor_loads_a_teacher_once_for_all_of_its_units(ray, config, root):
    workers = RayWorkers(config, RayOptions(jobs=2))
    assert run_stages(config, [Glances], workers=workers).done == len(LETTERS)
    looks = {tuple((root / "glances" / letter).read_text().split()) for letter in LETTERS}
    processes = {process for process, _ in looks}
    assert str(os.getpid()) not in processes
    assert len(looks) == len(processes) <= 2
