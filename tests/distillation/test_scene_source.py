"""Scenes of a training are read when a step needs them, and few are in memory at a time."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.trainer import Trainer
from tests.distillation.rank_processes import on_ranks
from tests.distillation.test_trainer_by_hand import CPU, TEXT, Matrix, settings, small_scene

SCENES = 12
ONE = sum(v.nbytes for v in vars(small_scene("one", 0, 4)).values() if torch.is_tensor(v))


class Counted:
    """Scenes made anew at each reading; counts readings, and how many live at once."""

    def __init__(self, kept_bytes: int = 0) -> None:
        self.readings: list[int] = []
        self.most_alive = 0
        self._living: weakref.WeakSet[TrainingScene] = weakref.WeakSet()
        names = [f"scene {number}" for number in range(SCENES)]
        self.source = SceneSource(
            names, [24] * SCENES, [4] * SCENES, self.load, kept_bytes=kept_bytes
        )

    def load(self, number: int) -> TrainingScene:
        scene = small_scene(f"scene {number}", number, 4)
        self.readings.append(number)
        self._living.add(scene)
        self.most_alive = max(self.most_alive, len(self._living))
        return scene


def trained(scenes, given: dict[str, Any] | None = None, **changes) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    how = settings(augment="full", max_voxels_per_step=20, **changes)
    learner = Trainer(Matrix(), scenes, TEXT, how, CPU, ensemble=True, **(given or {}))
    while not learner.finished:
        learner.train_epoch()
    return {key: value.clone() for key, value in learner.state().items()}


def in_memory() -> list[TrainingScene]:
    return [small_scene(f"scene {number}", number, 4) for number in range(SCENES)]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kept", [0, 4 * ONE])
def test_reading_scenes_anew_changes_no_bit_of_the_student(batch_size, kept):
    counted = Counted(kept)
    found = trained(counted.source, batch_size=batch_size)
    for key, value in trained(in_memory(), batch_size=batch_size).items():
        assert torch.equal(found[key], value), key


def test_memory_holds_the_scenes_of_a_batch_not_of_the_training():
    counted = Counted()
    trained(counted.source, batch_size=3)
    assert len(counted.readings) >= 3 * SCENES  # three epochs
    assert counted.most_alive <= 2 * 3 + 1  # a step, the next one, and what is just read
    assert set(counted.readings) == set(range(SCENES))


def test_as_many_scenes_are_kept_as_the_bound_allows():
    counted = Counted(3 * ONE)
    for number in (0, 1, 2, 0, 1, 2):
        assert counted.source[number].name == f"scene {number}"
    assert counted.readings == [0, 1, 2]
    _ = counted.source[3]  # the least recently used one leaves: 0
    _ = counted.source[1], counted.source[2], counted.source[0]
    assert counted.readings == [0, 1, 2, 3, 0]
    assert counted.most_alive <= 4
    nothing = Counted(ONE - 1)
    _ = nothing.source[0], nothing.source[0]
    assert nothing.readings == [0, 0]


def test_several_threads_get_the_scene_of_their_number():
    counted = Counted(2 * ONE)
    wanted = [number % SCENES for number in range(60)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(counted.source.__getitem__, wanted))
    assert [scene.name for scene in found] == [f"scene {number}" for number in wanted]


def test_a_scene_of_another_size_than_was_said_is_refused():
    for counts, told in (((23, 4), "23 and 4"), ((24, 5), "24 and 5")):
        source = SceneSource(["one"], counts[:1], counts[1:], lambda _: small_scene("one", 0, 4))
        with pytest.raises(ValueError, match=f"24 points and 4 superpoints, expected {told}"):
            _ = source[0]


def readings_of(ranks: Ranks, path: Path) -> tuple[list[int], int]:
    counted = Counted()
    trained(counted.source, {"ranks": ranks, "history_path": path}, batch_size=4)
    return counted.readings, counted.most_alive


@pytest.mark.thorough
def test_each_process_reads_its_own_scenes_only(tmp_path):
    """Besides the first, which says what the student sees."""
    first, second = on_ranks(2, readings_of, tmp_path / "histories")
    epochs = 3
    for readings, alive in (first, second):
        # voxels are counted of half of the scenes; each epoch has half, one begins the histories
        assert len(readings) <= SCENES / 2 + (epochs + 1) * SCENES / 2 + 2
        assert alive <= 2 * 2 + 1
