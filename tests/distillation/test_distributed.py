"""Several processes train the student that one would, and say so when one of them is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pcdistill.distillation.distributed import ALONE, Ranks
from pcdistill.distillation.trainer import Trainer
from pcdistill.errors import ConfigError, LostRankError, TrainingError
from pcdistill.networks import build_student
from tests.distillation.rank_processes import on_ranks
from tests.distillation.test_trainer import CHANNELS, CPU, settings, toy_scene

SAME = 5e-8
"""Relative, after 20 steps in float64; up to 3e-9 was found, of losses 3e-14. In float32 Adam makes
steps of its full rate out of gradients that are only rounding, as those of a constant input's
first kernel."""
SCENES = 6
FULL = {"epochs": 10, "batch_size": 3, "ensemble_preset": "paper", "ensemble_start": 0.5}
GRID = {**FULL, "augment": "grid", "batch_size": 5, "ensemble_preset": "release"}
"""Two steps an epoch; of the second one process has nothing, and the voxels are kept ones."""
EVERYTHING = {
    **FULL,
    **{"epochs": 4, "batch_size": 4, "accumulate": 2, "max_gradient_norm": 0.3, "ema_decay": 0.9},
    **{"optimizer": "adamw", "weight_decay": 0.1},
    **{"max_voxels_per_batch": 850, "batch_order": "even"},
}
"""Eight steps of two to four parts: two scenes have about as many voxels as the limit."""


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def new_trainer(
    ranks: Ranks, target: str, histories: Path | None, changes: dict[str, Any]
) -> Trainer:
    """One with the temporal ensemble where there is a file for its histories."""
    torch.manual_seed(ranks.rank)  # the first process gives its weights to the others
    network = build_student("MinkUNet14A", 3, CHANNELS, width=0.125)
    scenes = [toy_scene(f"scene {i}", i) for i in range(SCENES)]
    if changes.get("augment") == "grid":
        network = build_student("MinkUNet14A", 7, CHANNELS, width=0.125)
        scenes = [replace(scene, **seen_too(scene.points)) for scene in scenes]
    text, how = torch.eye(CHANNELS)[:3], settings(learning_rate=1e-3, **changes)
    return Trainer(
        network,
        scenes,
        text,
        how,
        CPU,
        target=target,
        ensemble=histories is not None,
        ranks=ranks,
        history_path=histories,
    )


def seen_too(points: torch.Tensor) -> dict[str, torch.Tensor]:
    """Normals and colours of a scene, some of each."""
    normals = torch.nn.functional.normalize(points - 1, dim=1)
    return {"normals": normals, "colors": (100 * points).clamp(0, 255).to(torch.uint8)}


def to_numpy(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.numpy().copy() for key, value in state.items()}


def end_of(trainer: Trainer) -> dict[str, np.ndarray]:
    """State, with the histories themselves in the place of where they are."""
    state = to_numpy(trainer.state())
    if trainer._ensemble is not None:
        del state["ensemble/mark"], state["ensemble/slots"]
        for scene in trainer._ensemble.scenes:
            state[f"history of {scene}"] = trainer._ensemble.history(scene).numpy().copy()
    return state


def learn(ranks: Ranks, target: str, histories: Path | None, changes: dict[str, Any]) -> tuple:
    """Losses of each epoch, and the state at the end."""
    with float64():
        trainer = new_trainer(ranks, target, histories, changes)
        curve = []
        while not trainer.finished:
            result = trainer.train_epoch()
            told = (result.loss, result.ensemble_loss, result.gradient_norm, result.voxels)
            curve.append(told)
        return np.array(curve), end_of(trainer)


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    difference = np.linalg.norm((found - wanted).astype(float))
    return float(difference / max(np.linalg.norm(wanted.astype(float)), 1e-12))


def assert_same_training(found: tuple, wanted: tuple) -> None:
    np.testing.assert_allclose(found[0], wanted[0], rtol=SAME)
    assert found[1].keys() == wanted[1].keys()
    for key, value in wanted[1].items():
        if not key.startswith("exp_avg"):
            assert distance(found[1][key], value) <= SAME, key


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("target", "ensemble", "changes"),
    [
        ("superpoint", False, FULL),
        pytest.param("superpoint", True, FULL, marks=pytest.mark.slow),
        pytest.param("superpoint", True, GRID, marks=pytest.mark.slow),
        pytest.param("point", False, {**GRID, "max_voxels_per_step": 0}, marks=pytest.mark.slow),
        ("superpoint", True, EVERYTHING),
        pytest.param("superpoint", True, {**EVERYTHING, "epochs": 10}, marks=pytest.mark.slow),
    ],
    ids=["base", "ensemble", "idle", "points", "everything", "everything, 20 steps"],
)
def test_two_processes_train_the_student_of_one(tmp_path, target, ensemble, changes):
    of_one, of_two = (tmp_path / name if ensemble else None for name in ("one", "two"))
    alone = on_ranks(1, learn, target, of_one, changes)[0]
    first, second = on_ranks(2, learn, target, of_two, changes)
    assert_same_training(first, alone)
    assert (alone[0][-1, 1] > 0) == ensemble
    assert sum(key.startswith("history of ") for key in first[1]) == SCENES * ensemble
    for key, value in first[1].items():
        if key.startswith("model/"):
            assert np.array_equal(value, second[1][key]), key


def pause_and_go_on(ranks: Ranks, histories: Path, steps: int) -> tuple:
    """State where training paused after some steps, and at the end of it."""
    with float64():
        trainer, done = new_trainer(ranks, "superpoint", histories, FULL), []

        def pause() -> bool:
            done.append(1)
            return len(done) == steps and ranks.is_first

        while trainer.train_epoch(pause) is not None:
            pass
        paused = to_numpy(trainer.state())
        trainer.confirm_state()
        while not trainer.finished:
            trainer.train_epoch()
        return paused, end_of(trainer)


def go_on(ranks: Ranks, histories: Path, paused: dict[str, np.ndarray]) -> tuple:
    with float64():
        trainer = new_trainer(ranks, "superpoint", histories, FULL)
        trainer.load_state({key: torch.from_numpy(value) for key, value in paused.items()})
        while not trainer.finished:
            trainer.train_epoch()
        return np.zeros(0), end_of(trainer)


@pytest.mark.thorough
def test_a_state_within_an_epoch_goes_on_to_the_same_student_with_any_number_of_processes(tmp_path):
    """In the eighth epoch, so that both processes write histories."""
    path = tmp_path / "histories"
    paused, end = on_ranks(2, pause_and_go_on, path, 8)[0]
    assert int(paused["half/step"]) == 1
    assert int(paused["epoch"]) == 7
    again = on_ranks(2, go_on, path, paused)[0][1]
    assert all(np.array_equal(again[key], value) for key, value in end.items())
    assert_same_training(on_ranks(1, go_on, path, paused)[0], (np.zeros(0), end))


def lose_one(ranks: Ranks) -> str:
    trainer = new_trainer(ranks, "superpoint", None, FULL)
    trainer.train_epoch()
    if ranks.rank == 1:
        os._exit(9)
    with pytest.raises(LostRankError) as caught:
        trainer.train_epoch()
    with pytest.raises(LostRankError):  # at once, without waiting again
        ranks.wait()
    return str(caught.value)


@pytest.mark.thorough
def test_a_lost_process_is_told_in_one_sentence():
    message = on_ranks(2, lose_one, lost=1)[0]
    assert message.startswith(
        "rank 0 of 2: another process of the training ended or did not answer"
    )
    assert "give the same command again" in message
    assert "\n" not in message


def disagree(ranks: Ranks) -> list:
    with pytest.raises(TrainingError, match=r"state: the processes found .* epochs \[3, 4\]"):
        ranks.require_same(3 + ranks.rank, "state")
    ranks.require_same(3, "state")
    with pytest.raises(ConfigError if ranks.is_first else SystemExit):
        ranks.from_first(refuse)
    with pytest.raises(ConfigError, match="2 processes share the scenes of each step, .* are 1"):
        new_trainer(ranks, "superpoint", None, {"batch_size": 1})
    parts = {"batch_size": 3, "accumulate": 2}
    with pytest.raises(ConfigError, match="share the scenes of each of the 2 parts of a step"):
        new_trainer(ranks, "superpoint", None, parts)
    with pytest.raises(ValueError, match="several processes need a file for the histories"):
        Trainer(
            nn.Identity(),
            [toy_scene("one", 1)],
            torch.eye(CHANNELS),
            settings(),
            CPU,
            ensemble=True,
            ranks=ranks,
        )
    return [
        ranks.from_first(lambda: "of the first"),
        ranks.any(ranks.rank == 1),
        ranks.any(False),
        ranks.shares(1 + ranks.rank, 0),
        ranks.gather([ranks.rank, 7]).tolist(),
    ]


def refuse() -> None:
    raise ConfigError("no")


@pytest.mark.thorough
def test_processes_agree():
    answers = on_ranks(2, disagree)
    for rank, shares in enumerate(([1 / 3, 0], [2 / 3, 0])):
        assert answers[rank] == ["of the first", True, False, shares, [[0, 7], [1, 7]]]


def test_alone_nothing_is_sent():
    tensor = torch.ones(2)
    assert ALONE.add(tensor) is tensor
    assert ALONE.shares(3, 0) == [1.0, 1.0]
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.from_first(lambda: 5) == 5
    ALONE.wait()
