"""Training goes on where it was, and does what its losses say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from pcdistill.distillation import one_cycle_learning_rate
from pcdistill.distillation.augmentation import augment_rotate_scale, draw_on_grid
from pcdistill.distillation.batches import (
    StudentInput,
    TrainingScene,
    input_features,
    make_voxel_batch,
)
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.student_features import forward_batch, infer_point_features
from pcdistill.distillation.trainer import Trainer
from pcdistill.distillation.training_results import EpochResult
from pcdistill.distillation.voting import Looks
from pcdistill.networks import build_student

CHANNELS = 8
LEARNED = 0.7
"""Share of right answers; 0.79 to 0.98 over five seeds of the weights, and 0.5 by guessing."""
FALLEN = 0.6
"""Of the first loss, what is left of it; 0.12 to 0.41 over the same seeds."""
ROUNDING = 1e-5
"""Relative, of lengths in float32."""
CPU = torch.device("cpu")


def toy_scene(name: str, seed: int) -> TrainingScene:
    """A floor and a wall; each is two superpoints that share the feature of their surface."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.rand(400, 2, generator=generator) * 2
    floor = torch.stack([flat[:, 0], flat[:, 1], torch.zeros(400)], dim=1)
    wall = torch.stack([flat[:, 0], torch.zeros(400), flat[:, 1]], dim=1)
    points = torch.cat([floor, wall])
    ids = (points[:, 0] > 1).long() + 2 * (torch.arange(800) >= 400).long()
    means = torch.zeros(4, CHANNELS)
    means[:2, 0], means[2:, 1] = 1, 1
    seen = torch.rand(800, generator=generator) > 0.1
    return TrainingScene(name, points, ids, means, seen, means[ids])


def settings(**changes) -> TrainerSettings:
    values = {
        "voxel_size": 0.1,
        "epochs": 6,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "final_learning_rate": 1e-3,
        "max_voxels_per_step": 300,
        "augment": "full",
    }
    return TrainerSettings(**{**values, **changes})


def trainer(*, target="superpoint", ensemble=False, seed=0, **changes) -> Trainer:
    torch.manual_seed(0)
    network = build_student("MinkUNet14A", 3, CHANNELS, width=0.125)
    scenes = [toy_scene("one", 1), toy_scene("two", 2), toy_scene("three", 3)]
    text, how = torch.eye(CHANNELS)[:3], settings(**changes)
    return Trainer(network, scenes, text, how, CPU, target=target, ensemble=ensemble, seed=seed)


@pytest.mark.parametrize("target", ["superpoint", "point"])
def test_the_student_comes_to_agree_with_its_targets(target):
    learner = trainer(target=target, epochs=12)
    losses = [learner.train_epoch().loss for _ in range(12)]
    assert learner.finished
    assert losses[-1] < FALLEN * losses[0]
    scene = toy_scene("new", 9)
    features = infer_point_features(learner.network, StudentInput(scene.points), 0.1, CPU)
    assert features.shape == (800, CHANNELS)
    right = features[:, :3].argmax(dim=1) == scene.superpoint_ids // 2
    assert right.float().mean() > LEARNED


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_stopped_training_goes_on_to_the_same_student(ensemble):
    whole = trainer(ensemble=ensemble, ensemble_start=1 / 3)
    while not whole.finished:
        whole.train_epoch()
    first = trainer(ensemble=ensemble, ensemble_start=1 / 3)
    for _ in range(3):
        first.train_epoch()
    state = {key: value.clone() for key, value in first.state().items()}
    second = trainer(ensemble=ensemble, ensemble_start=1 / 3)
    second.load_state(state)
    assert second.epoch == 3
    while not second.finished:
        second.train_epoch()
    for key, value in whole.state().items():
        assert torch.equal(value, second.state()[key]), key


EVERYTHING = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "accumulate": 2,
    "max_gradient_norm": 0.5,
    "ema_decay": 0.9,
    "precision": "bfloat16",
}
"""All that a step can have besides a gradient."""


def without_times(result: EpochResult) -> EpochResult:
    return result._replace(seconds=0.0, waiting=0.0)


@pytest.mark.parametrize(
    ("augment", "batch_size", "more"),
    [("full", 2, {}), ("grid", 1, {}), ("full", 2, EVERYTHING)],
    ids=["full", "grid", "everything"],
)
def test_a_training_that_pauses_after_every_step_gives_the_same_student(augment, batch_size, more):
    own = {"augment": augment, "batch_size": batch_size, "ensemble_start": 0.5, "epochs": 4}
    changes = own | more
    whole = trainer(ensemble=True, **changes)
    results = [without_times(whole.train_epoch()) for _ in range(4)]
    part, found = trainer(ensemble=True, **changes), []
    while not part.finished:
        result = part.train_epoch(lambda: True)
        found += [] if result is None else [without_times(result)]
        state = {key: value.clone() for key, value in part.state().items()}
        assert ("half/step" in state) == (result is None)
        part = trainer(ensemble=True, **changes)
        part.load_state(state)
    assert found == results
    for key, value in whole.state().items():
        assert torch.equal(value, part.state()[key]), key
    assert any(key.startswith("average/") for key in part.state()) == bool(more)


