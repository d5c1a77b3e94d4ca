"""Losses and gradients of a step against plain loops over the points of two small scenes.

The student is one matrix that turns a voxel's input into its output, so that what it says of a
voxel follows from the point that stands for it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from pcdistill.distillation.batches import TrainingScene
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.trainer import Trainer
from tests.tolerances import FLOAT32_SUMS

CPU = torch.device("cpu")
CHANNELS = 5
TEXT = torch.eye(CHANNELS)[[2, 0, 4]] + 0.1
VOXEL = 1.0


class Matrix(nn.Module):
    """Every voxel's input times one matrix."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = nn.Parameter(torch.randn(4, CHANNELS, generator=generator))

    def forward(self, x):
        return x.features @ self.weight


def small_scene(name: str, seed: int, superpoints: int) -> TrainingScene:
    """Points two and two in a voxel of one metre; some unseen; superpoints of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    count = 24
    cells = torch.arange(count) // 2
    points = torch.stack([cells % 4, cells // 4, cells % 3], dim=1).float() + 0.25
    points[1::2] += 0.5
    normals = functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    ids = torch.randint(0, superpoints, (count,), generator=generator)
    ids[:superpoints] = torch.arange(superpoints)
    means = torch.randn(superpoints, CHANNELS, generator=generator)
    seen = torch.rand(count, generator=generator) < 0.7
    features = torch.randn(count, CHANNELS, generator=generator)
    return TrainingScene(name, points, ids, means, seen, features, normals)


SCENES = (small_scene("one", 1, 3), small_scene("two", 2, 5))


def settings(**changes) -> TrainerSettings:
    values = {
        "voxel_size": VOXEL,
        "epochs": 3,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "final_learning_rate": 1e-3,
        "max_voxels_per_step": 0,
        "augment": "none",
        "ensemble_preset": "paper",
    }
    return TrainerSettings(**{**values, **changes})


CLASS_OF_PROMPT = (1, 0, 1)
"""Where two prompts ask for the second of two classes."""


def trainer(
    scenes=SCENES, class_of_prompt=None, *, target="superpoint", ensemble=False, **changes
) -> Trainer:
    mapping = class_of_prompt and torch.tensor(class_of_prompt)
    return Trainer(
        Matrix(),
        list(scenes),
        TEXT,
        settings(**changes),
        CPU,
        target=target,
        ensemble=ensemble,
        class_of_prompt=mapping,
    )


def inputs_of(scene: TrainingScene) -> torch.Tensor:
    """(N, 4): normal and height above the lowest point in units of 1.5 m."""
    height = scene.points[:, 2] - scene.points[:, 2].min()
    return torch.cat([scene.normals, height[:, None] / 1.5], dim=1)


def speakers(scene: TrainingScene) -> dict[int, int]:
    """Point -> the first point in the same cube of a metre, which speaks for it."""
    cells = [tuple(cell) for cell in (scene.points / VOXEL).floor().int().tolist()]
    return {point: cells.index(cell) for point, cell in enumerate(cells)}


def rows_of(scene: TrainingScene) -> list[int]:
    """Points that speak for a voxel and were seen."""
    spoken_by = speakers(scene)
    return [p for p in range(len(scene.points)) if spoken_by[p] == p and bool(scene.seen[p])]


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one @ other / (one.norm() * other.norm())


def distillation_loss(weight: torch.Tensor, scenes=SCENES, target="superpoint") -> torch.Tensor:
    """Eq. 10 over a batch, voxel by voxel and superpoint by superpoint."""
    points, superpoints = [], []
    for scene in scenes:
        output = inputs_of(scene) @ weight
        rows = rows_of(scene)
        for row in rows:
            goal = scene.superpoint_means[scene.superpoint_ids[row]]
            goal = scene.features[row] if target == "point" else goal
            points.append(cosine(output[row], goal))
        for superpoint in range(len(scene.superpoint_means)):
            members = [row for row in rows if int(scene.superpoint_ids[row]) == superpoint]
            if members:
                goal = scene.superpoint_means[superpoint]
                superpoints.append(cosine(output[members].mean(dim=0), goal))
    loss = 1 - torch.stack(points).mean()
    return loss if target == "point" else loss + 1 - torch.stack(superpoints).mean()


def begun_history(scene: TrainingScene, weight: torch.Tensor) -> torch.Tensor:
    """(N, K): every point begins with the mean score of its superpoint, unseen points included."""
    spoken_by = speakers(scene)
    scores = inputs_of(scene)[[spoken_by[p] for p in range(len(scene.points))]] @ weight @ TEXT.T
    begun = torch.empty_like(scores)
    for superpoint in range(len(scene.superpoint_means)):
        members = scene.superpoint_ids == superpoint
        begun[members] = scores[members].mean(dim=0)
    return begun


def by_class(scores: torch.Tensor, class_of_prompt) -> torch.Tensor:
    """(K,): of the prompts of each class the highest score; (P,) where each is a class."""
    if class_of_prompt is None:
        return scores
    classes = range(max(class_of_prompt) + 1)
    return torch.stack(
        [max(scores[p] for p, c in enumerate(class_of_prompt) if c == k) for k in classes]
    )


def ensemble_loss(
    weight,
    before,
    decay: float,
    temperature: float,
    mapping=None,
    *,
    point_labels="point",
    unit=False,
) -> torch.Tensor:
    """Eq. 11 to 13 for the first step after the ensemble joined."""
    points, superpoints = [], []
    for scene in SCENES:
        spoken_by = speakers(scene)
        output = inputs_of(scene)[[spoken_by[p] for p in range(len(scene.points))]] @ weight
        said = (output / output.norm(dim=1, keepdim=True) if unit else output) @ TEXT.T
        history = decay * before[scene.name] + (1 - decay) * said.detach()
        rows = rows_of(scene)
        for row in rows:
            same = scene.superpoint_ids == scene.superpoint_ids[row]
            past = history[row] if point_labels == "point" else history[same].mean(dim=0)
            label = by_class(past, mapping).argmax()
            scores = by_class(said[row] / temperature, mapping)
            points.append(functional.cross_entropy(scores, label))
        for superpoint in range(len(scene.superpoint_means)):
            members = [row for row in rows if int(scene.superpoint_ids[row]) == superpoint]
            if members:
                past = history[scene.superpoint_ids == superpoint].mean(dim=0)
                label = by_class(past, mapping).argmax()
                mean = output[members].mean(dim=0)
                mean = (mean / mean.norm() if unit else mean) @ TEXT.T
                mean = by_class(mean / temperature, mapping)
                superpoints.append(functional.cross_entropy(mean, label))
    return torch.stack(points).mean() + torch.stack(superpoints).mean()


def first_moment(learner: Trainer) -> torch.Tensor:
    """A tenth of the gradient, after one step."""
    return learner.state()["exp_avg/weight"]


@pytest.mark.parametrize("target", ["superpoint", "point"])
def test_the_loss_of_a_batch_of_two_scenes(target):
    learner = trainer(target=target)
    weight = learner.network.weight.detach().clone().requires_grad_()
    expected = distillation_loss(weight, target=target)
    expected.backward()
    assert learner.train_epoch().loss == pytest.approx(expected.item(), abs=FLOAT32_SUMS)
    torch.testing.assert_close(first_moment(learner), 0.1 * weight.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("decay", "temperature", "weight"), [(0.9, 1.0, 1.0), (0.2, 0.1, 1.0), (0.9, 0.5, 3.0)]
)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("mapping", [None, CLASS_OF_PROMPT])
def test_the_loss_of_the_first_step_with_the_ensemble(decay, temperature, weight, keep, mapping):
    learner = trainer(
        class_of_prompt=mapping,
        ensemble=True,
        ensemble_start=1 / 3,
        ensemble_decay=decay,
        ensemble_temperature=temperature,
        ensemble_weight=weight,
        keep_superpoint_loss=keep,
    )
    learner.epoch = 1  # in which it joins
    matrix = learner.network.weight.detach().clone().requires_grad_()
    before = {scene.name: begun_history(scene, matrix.detach()) for scene in SCENES}
    own = ensemble_loss(matrix, before, decay, temperature, mapping)
    kept = distillation_loss(matrix) if keep else torch.zeros(())
    (kept + weight * own).backward()
    result = learner.train_epoch()
    assert result.ensemble_loss == pytest.approx(own.item(), abs=FLOAT32_SUMS)
    assert result.loss == pytest.approx(kept.item(), abs=FLOAT32_SUMS)
    torch.testing.assert_close(first_moment(learner), 0.1 * matrix.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mapping", [None, CLASS_OF_PROMPT])
def test_labels_of_the_targets_never_change(mapping):
    """Those that the 2D features of the superpoints have, in the first epoch and in the second."""
    learner = trainer(
        class_of_prompt=mapping, ensemble=True, ensemble_preset="targets", ensemble_start=1 / 3
    )
    learner.epoch = 1  # in which it joins
    targets = {s.name: s.superpoint_means[s.superpoint_ids] @ TEXT.T for s in SCENES}
    for _ in range(2):
        matrix = learner.network.weight.detach().clone()
        expected = ensemble_loss(matrix, targets, 1.0, 0.1, mapping, unit=True)
        result = learner.train_epoch()
        assert result.ensemble_loss == pytest.approx(expected.item(), abs=FLOAT32_SUMS)
        assert result.loss == pytest.approx(distillation_loss(matrix).item(), abs=FLOAT32_SUMS)


def test_a_history_that_begins_with_the_targets_can_follow_the_student():
    """Of unit length both: each has its say."""
    learner = trainer(
        ensemble=True, ensemble_preset="targets", ensemble_start=1 / 3, ensemble_decay=0.75
    )
    learner.epoch = 1  # in which it joins
    weight = learner.network.weight.detach().clone()
    learner.train_epoch()
    for scene in SCENES:
        spoken_by = speakers(scene)
        said = inputs_of(scene)[[spoken_by[p] for p in range(len(scene.points))]] @ weight
        target = functional.normalize(scene.superpoint_means, dim=1)[scene.superpoint_ids]
        expected = 0.75 * target + 0.25 * functional.normalize(said, dim=1)
        history = learner.state()[f"ensemble/scores/{scene.name}"]
        of_points = expected @ TEXT.T
        for row, scores in enumerate(history):  # of a superpoint, the mean over its points
            mean = of_points[scene.superpoint_ids == row].mean(dim=0)
            torch.testing.assert_close(scores, mean)


@pytest.mark.parametrize("decay", [0.9999, 0.2])
def test_the_release_labels_points_by_superpoints_and_drops_the_superpoint_loss(decay):
    changes = {} if decay == 0.9999 else {"ensemble_decay": decay}
    learner = trainer(ensemble=True, ensemble_preset="release", ensemble_start=1 / 3, **changes)
    learner.epoch = 1  # in which it joins
    matrix = learner.network.weight.detach().clone()
    before = {scene.name: begun_history(scene, matrix) for scene in SCENES}
    expected = ensemble_loss(matrix, before, decay, 1.0, point_labels="superpoint")
    if decay == 0.2:  # where points had time to leave their superpoint
        assert abs(expected - ensemble_loss(matrix, before, decay, 1.0)) > 10 * FLOAT32_SUMS
    result = learner.train_epoch()
    assert result.ensemble_loss == pytest.approx(expected.item(), abs=FLOAT32_SUMS)
    assert result.loss == 0


def test_the_history_begins_when_the_ensemble_joins_and_not_before():
    """The superpoints' means of the student as it is after two epochs."""
    learner = trainer(ensemble=True, ensemble_start=2 / 3, ensemble_decay=0.5)
    for _ in range(2):
        assert learner.train_epoch().ensemble_loss == 0
        assert not [key for key in learner.state() if key.startswith("ensemble/")]
    weight = learner.network.weight.detach().clone()
    before = {scene.name: begun_history(scene, weight) for scene in SCENES}
    assert learner.train_epoch().ensemble_loss > 0
    for scene in SCENES:
        spoken_by = speakers(scene)
        said = inputs_of(scene)[[spoken_by[p] for p in range(len(scene.points))]] @ weight @ TEXT.T
        history = learner.state()[f"ensemble/scores/{scene.name}"]
        torch.testing.assert_close(history, 0.5 * before[scene.name] + 0.5 * said)


