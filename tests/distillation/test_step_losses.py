"""Both losses of a step, from the student's output to the gradient, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdistill.distillation.batches import Batch, TrainingScene
from pcdistill.distillation.distributed import ALONE
from pcdistill.distillation.ensemble_settings import PRESETS
from pcdistill.distillation.loss_voxels import LossVoxels, choose_voxels
from pcdistill.distillation.step_batches import StepBatch
from pcdistill.distillation.step_losses import ensemble_loss, target_loss
from pcdistill.distillation.temporal_ensemble import TemporalEnsemble
from tests.conftest import golden_cases, load_npz

LOSS = 1e-5  # fixtures: stated tolerance
GRADIENT = 1e-5  # of the largest entry, stated tolerance


def step_of(case: dict[str, np.ndarray], means: np.ndarray, seen: np.ndarray) -> StepBatch:
    """The reference's batch as one scene.

    Args:
        case: arrays of the reference.
        means: (S, D) targets of its superpoints.
        seen: (V,) bool, voxels that have a target.
    """
    ids = torch.from_numpy(case["superpoint"]).long()
    of_points = torch.zeros(len(ids), dtype=torch.bool)
    of_points[torch.from_numpy(case["vox_ind"]).long()] = torch.from_numpy(seen)
    scene = TrainingScene(
        "batch", torch.zeros(len(ids), 3), ids, torch.from_numpy(means), of_points
    )
    voxels = len(case["student_out"])
    batch = Batch(
        torch.zeros(voxels, 4, dtype=torch.int32),
        torch.ones(voxels, 3),
        (torch.from_numpy(case["inds_recons"]).long(),),
        (torch.from_numpy(case["vox_ind"]).long(),),
    )
    return StepBatch((scene,), batch, (True,))


def chosen_of(case: dict[str, np.ndarray], step: StepBatch, rows: np.ndarray) -> LossVoxels:
    """The rows of the student that the reference used; where these are all, chosen as in a step."""
    if "rand_ind" not in case:
        (chosen,) = choose_voxels([step], 20000, torch.Generator(), ALONE)
        assert np.array_equal(chosen.voxels.numpy(), rows)
        return chosen
    points = torch.from_numpy(case["vox_ind"][rows]).long()
    ids = torch.from_numpy(case["superpoint"]).long()[points]
    return LossVoxels(torch.from_numpy(rows), points, ids, (1.0, 1.0))


def assert_same(loss: torch.Tensor, student: torch.Tensor, case: dict[str, np.ndarray]) -> None:
    loss.backward()
    assert loss.item() == pytest.approx(float(case["loss"]), abs=LOSS)
    reference = torch.from_numpy(case["grad_student_out"])
    scale = reference.abs().max().item()
    torch.testing.assert_close(student.grad, reference, rtol=0, atol=GRADIENT * scale)


@pytest.mark.parametrize("file", golden_cases("distill/stage1_*.npz"))
def test_a_step_of_the_first_stage_is_the_reference(file):
    """Its means of targets are over the rows that it uses."""
    case = load_npz(file)
    rows = np.flatnonzero(case["voxel_mask"])
    rows = rows[case["rand_ind"]] if "rand_ind" in case else rows
    used = np.unique(case["superpoint"][case["vox_ind"][rows]])
    means = np.zeros((case["superpoint"].max() + 1, case["student_out"].shape[1]), np.float32)
    means[used] = case["target_superpoint_mean"]
    step = step_of(case, means, case["voxel_mask"])
    student = torch.from_numpy(case["student_out"]).requires_grad_()
    loss = target_loss(student, step, chosen_of(case, step, rows), "superpoint")
    assert_same(loss, student, case)


@pytest.mark.parametrize("file", golden_cases("distill/stage2_*.npz"))
def test_a_step_of_the_second_stage_is_the_reference(file):
    """History, labels, cross entropy. Histories are pooled over its rows there, here over all."""
    case = load_npz(file)
    rows = case["rand_ind"] if "rand_ind" in case else np.arange(len(case["student_out"]))
    ids = torch.from_numpy(case["superpoint"])
    count, channels = int(ids.max()) + 1, case["student_out"].shape[1]
    everything = np.ones(len(case["student_out"]), bool)
    step = step_of(case, np.zeros((count, channels), np.float32), everything)
    release = PRESETS["release"]
    ensemble = TemporalEnsemble(
        torch.from_numpy(case["text_half"]), release.decay, point_labels=release.point_labels
    )
    before = torch.from_numpy(case["history_before_half"])
    ensemble.initialize("batch", before, superpoint_ids=ids, count=count)
    student = torch.from_numpy(case["student_out"]).requires_grad_()
    loss = ensemble_loss(ensemble, student, step, chosen_of(case, step, rows), release)
    assert_same(loss, student, case)
