"""Shifts on the grid: they move the borders of voxels at every stride, for training and votes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pcdistill.distillation.augmentation import draw_on_grid
from pcdistill.distillation.batch_cache import VoxelBatchCache
from pcdistill.distillation.batches import (
    MAX_STRIDE,
    StudentInput,
    TrainingScene,
    even_shifts,
    make_voxel_batch,
)
from pcdistill.distillation.scene_source import SceneSource
from pcdistill.distillation.student_features import infer_point_features
from pcdistill.distillation.voting import Looks
from pcdistill.networks import build_student
from pcdistill.sparse import SparseTensor
from tests.tolerances import FLOAT32_SUMS

VOXEL = 0.05
STRIDES = (1, 2, 4, 8, 16)
CPU = torch.device("cpu")


def cloud(points: int = 3000, seed: int = 0) -> torch.Tensor:
    """(N, 3) float32 on both sides of the origin, about 60 x 40 x 40 voxels."""
    generator = torch.Generator().manual_seed(seed)
    box = torch.tensor([3.0, 2.0, 2.0])
    return (torch.rand(points, 3, generator=generator) - 0.5) * box + 0.7


def scene(points: torch.Tensor) -> TrainingScene:
    return TrainingScene(
        "s",
        points,
        torch.zeros(len(points), dtype=torch.int64),
        torch.ones(1, 4),
        torch.ones(len(points), dtype=torch.bool),
    )


def cells_of(batch, number: int = 0) -> torch.Tensor:
    """(N, 3) int64 finest cell of every point of one scene."""
    coords = batch.coords[batch.point_to_voxel[number]]
    assert bool((coords[:, 0] == number).all())
    return coords[:, 1:].long()


def drawn_by_views(points, seeds):
    for seed in seeds:
        source = VoxelBatchCache(
            SceneSource.of([scene(points)]), VOXEL, turn=True, seed=seed, device=CPU
        )
        for epoch in range(10):
            yield source.sample(0, epoch, source.draw(torch.Generator().manual_seed(seed)))


def drawn_in_batches(points, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(10):
            yield make_voxel_batch(
                [draw_on_grid(generator, tinted=False)(StudentInput(points))], VOXEL
            )


@pytest.mark.parametrize("source", [drawn_by_views, drawn_in_batches])
def test_borders_of_every_stride_move_with_the_seed(source):
    """Where the lowest point lies in its voxel takes every value at every stride."""
    points = cloud(300)
    lowest = np.array([cells_of(batch).amin(dim=0).tolist() for batch in source(points, range(40))])
    assert lowest.min() >= 0
    assert lowest.max() <= MAX_STRIDE
    for stride in STRIDES[1:]:
        for axis in range(3):
            count = np.bincount(lowest[:, axis] % stride, minlength=stride) / len(lowest)
            assert count.min() > 0.4 / stride
            assert count.max() < 1.8 / stride


def test_coarse_voxels_hold_other_points_in_every_cut():
    points = cloud(300)
    for stride in STRIDES[1:]:
        cuts = {
            tuple(map(tuple, torch.div(cells_of(batch), stride, rounding_mode="floor").tolist()))
            for batch in drawn_by_views(points, range(3))
        }
        assert len(cuts) == 30


def test_a_shift_moves_every_point_by_itself_and_nothing_else():
    points = [cloud(900), cloud(400, seed=1) - 90.0, torch.zeros(0, 3)]
    shifts = [torch.tensor([0.25, 7.5, 15.9]), torch.tensor([3.0, 0.0, 1.0]), torch.ones(3)]
    pairs = zip(points, shifts, strict=True)
    batch = make_voxel_batch([StudentInput(p, grid_shift=s) for p, s in pairs], VOXEL)
    for number, (one, shift) in enumerate(zip(points[:2], shifts[:2], strict=True)):
        wide = one.double().numpy()
        start = np.floor(wide.min(axis=0) * (1 / VOXEL))
        moved = wide + shift.double().numpy() * VOXEL
        expected = np.floor(moved * (1 / VOXEL)) - start
        np.testing.assert_array_equal(cells_of(batch, number), expected)
    assert len(batch.coords.unique(dim=0)) == len(batch.coords)
    assert batch.coords.dtype == torch.int32
    assert len(batch.point_to_voxel[2]) == 0
    for one, index, first in zip(points, batch.point_to_voxel, batch.representative, strict=True):
        assert bool((first < len(one)).all()) or len(one) == 0
        if len(one):
            np.testing.assert_array_equal(index[first], index.unique())


def test_no_shift_and_a_shift_of_nothing_are_the_same():
    points = cloud()
    plain = make_voxel_batch([StudentInput(points)], VOXEL)
    still = make_voxel_batch([StudentInput(points, grid_shift=torch.zeros(3))], VOXEL)
    assert torch.equal(plain.coords, still.coords)
    assert torch.equal(plain.point_to_voxel[0], still.point_to_voxel[0])
    assert plain.coords[:, 1:].amin(dim=0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("votes", range(2, 10))
def test_votes_cut_every_stride_at_places_evenly_spread(votes):
    shifts = torch.stack(even_shifts(votes))
    assert shifts[0].tolist() == [0, 0, 0]
    assert float(shifts.max()) < MAX_STRIDE
    for stride in STRIDES:
        places = (shifts[:, 0] % stride).sort().values
        gaps = torch.cat([places, places[:1] + stride]).diff()
        assert float(gaps.min()) > 0.99 * stride / (votes + 1)
        assert float(gaps.max()) < 2.01 * stride / (votes + 1)


class WhereItIs(nn.Module):
    """Says of every voxel in which cell of one stride it lies: what a coarse level may know."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: SparseTensor) -> torch.Tensor:
        return torch.div(x.coords[:, 1:], self.stride, rounding_mode="floor").float()


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("votes", [2, 5])
def test_votes_differ_at_every_stride_and_answer_for_their_own_points(stride, votes):
    points = cloud()
    found = infer_point_features(
        WhereItIs(stride), StudentInput(points), VOXEL, CPU, looks=Looks(votes)
    )
    wide = points.double().numpy()
    start = np.floor(wide.min(axis=0) / VOXEL)
    per_vote = []
    for shift in torch.stack(even_shifts(votes)).numpy():
        cells = np.floor((wide + shift * VOXEL) * (1 / VOXEL)) - start
        per_vote.append(np.floor(cells / stride))
    np.testing.assert_allclose(found, np.mean(per_vote, axis=0), atol=FLOAT32_SUMS)
    # two points of one coarse voxel in one vote are of two in another
    borders = {tuple((one[1:] != one[:-1]).flatten()) for one in per_vote}
    assert len(borders) == votes