def test_what_nobody_saw_changes_nothing():
    """Other targets and superpoint means of unseen points leave the student as it is."""
    changed = []
    for scene in SCENES:
        features = scene.features.clone()
        features[~scene.seen] = 7.0
        changed.append(replace(scene, features=features))
    one, other = trainer(target="point"), trainer(changed, target="point")
    one.train_epoch(), other.train_epoch()
    assert torch.equal(one.network.weight, other.network.weight)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_rate_falls_over_all_steps_of_all_epochs(batch_size):
    learner = trainer(batch_size=batch_size, epochs=4)
    steps = 2 // batch_size
    last = [epoch * steps + steps - 1 for epoch in range(4)]
    expected = [1e-2 + (1e-3 - 1e-2) * number / (4 * steps) for number in last]
    assert [learner.train_epoch().learning_rate for _ in range(4)] == pytest.approx(expected)


class Watched(Matrix):
    """Notes of each scene that it is shown how many voxels it has, and whether it is learning."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[int] = []
        self.learning: list[bool] = []

    def forward(self, x):
        self.shown.append(len(x))
        self.learning.append(self.training)
        return super().forward(x)


def cut_short(count: int) -> TrainingScene:
    """The first scene's first points, two in each voxel."""
    one = SCENES[0]
    parts = {
        name: getattr(one, name)[: 2 * count]
        for name in ("points", "superpoint_ids", "seen", "features", "normals")
    }
    return replace(one, name=str(count), **parts)


