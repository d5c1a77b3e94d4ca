"""Histories in a mapped file: exact, and as its last state says whenever a process is killed."""

from __future__ import annotations

import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest
import torch

from pcdistill.distillation.distributed import Ranks
from pcdistill.distillation.history_file import HistoryFile
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble
from pcdistill.distillation.trainer import Trainer
from pcdistill.errors import TrainingError
from tests.distillation.rank_processes import on_ranks
from tests.distillation.test_trainer_by_hand import CPU, TEXT, Matrix, settings, small_scene

SCENES = ("one", "two", "three")
COUNTS = (40, 7, 90)
CLASSES, CHANNELS = 5, 16


def new_file(path, prompts=CLASSES) -> HistoryFile:
    return HistoryFile(path, SCENES, COUNTS, prompts)


def scores(seed: int, scene: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNTS[scene], CLASSES, generator=generator)


def test_labels_are_those_of_a_float64_history_of_features_over_50_epochs(tmp_path):
    """On every point, whatever the scene is cut into: into other voxels in each epoch."""
    generator = torch.Generator().manual_seed(7)
    text = torch.nn.functional.normalize(torch.randn(CLASSES, CHANNELS, generator=generator), dim=1)
    file = new_file(tmp_path / "histories")
    file.create()
    ensemble = TemporalEnsemble(text, 0.9, histories=file)
    features = [np.zeros((count, CHANNELS)) for count in COUNTS]
    for epoch in range(50):
        for number, (scene, count) in enumerate(zip(SCENES, COUNTS, strict=True)):
            voxels = torch.randint(0, count // 2, (count,), generator=generator)
            output = torch.randn(count // 2, CHANNELS, generator=generator)
            new = output.double().numpy()[voxels.numpy()]
            features[number] = new if epoch == 0 else 0.9 * features[number] + 0.1 * new
            ensemble.update(scene, output, point_to_voxel=voxels)
            found = ensemble.pseudo_labels(scene, torch.zeros(count, dtype=torch.int64)).point
            expected = (features[number] @ text.double().numpy().T).argmax(axis=1)
            assert np.array_equal(found.numpy(), expected), (epoch, scene)
        if epoch % 7 == 0:
            file.state()
            file.confirm()


def test_a_state_holds_through_all_updates_until_the_next_is_confirmed(tmp_path):
    path = tmp_path / "histories"
    file = new_file(path)
    file.create()
    for number, scene in enumerate(SCENES):
        file.put(scene, scores(0, number))
    state = file.state()
    file.confirm()
    for seed in range(1, 4):  # an epoch or three that are lost
        file.put("one", scores(seed))
    file.put("three", scores(9, 2))
    later = file.state()  # written half: not confirmed
    again = new_file(path)
    again.load(state)
    for number, scene in enumerate(SCENES):
        assert torch.equal(again.get(scene), scores(0, number)), scene
    again.load(later)
    assert torch.equal(again.get("one"), scores(3))
    assert torch.equal(again.get("two"), scores(0, 1))
    assert torch.equal(again.get("three"), scores(9, 2))
    again.confirm()
    again.put("one", scores(11))
    third = new_file(path)
    third.load(later)
    assert torch.equal(third.get("one"), scores(3))


def test_a_state_is_of_its_own_file_only(tmp_path):
    path = tmp_path / "histories"
    file = new_file(path)
    file.create()
    file.put("one", scores(0))
    state = file.state()
    assert new_file(path).belongs_to(state)
    assert not new_file(path, CLASSES + 1).belongs_to(state)
    assert not new_file(tmp_path / "missing").belongs_to(state)
    shutil.copy(path, tmp_path / "short")
    os.truncate(tmp_path / "short", file.file_bytes - 1)
    assert not new_file(tmp_path / "short").belongs_to(state)
    new_file(path).create()
    with pytest.raises(ValueError, match="is not the file of histories that the state names"):
        new_file(path).load(state)


def test_a_disk_without_place_is_a_sentence_and_leaves_no_file(tmp_path):
    path = tmp_path / "histories"

    def full(*_):
        raise OSError(28, "No space left on device")

    with (
        mock.patch.object(os, "posix_fallocate", full),
        pytest.raises(TrainingError, match="could not be reserved .No space left on device.; free"),
    ):
        new_file(path).create()
    assert not path.exists()


def test_the_file_has_two_slots_of_float32_a_point_and_class(tmp_path):
    file = new_file(tmp_path / "histories")
    file.create()
    assert file.nbytes == 0
    assert file.get("two") is None
    for number, scene in enumerate(SCENES):
        file.put(scene, scores(1, number))
    assert file.nbytes == 4 * sum(COUNTS) * CLASSES
    assert (tmp_path / "histories").stat().st_size == 4096 + 2 * file.nbytes
    assert file.get("three").dtype == torch.float32


def test_rows_of_superpoints_are_not_taken_for_those_of_points(tmp_path):
    """Nor those of an earlier version, which kept points only; where there are as many, too."""
    path = tmp_path / "histories"
    new_file(path).create()
    head = json.loads(path.read_bytes()[:4096])
    assert head == {
        **{"format": "pcdistill histories 1", "mark": head["mark"]},
        **{"scenes": 3, "points": sum(COUNTS), "prompts": CLASSES},
    }
    state = {"mark": torch.tensor(head["mark"])}
    assert new_file(path).belongs_to(state)
    assert not HistoryFile(path, SCENES, COUNTS, CLASSES, rows="superpoints").belongs_to(state)


def test_a_history_of_another_number_of_rows_is_refused(tmp_path):
    file = new_file(tmp_path / "histories")
    file.create()
    with pytest.raises(
        ValueError, match=r"history of scene 'two' has shape \(40, 5\), .* \(7, 5\)"
    ):
        file.put("two", scores(0))


def learner(path, ranks: Ranks | None = None, preset="paper") -> Trainer:
    torch.manual_seed(0)
    scenes = [small_scene(f"scene {number}", number, 4) for number in range(6)]
    how = settings(
        augment="reference",
        max_voxels_per_step=20,
        batch_size=2,
        epochs=6,
        ensemble_preset=preset,
        ensemble_decay=0.9,
    )
    given = {} if ranks is None else {"ranks": ranks}
    return Trainer(Matrix(), scenes, TEXT, how, CPU, ensemble=True, history_path=path, **given)


def weights_of(trainer: Trainer) -> torch.Tensor:
    while not trainer.finished:
        trainer.train_epoch()
    return trainer.network.weight.detach().clone()


@pytest.mark.parametrize(("preset", "rows"), [("paper", 24), ("release", 4)])
def test_a_student_is_that_of_histories_in_memory(tmp_path, preset, rows):
    mapped = learner(tmp_path / "h", preset=preset)
    expected = weights_of(learner(None, preset=preset))
    assert torch.equal(weights_of(mapped), expected)
    assert (tmp_path / "h").stat().st_size == 4096 + 2 * 4 * 6 * rows * len(TEXT)


@pytest.mark.parametrize("lost_steps", range(1, 7))
def test_a_training_that_was_killed_goes_on_exactly_from_its_last_state(tmp_path, lost_steps):
    """Killed some steps after a state, in the middle of an epoch or behind it."""
    expected = weights_of(learner(None))
    path = tmp_path / "h"
    first = learner(path)
    while first.epoch < 5:
        first.train_epoch()
    assert first.train_epoch(lambda: True) is None  # after a step of the last epoch but one
    state = {key: value.clone() for key, value in first.state().items()}
    first.confirm_state()
    for _ in range(lost_steps):
        if not first.finished:
            first.train_epoch(lambda: True)
    second = learner(path)
    assert second.has_histories_of(state)
    second.load_state(state)
    assert torch.equal(weights_of(second), expected)


def test_a_state_with_scores_goes_on_in_a_file(tmp_path):
    whole = learner(None)
    while whole.epoch < 5:
        whole.train_epoch()
    state = {key: value.clone() for key, value in whole.state().items()}
    second = learner(tmp_path / "h")
    assert second.has_histories_of(state)
    second.load_state(state)
    assert torch.equal(weights_of(second), weights_of(whole))


def shared(ranks: Ranks, path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Weights at the end, and all histories; the last epoch is done again from a state."""
    trainer = learner(path, ranks)
    while trainer.epoch < 5:
        trainer.train_epoch()
    state = {key: value.clone() for key, value in trainer.state().items()}
    state = ranks.from_first(lambda: state)
    trainer.confirm_state()
    trainer.train_epoch()
    again = learner(path, ranks)
    again.load_state(state)
    again.train_epoch()
    again.state()
    histories = again._ensemble.histories
    found = [histories.get(f"scene {number}").numpy().copy() for number in range(6)]
    return again.network.weight.detach().numpy(), found


@pytest.mark.thorough
def test_two_processes_write_one_file_each_its_own_scenes(tmp_path):
    alone = shared(Ranks(), tmp_path / "alone")
    for found in on_ranks(2, shared, tmp_path / "both"):
        np.testing.assert_allclose(found[0], alone[0], rtol=1e-3, atol=1e-4)  # float32, and Adam
        for one, other in zip(found[1], alone[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
