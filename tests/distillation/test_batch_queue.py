"""Threads prepare the next step's batches; the student does not depend on their number."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.trainer import Trainer
from pcdistill.errors import ArtifactError
from tests.distillation.test_trainer_by_hand import CPU, TEXT, Matrix, settings, small_scene

SCENES = 5
WAYS = {
    "reference": {"augment": "reference", "batch_size": 2},
    "parts": {"augment": "full", "batch_size": 3, "accumulate": 2},
    "limited": {"augment": "full", "batch_size": 4, "max_voxels_per_batch": 30},
    "even": {"augment": "reference", "batch_size": 2, "batch_order": "even"},
    "alike": {"augment": "none", "batch_size": 2, "batch_order": "alike"},
}


class Reading:
    """Scenes read anew each time; notes which, and by which thread."""

    def __init__(self, damaged: int | None = None) -> None:
        self.read: list[tuple[int, str]] = []
        self.damaged = damaged
        names = [f"scene {number}" for number in range(SCENES)]
        self.source = SceneSource(names, [24] * SCENES, [4] * SCENES, self.load, kept_bytes=0)

    def load(self, number: int):
        self.read.append((number, threading.current_thread().name))
        if number == self.damaged:
            raise ArtifactError("scene is damaged")
        return small_scene(f"scene {number}", number, 4)


class Noting(Matrix):
    """Notes how many scenes were read when the student is asked; waits for those of a next step."""

    def __init__(self, reading: Reading, ahead: int) -> None:
        super().__init__()
        self.reading = reading
        self.ahead = ahead
        self.before = 0
        self.found: list[int] = []

    def forward(self, x):
        wanted = self.before + min(len(self.found) + 1 + self.ahead, SCENES)
        for _ in range(2000):
            if len(self.reading.read) >= wanted:
                break
            threading.Event().wait(0.005)
        self.found.append(len(self.reading.read) - self.before)
        return super().forward(x)


def learner(reading: Reading, workers: int, network: Matrix | None = None, **changes) -> Trainer:
    how: dict[str, Any] = {"max_voxels_per_step": 12, "epochs": 3, **changes}
    chosen = settings(workers=workers, **how)
    network = network or Matrix()
    return Trainer(network, reading.source, TEXT, chosen, CPU, ensemble=True, seed=3)


def finished(trainer: Trainer) -> torch.Tensor:
    while not trainer.finished:
        trainer.train_epoch()
    return trainer.network.weight.detach().clone()


@pytest.mark.parametrize("way", WAYS)
def test_the_student_is_the_same_for_any_number_of_threads(way):
    expected = finished(learner(Reading(), 0, **WAYS[way]))
    for workers in (1, 4):
        assert torch.equal(finished(learner(Reading(), workers, **WAYS[way])), expected)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("way", WAYS)
def test_a_training_that_pauses_after_every_step_gives_the_same_student(way, workers):
    """What was drawn and prepared for the step after the pause is drawn again."""
    expected = finished(learner(Reading(), 1, **WAYS[way]))
    part = learner(Reading(), workers, **WAYS[way])
    while not part.finished:
        part.train_epoch(lambda: True)
        state = {key: value.clone() for key, value in part.state().items()}
        part = learner(Reading(), workers, **WAYS[way])
        part.load_state(state)
    assert torch.equal(part.network.weight, expected)


def first_epoch(workers: int, ahead: int) -> tuple[list[int], set[str]]:
    """Scenes read at each step, one scene a step, and the threads that read them."""
    reading = Reading()
    network = Noting(reading, ahead)
    trainer = learner(reading, workers, network, batch_size=1, augment="full")
    assert not reading.source.sees_color  # reads a scene, once
    network.before = len(reading.read)
    trainer.train_epoch()
    return network.found, {thread for _, thread in reading.read[network.before :]}


def test_the_next_step_is_prepared_while_the_student_learns_from_one():
    """And no further one: memory holds the scenes of two steps."""
    found, threads = first_epoch(2, 1)
    assert found == [2, 3, 4, 5, 5]
    assert threads
    assert threading.main_thread().name not in threads


def test_without_threads_each_step_reads_its_own_scenes_itself():
    assert first_epoch(0, 0) == ([1, 2, 3, 4, 5], {threading.main_thread().name})


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_scene_is_the_training_s_own_and_no_thread_stays(workers):
    reading = Reading(damaged=3)
    trainer = learner(reading, workers, batch_size=1, augment="full")
    threads = threading.active_count()
    with pytest.raises(ArtifactError, match="scene is damaged"):
        finished(trainer)
    assert threading.active_count() == threads