def test_each_step_is_told_and_an_epoch_is_their_sum():
    learner, steps = trainer(ensemble=True, ensemble_start=0.5, epochs=2), []
    results = [learner.train_epoch(note=steps.append) for _ in range(2)]
    assert [(step.epoch, step.step) for step in steps] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    for number, result in enumerate(results):
        own = steps[2 * number : 2 * number + 2]
        assert result.loss == pytest.approx(sum(s.loss for s in own) / 2)
        assert result.ensemble_loss == pytest.approx(sum(s.ensemble_loss for s in own) / 2)
        assert result.gradient_norm == pytest.approx(sum(s.gradient_norm for s in own) / 2)
        assert result.learning_rate == own[-1].learning_rate
        assert result.voxels == sum(s.voxels for s in own)
        assert result.seconds == pytest.approx(sum(s.seconds for s in own))
        assert result.waiting == pytest.approx(sum(s.waiting for s in own))
        assert all(0 < s.waiting < s.seconds and s.gradient_norm > 0 for s in own)
    scenes = [toy_scene(name, seed) for name, seed in (("one", 1), ("two", 2), ("three", 3))]
    plain, steps = trainer(augment="none", batch_size=3, epochs=1), []
    plain.train_epoch(note=steps.append)
    voxels = [len(make_voxel_batch([StudentInput(s.points)], 0.1).coords) for s in scenes]
    assert steps[0].voxels == sum(voxels)


def test_where_a_training_paused_it_says_how_many_steps_are_done():
    learner = trainer(epochs=2)
    assert (learner.steps_per_epoch, learner.steps_done) == (2, 0)
    assert learner.train_epoch(lambda: True) is None
    assert learner.steps_done == 1
    learner.train_epoch()
    assert learner.steps_done == 2


def test_the_ensemble_joins_in_its_epoch():
    learner = trainer(ensemble=True, ensemble_start=0.5, epochs=4)
    results = [learner.train_epoch() for _ in range(4)]
    assert [r.ensemble_loss > 0 for r in results] == [False, False, True, True]
    assert all(r.loss > 0 for r in results)


def test_the_superpoint_loss_can_end_when_the_ensemble_joins():
    learner = trainer(ensemble=True, ensemble_start=0.5, keep_superpoint_loss=False, epochs=2)
    results = [learner.train_epoch() for _ in range(2)]
    assert results[0].loss > 0
    assert results[1].loss == 0
    assert results[1].ensemble_loss > 0


def test_the_learning_rate_falls_linearly():
    learner = trainer(epochs=4, batch_size=3)
    rates = [learner.train_epoch().learning_rate for _ in range(4)]
    expected = [1e-2, 7.75e-3, 5.5e-3, 3.25e-3]
    assert rates == pytest.approx(expected)


def test_adam_keeps_as_much_of_the_squared_gradients_as_it_is_told():
    """After one step their mean is (1 - beta) times the first square: 0.05 against 0.001."""
    told, default = trainer(batch_size=3, adam_beta2=0.95), trainer(batch_size=3)
    told.train_epoch(), default.train_epoch()
    expected = {k: 50 * v for k, v in default.state().items() if k.startswith("exp_avg_sq/")}
    assert expected
    for key, value in expected.items():
        torch.testing.assert_close(told.state()[key], value)


def test_the_schedule_is_the_one_that_was_asked_for():
    learner = trainer(epochs=4, batch_size=3, schedule="one-cycle")
    rates = [learner.train_epoch().learning_rate for _ in range(4)]
    expected = [one_cycle_learning_rate(i, 4, base=1e-2, final=1e-3) for i in range(4)]
    assert rates == expected
    assert rates[0] < rates[1]


@pytest.mark.parametrize("seed", [18_446_634, 2**31, 2**64 + 1])
@pytest.mark.parametrize("augment", ["full", "grid"])
def test_a_large_seed_is_a_seed(seed, augment):
    learner = trainer(seed=seed, augment=augment, batch_size=1, epochs=1)
    other = trainer(seed=seed + 1, augment=augment, batch_size=1, epochs=1)
    assert learner.train_epoch().loss != other.train_epoch().loss


def test_point_wise_training_needs_features_per_point():
    scene = toy_scene("one", 1)
    bare = TrainingScene(
        scene.name, scene.points, scene.superpoint_ids, scene.superpoint_means, scene.seen
    )
    network = build_student("MinkUNet14A", 3, CHANNELS, width=0.125)
    with pytest.raises(ValueError, match="scene 'one' has no features per point"):
        Trainer(network, [bare], torch.eye(CHANNELS), settings(), CPU, target="point")
    with pytest.raises(ValueError, match="at least one training scene"):
        Trainer(network, [], torch.eye(CHANNELS), settings(), CPU)


