"""A student that learned nothing usable is a failed unit; what lies half-way is its own or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pcdistill.distillation.history_file import HistoryFile
from pcdistill.errors import TrainingError
from pcdistill.homes import home_scene
from pcdistill.inference import student_checks
from pcdistill.pipeline.artifact_files import read_provenance, read_tensors, write_tensors
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Task
from pcdistill.stages.distill import DistillStage
from pcdistill.stages.fuse import FuseStage
from pcdistill.stages.partition import PartitionStage
from tests.stages.test_fuse import make_run, nothing, work, write_lifted

SCENE = "home-train-0"
SMALL = {"width": 0.125, "voxel_size": 0.3, "epochs": 2, "device": "cpu", "batch_size": 1}


@pytest.fixture(scope="module")
def home():
    return home_scene(5, "train", frames=2, image_size=(48, 64))


def fused_run(tmp_path, home, **distill) -> RunContext:
    run = make_run(tmp_path, home, SCENE, distill={"students": ["superpoint"], **SMALL, **distill})
    work(PartitionStage, run, SCENE)
    write_lifted(run, SCENE, len(home.points), run.text_encoder.dimensions, 0.6)
    work(FuseStage, run, SCENE)
    return run


def train(run: RunContext) -> str:
    task = Task("superpoint", DistillStage(run).inputs("superpoint"), "test")
    return DistillStage(run).work(task, nothing)


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

    monkeypatch.setattr(student_checks, "infer_point_features", same)
    with pytest.raises(TrainingError, match=f"the same for all {len(home.points)} points"):
        train(run)
    assert not run.workspace.checkpoint("superpoint").exists()


def test_a_student_that_learned_is_finished(tmp_path, home):
    run = fused_run(tmp_path, home)
    assert "2 epochs, loss" in train(run)
    assert run.workspace.checkpoint("superpoint").exists()


BOTH = {"students": ["superpoint", "superpoint+ensemble"], "epochs": 3, "ensemble_start": 0.5}


def handed_over(run: RunContext, mark: str = "base") -> Path:
    """Train the student superpoint and give the file by which it hands over."""
    DistillStage(run).work(
        Task("superpoint", DistillStage(run).inputs("superpoint"), mark), nothing
    )
    return run.workspace.student("superpoint") / "hand_over.safetensors"


def ensemble(run: RunContext) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Weights of the student of the ensemble, and the epochs that it learned by itself."""
    inputs = DistillStage(run).inputs("superpoint+ensemble")
    task = Task("superpoint+ensemble", inputs, "own", {"distill superpoint": "base"})
    epochs: list[int] = []
    DistillStage(run).work(task, lambda done, total, words: epochs.append(done))
    return load_file(run.workspace.checkpoint("superpoint+ensemble")), epochs


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def claim_other_task(path: Path) -> None:
    write_tensors(path, read_tensors(path), {"task": "another configuration"})


def weaken(path: Path) -> None:
    """Other weights, as another run on the same workspace would leave them."""
    claim_other_task(path)
    tensors = {k: v * 2 if v.is_floating_point() else v for k, v in read_tensors(path).items()}
    write_tensors(path, tensors, {"task": "another configuration"})


def leave_out(path: Path) -> None:
    tensors = read_tensors(path)
    del tensors[next(key for key in sorted(tensors) if key.startswith("exp_avg/"))]
    write_tensors(path, tensors, {"task": "base"})


def claim_other_epoch(path: Path) -> None:
    write_tensors(path, read_tensors(path) | {"epoch": torch.tensor(1)}, {"task": "base"})


@pytest.mark.parametrize(
    "harm",
    [None, truncate, claim_other_task, weaken, leave_out, claim_other_epoch, Path.unlink],
    ids=lambda harm: harm.__name__ if harm else "whole",
)
def test_a_hand_over_that_is_not_this_run_s_is_learned_again(tmp_path, home, harm):
    """The result is the same to the bit, whatever lies there."""
    run = fused_run(tmp_path, home, **BOTH)
    path = handed_over(run)
    expected, epochs = ensemble(run)
    assert epochs == [3]
    run.workspace.checkpoint("superpoint+ensemble").unlink()
    if harm is not None:
        harm(path)
    found, epochs = ensemble(run)
    assert epochs == ([3] if harm is None else [1, 2, 3])
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("there", ["whole", "nothing", "of points, by an earlier version"])
def test_a_half_way_state_needs_its_file_of_histories(tmp_path, home, there, caplog):
    run, keep = fused_run(tmp_path, home, **{**BOTH, "epochs": 4}), there == "whole"
    handed_over(run)
    expected, epochs = ensemble(run)
    assert epochs == [3, 4]
    folder = run.workspace.student("superpoint+ensemble")
    assert not (folder / "histories.f32").exists()
    run.workspace.checkpoint("superpoint+ensemble").unlink()
    _, trainer = DistillStage(run)._new_trainer("superpoint+ensemble", (SCENE,))
    hand_over = run.workspace.student("superpoint") / "hand_over.safetensors"
    trainer.load_state(read_tensors(hand_over))
    trainer.train_epoch()
    write_tensors(folder / "state.safetensors", trainer.state(), {"task": "own"})
    trainer.confirm_state()
    trainer.train_epoch()  # lost: killed before the next state
    path, state = folder / "histories.f32", read_tensors(folder / "state.safetensors")
    if not keep:
        path.unlink()
    if there.startswith("of points"):
        points = HistoryFile(path, [SCENE], [len(home.points)], len(run.words.training_prompts))
        points._mark = int(state["ensemble/mark"])
        points._write_new()
    found, epochs = ensemble(run)
    assert epochs == ([4] if keep else [3, 4])
    assert ("are missing, of another training or as an earlier" in caplog.text) != keep
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def leave_out_of_the_average(path: Path) -> None:
    tensors = read_tensors(path)
    del tensors[next(key for key in sorted(tensors) if key.startswith("average/"))]
    write_tensors(path, tensors, {"task": "base"})


@pytest.mark.parametrize("harm", [truncate, claim_other_task, leave_out, leave_out_of_the_average])
def test_a_half_way_state_that_is_not_this_task_s_is_learned_again(tmp_path, home, harm):
    run = fused_run(tmp_path, home, epochs=3, ema_decay=0.5)
    state = run.workspace.student("superpoint") / "state.safetensors"
    task = Task("superpoint", DistillStage(run).inputs("superpoint"), "base")

    _, trainer = DistillStage(run)._new_trainer("superpoint", task.units_of("fuse"))
    trainer.train_epoch()
    write_tensors(state, trainer.state(), {"task": "base"})
    epochs: list[int] = []
    harm(state)
    DistillStage(run).work(task, lambda done, total, words: epochs.append(done))
    assert epochs == [1, 2, 3]


def test_the_estimate_counts_histories_of_points_or_superpoints(tmp_path, home):
    sizes = {}
    for preset in ("paper", "release"):
        run = fused_run(tmp_path / preset, home, **BOTH, ensemble_preset=preset)
        sizes[preset] = DistillStage(run).estimate("superpoint+ensemble")
    superpoints = read_provenance(run.workspace.superpoints(SCENE))["superpoints"]
    fewer = len(home.points) - superpoints
    assert fewer > 0
    per_row = 2 * 4 * len(run.words.training_prompts)
    assert sizes["paper"] - sizes["release"] == per_row * fewer
