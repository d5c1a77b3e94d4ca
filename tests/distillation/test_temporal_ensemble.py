"""The history of scores against the published history of features, and against the reference."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from pcdistill.distillation import TemporalEnsemble
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32_SUMS

HOW = ("point", "superpoint")


def ulp_of_half(values):
    """Distance from each value to the next number in half precision."""
    return np.spacing(np.abs(values.astype(np.float16))).astype(np.float64)


def scene_slices(offsets):
    edges = [0, *offsets.tolist()]
    return [slice(a, b) for a, b in pairwise(edges)]


@pytest.mark.parametrize("file", golden_cases("distill/stage2_*.npz"))
def test_labels_of_the_second_stage_are_the_reference(file):
    """The reference pools over the rows that it uses of the whole batch: one scene here."""
    case = load_npz(file)
    text = torch.from_numpy(case["text_half"])
    rows = case["vox_ind"][case["rand_ind"]] if "rand_ind" in case else case["vox_ind"]
    before = torch.from_numpy(case["history_before_half"])[rows]
    student = torch.from_numpy(case["student_out"])
    voxels = torch.from_numpy(case["inds_recons"]).long()[rows]
    ids = torch.from_numpy(case["superpoint_compact"])

    def learned(how, text=text):
        ensemble = TemporalEnsemble(text, alpha=0.9999, point_labels=how)
        ensemble.initialize("batch", before, superpoint_ids=None if how == "point" else ids)
        ensemble.update("batch", student, point_to_voxel=voxels, superpoint_ids=ids)
        return ensemble

    released = learned("superpoint").pseudo_labels("batch", ids)
    assert np.array_equal(released.superpoint, case["pseudo_label_superpoint"])
    assert np.array_equal(released.point, case["pseudo_label_point"])
    published = learned("point").pseudo_labels("batch", ids)
    assert np.array_equal(published.superpoint, case["pseudo_label_superpoint"])
    # Point labels may sit on a near tie; where the two best scores differ they must agree.
    best = learned("point").history("batch").topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert np.array_equal(published.point.numpy()[clear], case["pseudo_label_point_paper"][clear])
    means = learned("superpoint", torch.eye(text.shape[1])).history("batch")  # of features
    np.testing.assert_allclose(means, case["history_superpoint_mean"], rtol=0, atol=FLOAT32_SUMS)


@pytest.mark.parametrize("file", golden_cases("distill/stage2_*.npz"))
def test_scenes_of_a_batch_have_histories_of_their_own(file):
    case = load_npz(file)
    before = torch.from_numpy(case["history_before_half"])
    student = torch.from_numpy(case["student_out"])
    voxels = torch.from_numpy(case["inds_recons"]).long()
    ensemble = TemporalEnsemble(torch.eye(student.shape[1]), alpha=0.9999)
    after = []
    for number, part in enumerate(scene_slices(case["scene_point_offset"])):
        ensemble.initialize(f"scene {number}", before[part])
        after.append(ensemble.update(f"scene {number}", student, point_to_voxel=voxels[part]))
    whole = TemporalEnsemble(torch.eye(student.shape[1]), alpha=0.9999)
    whole.initialize("batch", before)
    assert torch.equal(torch.cat(after), whole.update("batch", student, point_to_voxel=voxels))


@pytest.mark.parametrize("file", golden_cases("distill/stage2_*.npz"))
def test_updated_history_is_the_reference(file):
    """With the identity for text, scores are features."""
    case = load_npz(file)
    dimensions = case["student_out"].shape[1]
    ensemble = TemporalEnsemble(torch.eye(dimensions), alpha=0.9999)
    ensemble.initialize("batch", torch.from_numpy(case["history_before_half"]))
    after = ensemble.update(
        "batch",
        torch.from_numpy(case["student_out"]),
        point_to_voxel=torch.from_numpy(case["inds_recons"]).long(),
    )
    stored = after.numpy().astype(np.float16)
    difference = np.abs(stored.astype(np.float64) - case["history_after_half"])
    assert (difference > 0).mean() < 1e-3  # stated: one ulp in less than 0.1 % of the entries
    assert (difference <= ulp_of_half(case["history_after_half"])).all()


@pytest.mark.parametrize("file", golden_cases("distill/history_init*.npz"))
def test_history_begins_as_in_the_reference(file):
    case = load_npz(file)
    wanted, ids = case["history_half"], torch.from_numpy(case["superpoint"])
    for how in ("point", "superpoint"):
        ensemble = TemporalEnsemble(torch.eye(case["student_out"].shape[1]), point_labels=how)
        ensemble.initialize(
            "scene",
            torch.from_numpy(case["student_out"]),
            point_to_voxel=torch.from_numpy(case["inds_reverse"]).long(),
            superpoint_ids=ids,
        )
        history = ensemble.history("scene")
        found = (history if how == "point" else history[ids.long()]).numpy().astype(np.float16)
        assert (np.abs(found - wanted).astype(np.float64) <= ulp_of_half(wanted)).all()


@pytest.mark.parametrize("file", golden_cases("distill/history_long_run*.npz"))
def test_small_steps_are_not_lost(file):
    case = load_npz(file)
    ensemble = TemporalEnsemble(torch.ones(1, 1))
    ensemble.initialize("scene", torch.from_numpy(case["history_start_half"])[:, None])
    constant = torch.from_numpy(case["student_const"])[:, None]
    for _ in range(int(case["n_updates"])):
        ensemble.update("scene", constant)
    end = ensemble.history("scene")[:, 0].numpy()
    start, target = case["history_start_half"].astype(np.float64), case["student_const"]
    exact = target + (start - target) * 0.9999 ** float(case["n_updates"])
    # float32 over hundreds of updates: half a step each
    np.testing.assert_allclose(end, exact, rtol=0, atol=5e-5)
    # The reference multiplied both terms in float32, which alone drifts by up to 1.3e-4.
    np.testing.assert_allclose(
        # the reference was stored in half precision: half a step
        end,
        case["history_end_if_kept_in_float32"],
        rtol=2.0**-11,
        atol=2.0**-16,
    )
    missing = np.abs(case["history_end_half"] - exact)
    assert missing.max() > 0.01  # what half precision loses is far above the tolerance


def test_labels_are_those_of_a_float64_history_of_features_over_50_epochs():
    """On every point and superpoint, in either form; outputs of voxels, of other ones each time."""
    same = {"seed": 1, "alpha": 0.9, "pooled_first": False}
    assert check_against_features(**same, epochs=50, points=600) == 0  # none was left out


@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.sampled_from([0.0, 0.5, 0.9, 0.999, 0.9999, 1.0]),
    pooled_first=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_scores_give_the_labels_of_the_feature_history(seed, alpha, pooled_first):
    same = {"seed": seed, "alpha": alpha, "pooled_first": pooled_first}
    assert check_against_features(**same, epochs=4, points=200) <= 3


def check_against_features(
    *, seed: int, alpha: float, pooled_first: bool, epochs: int, points: int
) -> int:
    """Compare with Eq. 11 and 12 on (N, D) features in float64.

    Labels where two classes are level, to float32, are left out; returns how many these were.

    Some superpoints have no point. Of a superpoint there may be any share in a voxel. Histories of
    points begin with the mean of their superpoint or with their own score.
    """
    generator = torch.Generator().manual_seed(seed)
    dimensions, classes, count = 32, 7, 15
    text = torch.randn(classes, dimensions, generator=generator)
    ids = torch.randint(count, (points,), generator=generator)
    ids[ids == 4] = 3
    members = torch.bincount(ids, minlength=count).clamp(min=1)[:, None]
    ensembles = {how: TemporalEnsemble(text, alpha, point_labels=how) for how in HOW}

    def pooled(values):
        return torch.zeros(count, values.shape[1]).double().index_add(0, ids, values) / members

    features, level = torch.zeros(0), 0
    for epoch in range(epochs):
        voxels = torch.randint(points // 2, (points,), generator=generator)
        output = torch.randn(points // 2, dimensions, generator=generator)
        new = output.double()[voxels]
        if epoch == 0:
            features = pooled(new)[ids] if pooled_first else new
        else:
            features = alpha * features + (1 - alpha) * new
        expected = {"point": features @ text.double().T}
        expected["superpoint"] = pooled(features) @ text.double().T
        for how, ensemble in ensembles.items():
            given = None if how == "point" and not pooled_first else ids
            ensemble.update(
                "scene", output, point_to_voxel=voxels, superpoint_ids=given, count=count
            )
            found = ensemble.pseudo_labels("scene", ids, count=count)
            wanted = [expected["superpoint"], expected["superpoint"][ids]]
            if how == "point":
                wanted[1] = expected["point"]
            for labels, scores in zip((found.superpoint, found.point), wanted, strict=True):
                best = scores.topk(2, dim=1).values
                clear = best[:, 0] - best[:, 1] > 1e-5  # float32 sums of 32 products
                clear |= (scores == 0).all(dim=1)  # a superpoint without points has class 0
                level += int((~clear).sum())
                assert torch.equal(labels[clear], scores.argmax(1)[clear]), (epoch, how)
    assert ensembles["superpoint"].history("scene").shape == (count, classes)
    return level


def test_one_update_by_hand():
    ensemble = TemporalEnsemble(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), alpha=0.75)
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    assert torch.equal(ensemble.update("a", first), torch.tensor([[1.0, 0], [0, 2], [4, 0]]))
    second = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]])
    after = ensemble.update("a", second)
    assert torch.equal(after, torch.tensor([[0.75, 1.0], [0, 2], [3, 0]]))
    labels = ensemble.pseudo_labels("a", torch.tensor([0, 0, 2], dtype=torch.int32))
    assert labels.point.tolist() == [1, 1, 0]
    assert labels.superpoint.tolist() == [1, 0, 0]  # superpoint 1 has no point


def test_one_update_of_superpoints_by_hand():
    text, ids = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 2])
    ensemble = TemporalEnsemble(text, alpha=0.75, point_labels="superpoint")
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    ensemble.initialize("a", first, superpoint_ids=ids, count=4)
    assert torch.equal(ensemble.history("a"), torch.tensor([[0.5, 1], [0, 0], [4, 0], [0, 0]]))
    second = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]])  # scores 0 3, 0 0, 0 0, 0 0
    after = ensemble.update("a", second, superpoint_ids=ids, count=4)
    assert torch.equal(after, torch.tensor([[0.375, 1.5], [0, 0], [3, 0], [0, 0]]))
    labels = ensemble.pseudo_labels("a", ids, count=4)
    assert labels.superpoint.tolist() == [1, 0, 0, 0]
    assert labels.point.tolist() == [1, 1, 0]


def test_voxel_rows_are_carried_to_points():
    generator = torch.Generator().manual_seed(0)
    text, voxels = torch.randn(4, 6, generator=generator), torch.randn(5, 6, generator=generator)
    to_voxel = torch.tensor([0, 0, 3, 4, 2, 1, 1])
    by_voxel, by_point = TemporalEnsemble(text), TemporalEnsemble(text)
    for _ in range(2):
        by_voxel.update("a", voxels, point_to_voxel=to_voxel)
        by_point.update("a", voxels[to_voxel])
    torch.testing.assert_close(by_voxel.history("a"), by_point.history("a"))


def test_history_does_not_follow_the_students_gradient_or_storage():
    student = torch.ones(3, 2, requires_grad=True)
    ensemble = TemporalEnsemble(torch.eye(2))
    ensemble.update("a", student)
    with torch.no_grad():
        student.mul_(5)
    assert not ensemble.history("a").requires_grad
    assert torch.equal(ensemble.history("a"), torch.ones(3, 2))


def test_memory_is_scores_not_features():
    """20 classes, 512 channels, as on ScanNet."""
    ensemble = TemporalEnsemble(torch.zeros(20, 512))
    ensemble.update("a", torch.zeros(1000, 512))
    ensemble.update("b", torch.zeros(500, 512))
    float32_features, half_features = 1500 * 512 * 4, 1500 * 512 * 2
    assert ensemble.nbytes / float32_features == 20 / 512  # 1 / 25.6
    assert ensemble.nbytes / half_features == 40 / 512  # 1 / 12.8
    whole = TemporalEnsemble(torch.zeros(20, 512), point_labels="superpoint")
    whole.update("a", torch.zeros(1500, 512), superpoint_ids=torch.arange(1500) // 100)
    assert whole.nbytes / half_features == 40 / 512 / 100


def test_training_goes_on_where_it_stopped():
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(3, 4, generator=generator)
    outputs = torch.randn(6, 10, 4, generator=generator)
    straight = TemporalEnsemble(text, 0.9)
    for output in outputs:
        straight.update("room/a 1", output)
    broken = TemporalEnsemble(text, 0.9)
    for output in outputs[:3]:
        broken.update("room/a 1", output)
    stored = save(broken.state_dict())  # the bytes of a safetensors file
    resumed = TemporalEnsemble(text, 0.9)
    resumed.load_state_dict(load(stored))
    for output in outputs[3:]:
        resumed.update("room/a 1", output)
    assert resumed.scenes == ("room/a 1",)
    assert torch.equal(resumed.history("room/a 1"), straight.history("room/a 1"))


def test_mistakes_are_named():
    ensemble = TemporalEnsemble(torch.eye(2), 0.5)
    ensemble.update("a", torch.ones(3, 2))
    with pytest.raises(ValueError, match="alpha is 2"):
        TemporalEnsemble(torch.eye(2), 2)
    with pytest.raises(ValueError, match="scene 'a': 4 points but the history has 3"):
        ensemble.update("a", torch.ones(4, 2))
    with pytest.raises(ValueError, match="scene 'b' has no history"):
        ensemble.pseudo_labels("b", torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"superpoint_ids has shape \(2,\), expected \(3\)"):
        ensemble.pseudo_labels("a", torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"student has shape \(3, 5\), expected \(any, 2\)"):
        ensemble.update("a", torch.ones(3, 5))
    with pytest.raises(ValueError, match="other text embeddings"):
        TemporalEnsemble(torch.ones(2, 2), 0.5).load_state_dict(ensemble.state_dict())
    with pytest.raises(ValueError, match=r"the state has alpha 0\.5, here it is 0\.9"):
        TemporalEnsemble(torch.eye(2), 0.9).load_state_dict(ensemble.state_dict())
    whole = TemporalEnsemble(torch.eye(2), 0.5, point_labels="superpoint")
    with pytest.raises(ValueError, match="needs the superpoint_ids of every point"):
        whole.update("a", torch.ones(3, 2))
    whole.update("a", torch.ones(3, 2), superpoint_ids=torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="scene 'a': 3 superpoints but the history has 2"):
        whole.update("a", torch.ones(3, 2), superpoint_ids=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"history has shape \(2, 2\), expected \(3, any\)"):
        whole.pseudo_labels("a", torch.tensor([0, 1, 2]), count=3)
    with pytest.raises(ValueError, match="expected those of TemporalEnsemble"):
        ensemble.load_state_dict({"weight": torch.ones(1)})