def test_a_scene_whose_parts_do_not_fit_is_refused():
    scene = toy_scene("one", 1)
    with pytest.raises(ValueError, match="superpoint_ids"):
        TrainingScene(
            "x", scene.points, scene.superpoint_ids[1:], scene.superpoint_means, scene.seen
        )


def test_a_batch_keeps_its_scenes_apart():
    points = [toy_scene("a", 1).points, toy_scene("b", 2).points[:500]]
    batch = make_voxel_batch([StudentInput(cloud) for cloud in points], 0.1)
    assert torch.equal(batch.features, torch.ones(len(batch.coords), 3))
    for number, (cloud, index, first) in enumerate(
        zip(points, batch.point_to_voxel, batch.representative, strict=True)
    ):
        coords = batch.coords[index]
        assert bool((coords[:, 0] == number).all())
        expected = torch.floor(cloud.double() / 0.1).int()
        expected -= expected.amin(dim=0)
        assert torch.equal(coords[:, 1:], expected)
        assert bool((first < len(cloud)).all())


def test_turning_keeps_shape_and_nearly_keeps_up():
    generator = torch.Generator().manual_seed(5)
    normals = functional.normalize(torch.randn(50, 3), dim=1)
    cloud = StudentInput(torch.randn(50, 3), normals)
    for _ in range(20):
        turned = augment_rotate_scale(cloud, generator)
        ratio = turned.points.norm(dim=1) / cloud.points.norm(dim=1)
        assert ratio.std() < ROUNDING
        assert 0.9 - ROUNDING <= ratio.mean() <= 1.1 + ROUNDING
        torch.testing.assert_close(turned.normals.norm(dim=1), torch.ones(50))
        before = (cloud.points * normals).sum(dim=1)
        after = (turned.points * turned.normals).sum(dim=1)
        torch.testing.assert_close(after, ratio * before, rtol=ROUNDING, atol=ROUNDING)
        up = augment_rotate_scale(StudentInput(torch.tensor([[0.0, 0, 1]])), generator).points
        assert functional.normalize(up, dim=1)[0, 2] > math.cos(2 * math.pi / 64)


def test_turning_on_the_grid_keeps_walls_on_the_axes():
    generator = torch.Generator().manual_seed(6)
    points = torch.randn(40, 3)
    normals = torch.eye(3)[torch.arange(40) % 3]
    colors = torch.randint(0, 256, (40, 3), dtype=torch.uint8)
    seen = set()
    for _ in range(60):
        turned = draw_on_grid(generator, tinted=True)(StudentInput(points, normals, colors))
        moved = turned.points - turned.points.mean(dim=0)
        lengths = (points - points.mean(dim=0)).norm(dim=1)
        torch.testing.assert_close(moved.norm(dim=1), lengths, atol=0, rtol=ROUNDING)
        assert torch.equal(
            turned.normals.abs().sort(dim=1).values, torch.tensor([[0.0, 0, 1]]).expand(40, 3)
        )
        assert torch.equal(turned.normals[2], torch.tensor([0.0, 0, 1]))  # up stays up
        assert turned.colors.dtype == torch.uint8
        seen.add(tuple(turned.normals[:2].flatten().tolist()))
    assert len(seen) == 8


def test_the_input_is_constant_or_normal_and_height_or_these_and_color():
    points = torch.zeros(300, 3)
    points[:, 2] = torch.linspace(0.5, 3.5, 300)
    normals = torch.zeros(300, 3)
    normals[:, 1] = 1
    colors = torch.full((300, 3), 255, dtype=torch.uint8)
    assert torch.equal(input_features(StudentInput(points)), torch.ones(300, 3))
    seen = input_features(StudentInput(points, normals))
    assert torch.equal(seen[:, :3], normals)
    assert abs(float(seen[-1, 3]) - 2.0) < 0.05  # 3 m above the lowest points, in 1.5 m
    both = input_features(StudentInput(points, normals, colors))
    assert torch.equal(both[:, :4], seen)
    assert torch.equal(both[:, 4:], torch.ones(300, 3))


def test_votes_are_averaged_over_shifted_voxels():
    network = build_student("MinkUNet14A", 3, CHANNELS, width=0.125)
    points = toy_scene("a", 1).points
    one = infer_point_features(network, StudentInput(points), 0.1, CPU)
    two = infer_point_features(network, StudentInput(points), 0.1, CPU, looks=Looks(2))
    moved = StudentInput(points, grid_shift=torch.full((3,), 16 / 3, dtype=torch.float64))
    batch = make_voxel_batch([moved], 0.1)
    with torch.no_grad():
        shifted = forward_batch(network, batch)[batch.point_to_voxel[0]]
    assert not torch.allclose(one, shifted)
    torch.testing.assert_close(two, (one + shifted) / 2)
