"""Looks at a cloud: turned and scaled as OpenScene does, 2D features by the voxel."""

from __future__ import annotations

import math

import pytest
import torch

from pcdistill.distillation.augmentation import augment_rotate_scale, rotate_scale
from pcdistill.distillation.batches import StudentInput, make_voxel_batch
from pcdistill.distillation.voting import Looks, voxel_features
from pcdistill.fusion import predict_labels
from pcdistill.geometry import voxelize
from tests.conftest import golden_cases, load_npz

HALF_STEP = 2.0**-9
"""Relative: two roundings to half precision, of the scores of two runs and of their sum."""


def test_turns_and_scales_are_within_the_published_bounds_in_any_order_of_the_axes():
    """About x and y by at most a 64th of half a turn, about z by any angle, then 0.9 to 1.1."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.eye(3)
    scales, tilts, headings = [], [], []
    for _ in range(300):
        points = augment_rotate_scale(StudentInput(corners), generator).points
        scales.append(float(points[0].norm()))
        turn = (points / scales[-1]).T
        assert torch.allclose(turn @ turn.T, torch.eye(3).double(), atol=1e-6)
        tilts.append(math.acos(float(turn[2, 2])))
        headings.append(math.atan2(float(turn[1, 0]), float(turn[0, 0])))
    assert 0.9 <= min(scales) < 0.92
    assert 1.08 < max(scales) <= 1.1
    # with z turned before or after both of the others, tilts would not add up
    assert math.sqrt(2) * math.pi / 64 + 1e-3 < max(tilts) < 2 * math.pi / 64 + 1e-6
    assert min(headings) < -0.9 * math.pi
    assert max(headings) > 0.9 * math.pi


@pytest.mark.parametrize("file", golden_cases("voxelize/with_transform*.npz"))
def test_a_turned_cloud_falls_into_the_voxels_of_the_reference(file):
    case = load_npz(file)
    draws = [key.removeprefix("coords_") for key in case if key.startswith("coords_")]
    for draw in draws:
        size = 1 / float(case[f"scale_matrix_{draw}"][0, 0])  # metres a voxel, scale included
        rotation = torch.from_numpy(case[f"rotation_matrix_{draw}"][:3, :3])
        cloud = StudentInput(torch.from_numpy(case["points"]))
        scale = 0.02 / size
        batch = make_voxel_batch([rotate_scale(cloud, rotation, scale)], 0.02)
        expected = torch.from_numpy(case[f"coords_{draw}"])[case[f"inverse_{draw}"]]
        assert torch.equal(batch.coords[batch.point_to_voxel[0]][:, 1:], expected)
        assert set(batch.representative[0].tolist()) == set(case[f"ind_{draw}"].tolist())


@pytest.mark.parametrize("file", golden_cases("loader/*.npz"))
def test_two_dimensional_features_are_those_of_the_reference_s_loader(file):
    """The loader of evaluation, with the turn switched off; both scenes of its batch."""
    case = load_npz(file)
    start = rows = 0
    for scene in (0, 1):
        points = torch.from_numpy(case[f"in{scene}_points"])
        mask = torch.from_numpy(case[f"in{scene}_mask_full"])
        half = torch.from_numpy(case[f"in{scene}_feat_half"])
        features = torch.zeros(len(points), half.shape[1]).masked_scatter(
            mask[:, None], half.float()
        )
        found, seen = voxel_features(points, features, mask, 0.05, Looks())
        index = torch.from_numpy(case["val_inds_recons"])[start : start + len(points)].long()
        assert torch.equal(found, torch.from_numpy(case["val_feat_3d"]).float()[index])
        assert torch.equal(seen, torch.from_numpy(case["val_mask"])[index])
        start, rows = start + len(points), rows + len(points)
    assert rows == len(case["val_inds_recons"])


@pytest.mark.parametrize("file", golden_cases("metrics/nuscenes_details*.npz"))
def test_added_scores_give_the_label_of_the_reference_where_halves_tell_them_apart(file):
    """The mean of features has the best prompt of the added scores; the reference rounds them."""
    case = load_npz(file)
    runs = [torch.from_numpy(case[f"logits_run{number}"]).float() for number in (1, 2)]
    mean = (runs[0] + runs[1]) / 2
    prompts = mean.shape[1]
    labels = torch.from_numpy(case["mapping"])[predict_labels(mean, torch.eye(prompts))]
    expected = torch.from_numpy(case["pred16_accumulated"]).long()
    best = (runs[0] + runs[1]).topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > HALF_STEP * best.abs().amax(dim=1)
    assert clear.float().mean() > 0.95
    assert torch.equal(labels[clear], expected[clear])


def test_the_last_look_says_who_has_no_feature():
    """A point shares its voxel with another one in some looks only."""
    generator = torch.Generator().manual_seed(4)
    points = torch.rand(400, 3, generator=generator)
    seen = torch.rand(400, generator=generator) < 0.5
    features = torch.rand(400, 2, generator=generator) + 1
    found, visible = voxel_features(points, features, seen, 0.1, Looks(3, seed=7))
    spoken, last = torch.zeros(400, 2), None
    for look in Looks(3, seed=7).at(StudentInput(points)):
        voxels = voxelize(look.points, 0.1)
        last = voxels.representative[voxels.point_to_voxel]
        spoken += torch.where(seen[last, None], features[last], 0.0) / 3
    torch.testing.assert_close(found, spoken)
    assert torch.equal(visible, seen[last])
    assert not torch.equal(visible, seen)
    assert bool(found[~visible].any())  # an earlier look had something to say


def test_without_a_seed_looks_are_moved_and_the_first_one_is_not():
    looks = list(Looks(3).at(StudentInput(torch.rand(5, 3))))
    assert [float(look.grid_shift[0]) for look in looks] == pytest.approx([0, 16 / 3, 32 / 3])
    with pytest.raises(ValueError, match="looks is 0, expected at least 1"):
        next(Looks(0).at(StudentInput(torch.rand(5, 3))))
