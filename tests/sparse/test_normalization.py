"""Batch norm of few voxels: a single one, and none."""

from __future__ import annotations

import torch

from pcdistill.sparse import SparseBatchNorm, SparseTensor


def voxels(count: int) -> SparseTensor:
    coords = torch.zeros(count, 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(count)
    return SparseTensor(torch.arange(3.0 * count).view(count, 3), coords)


def test_a_single_voxel_is_normalised_by_what_was_seen_before():
    norm = SparseBatchNorm(3).train()
    norm(voxels(5))
    mean, variance = norm.bn.running_mean.clone(), norm.bn.running_var.clone()
    alone = voxels(1)
    found = norm(alone).features
    expected = (alone.features - mean) / (variance + norm.bn.eps).sqrt()
    torch.testing.assert_close(found, expected)
    assert torch.equal(norm.bn.running_mean, mean)
    torch.testing.assert_close(norm.eval()(alone).features, expected)


def test_no_voxel_changes_nothing():
    norm = SparseBatchNorm(3).train()
    assert len(norm(voxels(0))) == 0
    assert torch.equal(norm.bn.running_mean, torch.zeros(3))