def test_a_network_gives_the_same_on_a_grid_moved_by_its_coarsest_voxel_only():
    network = build_student("MinkUNet14A", 3, 6, width=0.125).eval()
    points = cloud(800)

    def answer(shift: float) -> torch.Tensor:
        moved = StudentInput(points, grid_shift=torch.full((3,), shift))
        batch = make_voxel_batch([moved], VOXEL)
        with torch.no_grad():
            output = network(SparseTensor(batch.features, batch.coords))
        return output[batch.point_to_voxel[0]]

    still = answer(0.0)
    torch.testing.assert_close(answer(16.0), still, rtol=1e-6, atol=1e-6)  # the same sums
    for shift in (1.0, 2.0, 4.0, 8.0):  # the finest voxels hold the same points in all of them
        assert float((answer(shift) - still).abs().max()) > 1e-4 * float(still.abs().max())


def test_the_grid_of_a_stopped_training_is_the_one_it_would_have_had():
    points = cloud(300)
    whole = VoxelBatchCache(SceneSource.of([scene(points)]), VOXEL, turn=True, seed=4, device=CPU)
    later = VoxelBatchCache(SceneSource.of([scene(points)]), VOXEL, turn=True, seed=4, device=CPU)
    for epoch in range(3):
        whole.sample(0, epoch, whole.draw(torch.Generator().manual_seed(epoch)))
    first = whole.sample(0, 3, whole.draw(torch.Generator().manual_seed(3)))
    second = later.sample(0, 3, later.draw(torch.Generator().manual_seed(3)))
    assert torch.equal(first.coords, second.coords)
