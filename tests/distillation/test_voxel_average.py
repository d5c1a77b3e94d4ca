"""Features averaged over voxels and cuts, against sums over dictionaries of cells."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.distillation.batches import StudentInput
from pcdistill.distillation.voting import Looks
from pcdistill.distillation.voxel_average import voxel_means
from tests.tolerances import FLOAT32_SUMS

SIZE = 0.25


def scattered(points: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = 2 * torch.rand(points, 3, generator=generator)
    features = torch.randn(points, 4, generator=generator)
    return places, features, torch.rand(points, generator=generator) < 0.5


def shifted(places: torch.Tensor, votes: int):
    """The points in voxels as each of several students' looks has them."""
    steps = votes if votes % 2 else votes + 1
    for vote in range(votes):
        yield [[x * (1 / SIZE) + 16 * vote / steps for x in place] for place in places.tolist()]


def by_hand(looks, features, seen):
    """Point -> mean over the looks in which its cell has a seen point."""
    found: dict[int, list[torch.Tensor]] = {}
    for places in looks:
        cells = [tuple(map(math.floor, place)) for place in places]
        for point, cell in enumerate(cells):
            inside = [p for p in range(len(cells)) if cells[p] == cell and seen[p]]
            if inside:
                mean = features[inside].double().mean(dim=0)
                found.setdefault(point, []).append(mean)
    return {point: torch.stack(means).mean(dim=0) for point, means in found.items()}


def assert_as_by_hand(found, known, expected) -> None:
    assert known.nonzero()[:, 0].tolist() == sorted(expected)
    for point, feature in expected.items():
        torch.testing.assert_close(
            found[point].double(), feature, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS
        )
    assert not found[~known].any()


@settings(deadline=None, max_examples=25)
@given(points=st.integers(1, 60), seed=st.integers(0, 999), votes=st.integers(1, 5))
def test_every_point_has_the_mean_of_its_voxels(points, seed, votes):
    places, features, seen = scattered(points, seed)
    found, known = voxel_means(places, features, seen, SIZE, Looks(votes))
    assert_as_by_hand(found, known, by_hand(shifted(places, votes), features, seen))


def test_rows_of_unseen_points_are_not_read():
    places, features, seen = scattered(40, 3)
    told = voxel_means(places, features, seen, SIZE)
    spoiled = torch.where(seen[:, None], features, torch.nan)
    for one, other in zip(told, voxel_means(places, spoiled, seen, SIZE), strict=True):
        assert torch.equal(one, other)


def test_a_point_alone_keeps_its_feature_whatever_the_votes():
    places = torch.arange(15.0).reshape(5, 3)
    features, seen = torch.randn(5, 4), torch.tensor([True, True, False, True, True])
    found, known = voxel_means(places, features, seen, SIZE, Looks(5))
    assert torch.equal(known, seen)
    torch.testing.assert_close(found[seen], features[seen], rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)


def test_looks_may_be_turned_as_those_of_students():
    places, features, seen = scattered(60, 2)
    looks = Looks(3, seed=1)
    cut = [(look.points / SIZE).tolist() for look in looks.at(StudentInput(places))]
    found, known = voxel_means(places, features, seen, SIZE, looks)
    assert_as_by_hand(found, known, by_hand(cut, features, seen))
    assert not torch.equal(found, voxel_means(places, features, seen, SIZE, Looks(3))[0])


def test_at_least_one_look_is_needed():
    with pytest.raises(ValueError, match="number of looks is 0, expected at least 1"):
        voxel_means(*scattered(3, 0), SIZE, Looks(0))
