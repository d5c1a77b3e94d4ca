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


def test_features_that_are_no_longer_needed_are_overwritten():
    torch.manual_seed(0)
    norm = SparseBatchNorm(3).train()
    for _ in range(3):
        norm(voxels(9))
    torch.nn.init.normal_(norm.bn.weight)
    torch.nn.init.normal_(norm.bn.bias)
    norm.eval()
    x = voxels(7)
    expected, before = norm(x), x.sorted_features.clone()
    assert torch.equal(x.sorted_features, before)
    with torch.no_grad():
        found = norm(x, consume=True)
    torch.testing.assert_close(found.features, expected.features)
    assert found.sorted_features.data_ptr() == x.sorted_features.data_ptr()


def test_nothing_is_overwritten_where_gradients_are_wanted():
    for norm in (SparseBatchNorm(3).train(), SparseBatchNorm(3).eval()):
        x = voxels(7)
        before = x.sorted_features.clone()
        norm(x, consume=True)
        assert torch.equal(x.sorted_features, before)


def test_half_precision_is_normalised_in_full():
    norm = SparseBatchNorm(3).eval()
    norm.bn.running_mean.fill_(300.0)
    x = voxels(120).map(lambda features: features.bfloat16())
    with torch.no_grad():
        found = norm(x, consume=True)
    assert torch.equal(found.features, norm(x).features)
