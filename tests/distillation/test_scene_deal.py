"""Every scene is trained on once an epoch, by one process, and processes have like work."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.distillation.scene_deal import count_voxels, deal_epoch, deal_scenes

SIZES = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


@given(sizes=SIZES, ranks=st.integers(1, 8))
def test_loads_differ_by_at_most_one_scene_and_nobody_is_idle(sizes, ranks):
    owners = deal_scenes(sizes, ranks)
    assert len(owners) == len(sizes)
    work = [max(1, size) for size in sizes]
    loads = [
        sum(size for size, owner in zip(work, owners, strict=True) if owner == rank)
        for rank in range(ranks)
    ]
    assert max(loads) - min(loads) <= max(work)
    assert max(loads) <= sum(work) / ranks + max(work) * (1 - 1 / ranks)
    if len(sizes) >= ranks:
        assert set(owners) == set(range(ranks))


@given(sizes=SIZES, ranks=st.integers(1, 8), batch=st.integers(1, 12), seed=st.integers(0, 99))
def test_each_batch_is_dealt_by_itself(sizes, ranks, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sizes), generator=generator).tolist()
    batches = [order[i : i + batch] for i in range(0, len(order), batch)]
    owners = deal_epoch(batches, sizes, ranks)
    assert all(0 <= owner < ranks for owner in owners)
    for one in batches:
        assert [owners[scene] for scene in one] == deal_scenes([sizes[s] for s in one], ranks)
    assert deal_epoch(batches, sizes, 1) == [0] * len(sizes)


def test_two_large_scenes_go_to_two_processes():
    assert deal_scenes([10, 100, 90, 10], 2) == [1, 0, 1, 0]


def test_voxels_are_counted_below_zero_too():
    points = torch.tensor([[0.01, 0, 0], [0.09, 0, 0], [-0.01, 0, 0], [0.11, 0, 0]])
    assert count_voxels(points, 0.1) == 3
