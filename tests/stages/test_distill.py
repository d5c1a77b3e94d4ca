"""A student that learned nothing usable is a failed unit, not a finished one."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import TrainingError
from pcdistill.homes import home_scene
from pcdistill.stages import distill as distill_module
from pcdistill.stages.distill import DISTILL
from pcdistill.stages.fuse import FUSE
from pcdistill.stages.partition import PARTITION
from pcdistill.stages.run import Run
from pcdistill.stages.stage import Task
from tests.stages.test_fuse import make_run, nothing, work, write_lifted

SCENE = "home-train-0"
SMALL = {"width": 0.125, "voxel_size": 0.3, "epochs": 2, "device": "cpu", "batch_size": 1}


@pytest.fixture(scope="module")
def home():
    return home_scene(5, "train", frames=2, image_size=(48, 64))


def fused_run(tmp_path, home, **distill) -> Run:
    run = make_run(tmp_path, home, SCENE, distill={"students": ["superpoint"], **SMALL, **distill})
    work(PARTITION, run, SCENE)
    write_lifted(run, SCENE, len(home.points), run.text_encoder.dimensions, 0.6)
    work(FUSE, run, SCENE)
    return run


def train(run: Run) -> str:
    task = Task("superpoint", DISTILL.inputs(run, "superpoint"), "test")
    return DISTILL.work(run, task, nothing)


def test_a_loss_that_is_no_number_ends_the_unit(tmp_path, home):
    run = fused_run(tmp_path, home, learning_rate=1e30, epochs=4)
    with pytest.raises(
        TrainingError, match=r"student superpoint: the loss is nan \+ 0 after epoch \d"
    ):
        train(run)
    assert not run.workspace.checkpoint("superpoint").exists()


def test_a_student_that_says_the_same_of_all_points_is_refused(tmp_path, home, monkeypatch):
    run = fused_run(tmp_path, home)

    def same(network, cloud, voxel_size, device):
        return torch.ones(len(cloud.points), 64)

    monkeypatch.setattr(distill_module, "student_features", same)
    with pytest.raises(TrainingError, match=f"the same for all {len(home.points)} points"):
        train(run)
    assert not run.workspace.checkpoint("superpoint").exists()


def test_a_student_that_learned_is_finished(tmp_path, home):
    run = fused_run(tmp_path, home)
    assert "2 epochs, loss" in train(run)
    assert run.workspace.checkpoint("superpoint").exists()