def orders(seed: int) -> list[list[int]]:
    """In what order five scenes are shown in each of six epochs."""
    network = Watched()
    scenes = [cut_short(count) for count in range(8, 13)]
    learner = Trainer(network, scenes, TEXT, settings(batch_size=1, epochs=6), CPU, seed=seed)
    while not learner.finished:
        learner.train_epoch()
    assert all(network.learning)
    return [network.shown[first : first + 5] for first in range(0, 30, 5)]


def test_every_epoch_shows_every_scene_once_in_an_order_of_its_own():
    shown = orders(seed=0)
    assert all(sorted(epoch) == [8, 9, 10, 11, 12] for epoch in shown)
    assert len({tuple(epoch) for epoch in shown}) > 3
    assert orders(seed=0) == shown != orders(seed=1)


def test_a_student_that_was_asked_goes_on_learning_as_before():
    """Where the ensemble begins it is asked about every scene; batches are normalised after it."""
    network = Watched()
    how = settings(ensemble_start=1 / 3, ensemble_decay=0.5)
    learner = Trainer(network, list(SCENES), TEXT, how, CPU, ensemble=True)
    for _ in range(3):
        learner.train_epoch()
    assert network.learning == [True, False, False, True, True]


def test_at_most_so_many_voxels_learn_at_a_step():
    rows = sum(len(rows_of(scene)) for scene in SCENES)
    every = [trainer(max_voxels_per_step=limit).train_epoch().loss for limit in (0, rows)]
    assert every[0] == every[1]
    assert trainer(max_voxels_per_step=rows - 1).train_epoch().loss != every[0]


def test_half_way_states_bring_back_what_adam_and_the_ensemble_remember():
    """With moments of very different size, mixing them up would show."""
    ensemble = {"ensemble": True, "ensemble_start": 1 / 3, "ensemble_decay": 0.5}
    whole = trainer(**ensemble)
    half = trainer(**ensemble)
    for _ in range(2):
        whole.train_epoch(), half.train_epoch()
    other = trainer(**ensemble)
    other.load_state(half.state())
    whole.train_epoch(), other.train_epoch()
    for key, value in whole.state().items():
        assert torch.equal(value, other.state()[key]), key
