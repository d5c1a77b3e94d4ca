"""Losses against the reference, against plain loops in float64, and against their own rules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.distillation import (
    point_distillation_loss,
    self_distillation_loss,
    superpoint_distillation_loss,
)
from pcdistill.distillation.loss_voxels import LossVoxels
from pcdistill.geometry import superpoint_mean
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32_SUMS, FLOAT64, FLOAT64_EXACT

LOSS = 1e-5  # fixtures: float32 losses, stated tolerance
GRADIENT = 1e-5  # of the largest entry, stated tolerance


def rows_in_use(case, eligible):
    """Rows of the student that the reference used, as indices into all its rows."""
    return eligible[case["rand_ind"]] if "rand_ind" in case else eligible


def group_means(values, ids, count):
    """Mean per group in float64, by plain numpy; groups without member are zero."""
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, ids, values.astype(np.float64))
    members = np.bincount(ids, minlength=count)
    return total / np.maximum(members, 1)[:, None]


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def random_rows(seed, rows=60, dimensions=5, count=9, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(rows, dimensions, generator=generator, dtype=dtype)
    target = torch.randn(rows, dimensions, generator=generator, dtype=dtype)
    ids = torch.randint(count, (rows,), generator=generator)
    return student.requires_grad_(), target, ids


@pytest.mark.parametrize("file", golden_cases("distill/stage1_*.npz"))
@pytest.mark.parametrize("half", [False, True], ids=["float32 means", "half means"])
def test_first_stage_is_the_reference(file, half):
    case = load_npz(file)
    rows = rows_in_use(case, np.flatnonzero(case["voxel_mask"]))
    used = (
        case["target_feat_half"][case["rand_ind"]]
        if "rand_ind" in case
        else case["target_feat_half"]
    )
    ids = case["superpoint"][case["vox_ind"][rows]]
    means = group_means(used.astype(np.float32), ids, int(ids.max()) + 1)
    present = np.bincount(ids) > 0
    np.testing.assert_allclose(means[present], case["target_superpoint_mean"], atol=FLOAT32_SUMS)
    student = torch.from_numpy(case["student_out"]).requires_grad_()
    targets = torch.from_numpy(means).to(torch.float16 if half else torch.float32)
    losses = superpoint_distillation_loss(
        student[torch.from_numpy(rows)], torch.from_numpy(ids).long(), targets
    )
    losses.total.backward()
    # Stored in half precision, the means are off by at most 2**-11 of themselves.
    slack = 2.0**-10 if half else 0.0
    assert losses.point.item() == pytest.approx(float(case["loss_point"]), abs=LOSS + slack)
    assert losses.superpoint.item() == pytest.approx(
        float(case["loss_superpoint"]), abs=LOSS + slack
    )
    assert losses.total.item() == pytest.approx(float(case["loss"]), abs=LOSS + slack)
    reference = torch.from_numpy(case["grad_student_out"])
    scale = reference.abs().max().item()
    torch.testing.assert_close(student.grad, reference, rtol=0, atol=(GRADIENT + 4 * slack) * scale)


@pytest.mark.parametrize("file", golden_cases("distill/stage1_*.npz"))
def test_first_stage_in_float64_is_the_reference_s_formula(file):
    """Means of superpoints, and both terms, where rounding is left out."""
    case = load_npz(file)
    rows = rows_in_use(case, np.flatnonzero(case["voxel_mask"]))
    used = rows_in_use(case, np.arange(len(case["target_feat_half"])))
    targets = torch.from_numpy(case["target_feat_half"][used]).double()
    ids = torch.from_numpy(case["superpoint_compact"]).long()
    numbers = np.unique(case["superpoint"][case["vox_ind"][rows]], return_inverse=True)[1]
    assert np.array_equal(ids.numpy(), numbers)
    student = torch.from_numpy(case["student_out"]).double()[torch.from_numpy(rows)]
    means = superpoint_mean(student, ids)
    np.testing.assert_allclose(means, case["student_superpoint_mean"], rtol=0, atol=FLOAT32_SUMS)
    losses = superpoint_distillation_loss(student, ids, superpoint_mean(targets, ids))
    assert losses.point.item() == pytest.approx(float(case["loss_point_f64"]), abs=FLOAT64)
    assert losses.superpoint.item() == pytest.approx(
        float(case["loss_superpoint_f64"]), abs=FLOAT64
    )


@pytest.mark.parametrize("file", golden_cases("distill/stage1_*.npz"))
def test_the_loss_of_points_is_the_reference_s_point_term_of_its_targets(file):
    """Given the mean of each point's superpoint; and with the points' own features, by numpy.

    The reference has no run of pixel-point distillation, whose only difference is the target.
    """
    case = load_npz(file)
    rows = rows_in_use(case, np.flatnonzero(case["voxel_mask"]))
    own = case["target_feat_half"][rows_in_use(case, np.arange(len(case["target_feat_half"])))]
    student = torch.from_numpy(case["student_out"])[torch.from_numpy(rows)]
    means = torch.from_numpy(case["target_superpoint_mean"][case["superpoint_compact"]])
    found = point_distillation_loss(student, means).item()
    assert found == pytest.approx(float(case["loss_point"]), abs=LOSS)
    expected = 1 - cosine(student.double().numpy(), own.astype(np.float64)).mean()
    found = point_distillation_loss(student, torch.from_numpy(own)).item()
    assert found == pytest.approx(expected, abs=LOSS)
    assert abs(found - float(case["loss_point"])) > 10 * LOSS  # another target, another loss


@pytest.mark.parametrize("file", golden_cases("distill/stage1_small*.npz"))
def test_losses_of_parts_add_up_to_the_reference(file):
    """Weighed by the rows and superpoints of each, as a step in parts weighs them."""
    case = load_npz(file)
    ids = torch.from_numpy(case["superpoint_compact"]).long()
    rows = torch.from_numpy(np.flatnonzero(case["voxel_mask"]))
    student = torch.from_numpy(case["student_out"]).requires_grad_()
    means = torch.from_numpy(case["target_superpoint_mean"])
    total, points, superpoints = 0, len(ids), len(torch.unique(ids))
    for here in (ids < 30, (ids >= 30) & (ids < 70), ids >= 70):  # scenes share no superpoint
        losses = superpoint_distillation_loss(student[rows[here]], ids[here], means)
        shares = int(here.sum()) / points, len(torch.unique(ids[here])) / superpoints
        total = total + LossVoxels(rows, rows, ids, shares).global_mean(losses)
    total.backward()
    assert total.item() == pytest.approx(float(case["loss"]), abs=LOSS)
    reference = torch.from_numpy(case["grad_student_out"])
    scale = reference.abs().max().item()
    torch.testing.assert_close(student.grad, reference, rtol=0, atol=GRADIENT * scale)


@pytest.mark.parametrize("file", golden_cases("distill/stage2_*.npz"))
def test_second_stage_is_the_reference(file):
    case = load_npz(file)
    rows = rows_in_use(case, np.arange(len(case["student_out"])))
    student = torch.from_numpy(case["student_out"]).requires_grad_()
    losses = self_distillation_loss(
        student[torch.from_numpy(rows)],
        torch.from_numpy(case["superpoint_compact"]).long(),
        torch.from_numpy(case["text_half"]),
        torch.from_numpy(case["pseudo_label_point"]).long(),
        torch.from_numpy(case["pseudo_label_superpoint"]).long(),
    )
    losses.total.backward()
    assert losses.point.item() == pytest.approx(float(case["loss_point_f64"]), abs=LOSS)
    assert losses.superpoint.item() == pytest.approx(float(case["loss_superpoint_f64"]), abs=LOSS)
    assert losses.total.item() == pytest.approx(float(case["loss"]), abs=LOSS)
    reference = torch.from_numpy(case["grad_student_out"])
    scale = reference.abs().max().item()
    torch.testing.assert_close(student.grad, reference, rtol=0, atol=GRADIENT * scale)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_superpoint_means_are_all_that_the_per_point_form_needs(seed, count):
    """Loss and gradient equal those of Eq. 10 written with a (N, D) target for every point."""
    student, target, ids = random_rows(seed, count=count)
    means = torch.zeros(count, 5, dtype=torch.float64).index_add(0, ids, target)
    members = torch.bincount(ids, minlength=count)
    means = means / members.clamp(min=1)[:, None]
    losses = superpoint_distillation_loss(student, ids, means)
    losses.total.backward()

    twin = student.detach().clone().requires_grad_()
    per_point = torch.stack([target[ids == i].mean(0) for i in ids])  # (N, D), as published
    point = (1 - torch.cosine_similarity(per_point, twin)).mean()
    groups = [ids == i for i in range(count) if (ids == i).any()]
    superpoint = torch.stack(
        [1 - torch.cosine_similarity(target[g].mean(0), twin[g].mean(0), dim=0) for g in groups]
    ).mean()
    (point + superpoint).backward()
    torch.testing.assert_close(losses.point, point)
    torch.testing.assert_close(losses.superpoint, superpoint)
    torch.testing.assert_close(student.grad, twin.grad)


def test_superpoint_term_does_not_weigh_by_size():
    """Nine rows agree with their superpoint, one opposes its own: point 0.2, superpoint 1."""
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    student = torch.cat([targets[:1].expand(9, 2) * 3, -targets[1:] * 5])
    ids = torch.tensor([0] * 9 + [1])
    losses = superpoint_distillation_loss(student, ids, targets)
    assert losses.point.item() == pytest.approx(0.2)
    assert losses.superpoint.item() == pytest.approx(1.0)
    assert losses.total.item() == pytest.approx(1.2)


def test_superpoints_without_rows_take_no_part():
    student, target, ids = random_rows(3, count=4)
    few = superpoint_distillation_loss(student, ids, target[:4])
    many = superpoint_distillation_loss(student, ids + 7, torch.cat([target[10:17], target[:4]]))
    torch.testing.assert_close(few.total, many.total)
    labels = torch.arange(60) % 3
    table = torch.arange(11) % 3
    text = target[:3]
    short = self_distillation_loss(student, ids, text, labels, table[7:])
    long = self_distillation_loss(student, ids + 7, text, labels, table)
    torch.testing.assert_close(short.total, long.total)


def test_length_of_student_and_target_do_not_matter():
    student, target, ids = random_rows(5, rows=9, count=9)
    ids = torch.arange(9)
    losses = superpoint_distillation_loss(student, ids, target)
    scaled = superpoint_distillation_loss(student * 7, ids, target * 0.1)
    torch.testing.assert_close(losses.total, scaled.total)
    torch.testing.assert_close(losses.point, losses.superpoint)  # every point its own superpoint


def test_point_loss_is_one_minus_cosine():
    student, target, _ = random_rows(8)
    expected = (1 - cosine(student.detach().numpy(), target.numpy())).mean()
    assert point_distillation_loss(student, target).item() == pytest.approx(
        expected, abs=FLOAT64_EXACT
    )
    assert point_distillation_loss(target.half(), target).dtype == torch.float32


def test_self_distillation_follows_its_formula():
    student, target, ids = random_rows(11)
    text = target[:4].numpy()
    labels = np.arange(60) % 4
    table = np.arange(9) % 4
    losses = self_distillation_loss(
        student, ids, target[:4], torch.from_numpy(labels), torch.from_numpy(table), temperature=0.5
    )
    rows = student.detach().numpy()

    def entropy(features, wanted):
        scores = features @ text.T / 0.5
        return (np.log(np.exp(scores).sum(1)) - scores[np.arange(len(wanted)), wanted]).mean()

    present = np.unique(ids.numpy())
    pooled = group_means(rows, ids.numpy(), 9)[present]  # the features are pooled, then scored
    assert losses.point.item() == pytest.approx(entropy(rows, labels), abs=FLOAT64_EXACT)
    assert losses.superpoint.item() == pytest.approx(
        entropy(pooled, table[present]), abs=FLOAT64_EXACT
    )


def test_gradients_are_those_of_the_losses():
    student, target, ids = random_rows(2, rows=12, dimensions=3, count=5)
    labels = torch.arange(12) % 3

    def both(rows):
        first = superpoint_distillation_loss(rows, ids, target[:5]).total
        return first + self_distillation_loss(rows, ids, target[:3], labels, labels[:5]).total

    assert torch.autograd.gradcheck(both, (student,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, target, ids = random_rows(4, dtype=torch.float32)
    low = student.detach().to(dtype).requires_grad_()
    losses = superpoint_distillation_loss(low, ids, target[:9].half())
    exact = superpoint_distillation_loss(low.detach().float(), ids, target[:9].half().float())
    assert losses.total.dtype == torch.float32
    assert losses.total.item() == exact.total.item()
    losses.total.backward()
    assert low.grad is not None
    assert low.grad.dtype == dtype


def test_no_rows_give_zero_loss_and_zero_gradient():
    network = torch.nn.Linear(3, 4)
    nothing = network(torch.zeros(0, 3))
    ids = torch.zeros(0, dtype=torch.int64)
    total = superpoint_distillation_loss(nothing, ids, torch.ones(2, 4)).total
    total = total + point_distillation_loss(nothing, torch.zeros(0, 4))
    total = total + self_distillation_loss(nothing, ids, torch.ones(3, 4), ids, ids).total
    total.backward()
    assert total.item() == 0
    assert network.weight.grad is not None
    assert network.weight.grad.abs().max() == 0


def test_inputs_stay_as_they_were():
    student, target, ids = random_rows(6)
    before = [student.detach().clone(), target.clone(), ids.clone()]
    superpoint_distillation_loss(student, ids, target[:9]).total.backward()
    for tensor, copy in zip([student.detach(), target, ids], before, strict=True):
        assert torch.equal(tensor, copy)


def test_wrong_shapes_and_ids_are_named():
    rows, ids = torch.ones(3, 2), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"superpoint_ids run from 0 to 2, .* with 2 rows"):
        superpoint_distillation_loss(rows, ids, torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"run from -1 to 1"):
        superpoint_distillation_loss(rows, ids - 1, torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"target_superpoint_means has shape \(3, 4\)"):
        superpoint_distillation_loss(rows, ids, torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"target has shape \(2, 2\), expected \(3, 2\)"):
        point_distillation_loss(rows, torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"temperature is 0"):
        self_distillation_loss(rows, ids, rows, ids, ids, temperature=0)
    with pytest.raises(ValueError, match=r"pseudo_labels_point has shape \(2,\)"):
        self_distillation_loss(rows, ids, rows, ids[:2], ids)
