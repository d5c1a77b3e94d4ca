"""What a training tells goes on where it was; TensorBoard's files hold the same numbers."""

from __future__ import annotations

import json

import pytest

from pcdistill.artifacts import tensorboard_writer
from pcdistill.artifacts.training_log import TrainingLog, training_seconds
from pcdistill.errors import MissingExtraError


def log(folder, **changes) -> TrainingLog:
    return TrainingLog(folder, **{"steps": True, "tensorboard": False, "writes": True, **changes})


def test_lines_of_what_is_done_again_are_taken_back(tmp_path):
    first = log(tmp_path)
    first.go_on(0, 0)
    for step in (1, 2, 3):
        first.add_step({"step": step, "loss": 0.5})
    first.add_epoch({"epoch": 1, "seconds": 2.5}, 2)
    first.add_epoch({"epoch": 2, "seconds": 4.0}, 4)
    with first.steps.open("a") as file:
        file.write('{"step": 4, "lo')  # killed
    again = log(tmp_path)
    again.go_on(1, 2)
    again.add_step({"step": 3, "loss": 0.25})
    told = [json.loads(line) for line in again.steps.read_text().splitlines()]
    assert [(one["step"], one["loss"]) for one in told] == [(1, 0.5), (2, 0.5), (3, 0.25)]
    assert [json.loads(line)["epoch"] for line in again.metrics.read_text().splitlines()] == [1]
    again.add_epoch({"epoch": 2, "seconds": 1.0}, 4)
    assert training_seconds(again.metrics) == 3.5


def test_epochs_that_told_of_no_seconds_count_as_none(tmp_path):
    """Those of an earlier version, from which a student goes on."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2, "seconds": 1.5}\n')
    assert training_seconds(tmp_path / "metrics.jsonl") == 1.5


def test_only_the_first_of_several_processes_writes(tmp_path):
    other = log(tmp_path, writes=False, tensorboard=True)
    other.go_on(0, 0)
    other.add_step({"step": 1})
    other.add_epoch({"epoch": 1}, 1)
    other.close()
    assert other.takes_steps  # the numbers of all are added up
    assert not list(tmp_path.iterdir())
    assert not log(tmp_path, steps=False).takes_steps


@pytest.mark.thorough
def test_tensorboard_s_files_have_steps_and_epochs(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = log(tmp_path, tensorboard=True, steps=False)
    drawn.go_on(0, 0)
    drawn.add_step({"step": 1, "epoch": 1, "loss": 0.5})
    drawn.add_epoch({"epoch": 1, "loss": 0.75}, 1)
    drawn.close()
    assert not drawn.steps.exists()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"step/loss", "epoch/loss"}
    assert [(one.step, one.value) for one in events.Scalars("step/loss")] == [(1, 0.5)]
    assert [(one.step, one.value) for one in events.Scalars("epoch/loss")] == [(1, 0.75)]


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tensorboard_writer, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcdistill\[tensorboard\]'"):
        log(tmp_path, tensorboard=True).go_on(0, 0)
