"""What a sparse tensor accepts, how it keeps its rows, and what it shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.sparse import CoordinateManager, SparseConv3d, SparseConvTranspose3d, SparseTensor
from pcdistill.sparse.kernel_map import kernel_offsets
from tests.sparse.test_convolution import random_voxels


def pairs_by_offset(kernel_map):
    """(source, target) rows of each offset."""
    sides = (side.split(kernel_map.counts) for side in kernel_map.pairs())
    return list(zip(*sides, strict=True))


def test_rows_come_back_in_the_callers_order():
    coords = random_voxels(200, seed=1)
    features = torch.randn(200, 3)
    x = SparseTensor(features, coords)
    assert torch.equal(x.features, features)
    assert torch.equal(x.coords, coords)
    assert len(x) == 200
    assert x.channels == 3
    assert torch.equal(x.with_features(2 * features).features, 2 * features)
    keys = [tuple(row) for row in x.maps.level(1).coords.tolist()]
    assert keys == sorted(keys)


def test_int64_coordinates_are_accepted():
    coords = random_voxels(50, seed=2)
    x = SparseTensor(torch.ones(50, 1), coords.long())
    assert torch.equal(x.coords, coords)
    assert x.coords.dtype == torch.int32


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 2**31 - 1),
    far=st.sampled_from([0, 2**17, -(2**17) - 5, 10**6, -(10**6)]),
    steps=st.tuples(*3 * [st.integers(-3, 3)]),
)
def test_pairs_are_the_voxels_one_offset_apart(count, seed, far, steps):
    shift = torch.tensor([0, far, -far, far // 2], dtype=torch.int32)
    coords = random_voxels(count, seed) + shift
    maps = CoordinateManager(coords)
    for size, dilation in ((3, 1), (2, 1), (3, 2)):
        pairs = maps.kernel_map(1, 1, size, dilation)
        cells = maps.level(1).coords.tolist()
        row = {tuple(cell): i for i, cell in enumerate(cells)}
        wanted = {
            (k, row[b, x + dx, y + dy, z + dz], target)
            for target, (b, x, y, z) in enumerate(cells)
            for k, (dx, dy, dz) in enumerate(kernel_offsets(size, dilation))
            if (b, x + dx, y + dy, z + dz) in row
        }
        found = {
            (k, s, t)
            for k, (source, target) in enumerate(pairs_by_offset(pairs))
            for s, t in zip(source.tolist(), target.tolist(), strict=True)
        }
        assert found == wanted
        assert sum(pairs.counts) == len(wanted)


@pytest.mark.parametrize("ends", [(-(2**17) - 9, 2**17 + 9), (-(10**5), 10**6)])
def test_voxels_far_apart_work(ends):
    corners = [[b, x, y, z] for b in (0, 1) for x in ends for y in ends for z in ends]
    coords = torch.tensor([*corners, [1, ends[1], ends[1], ends[1] - 1]], dtype=torch.int32)
    layer = SparseConv3d(1, 1, 3)
    with torch.no_grad():
        layer.kernel.fill_(1)
    out = layer(SparseTensor(torch.ones(len(coords), 1), coords)).features[:, 0]
    assert out.tolist() == [1.0] * (len(coords) - 2) + [2.0, 2.0]


def test_voxels_that_cannot_be_told_apart_are_refused():
    far = 2**30 - 1
    coords = torch.tensor([[0, -far, -far, -far], [0, far, far, far]], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"more cells than .*use larger voxels or split the batch"):
        SparseTensor(torch.ones(2, 1), coords)
    coords = torch.tensor([[0, 2**40, 0, 0], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"beyond the limit of \+-1073741824"):
        SparseTensor(torch.ones(2, 1), coords)


@pytest.mark.parametrize(
    ("features", "coords", "stride", "message"),
    [
        (torch.ones(2, 1), [[0, 1, 2, 3], [0, 1, 2, 3]], 1, "1 repeated rows of 2.*voxelize"),
        (torch.ones(3, 1), [[0, 1, 2, 3]], 1, r"coords has shape \(1, 4\), expected \(3, 4\)"),
        (torch.ones(1, 1), [[1, 2, 3]], 1, r"coords has shape \(1, 3\), expected \(1, 4\)"),
        (torch.ones(1), [[0, 1, 2, 3]], 1, r"features has shape \(1,\)"),
        (torch.ones(1, 1).int(), [[0, 1, 2, 3]], 1, "features has dtype torch.int32"),
        (torch.ones(1, 1), [[0.0, 1.5, 2.0, 3.0]], 1, "coords has dtype torch.float32"),
        (torch.ones(1, 1), [[-1, 1, 2, 3]], 1, "negative batch index -1"),
        (torch.ones(1, 1), [[0, 1, 2, 4]], 2, "not multiples of stride 2"),
        (torch.ones(1, 1), [[0, 1, 2, 4]], 0, "stride is 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(features, coords, stride, message):
    with pytest.raises(ValueError, match=message):
        SparseTensor(features, torch.tensor(coords), stride=stride)


def test_layers_share_kernel_maps():
    coords = random_voxels(300, seed=3)
    x = SparseTensor(torch.ones(300, 2), coords)
    down, up = SparseConv3d(2, 2, 2, stride=2), SparseConvTranspose3d(2, 2)
    first, second = SparseConv3d(2, 2, 3), SparseConv3d(2, 2, 3)
    up(down(second(first(x))))
    assert set(x.maps._kernel_maps) == {(1, 1, 3, 1), (1, 2, 2, 1)}
    again = SparseTensor(torch.zeros(300, 2), coords.clone(), maps=x.maps)
    made = dict(x.maps._kernel_maps)
    up(down(first(again)))
    assert again.maps._kernel_maps == made  # nothing was made anew


def test_maps_serve_the_same_voxels_in_another_order():
    coords = random_voxels(300, seed=4)
    features = torch.randn(300, 2)
    order = torch.randperm(300)
    layer = SparseConv3d(2, 3, 3)
    x = SparseTensor(features, coords)
    out = layer(x)
    other = SparseTensor(features[order], coords[order], maps=x.maps)
    assert torch.equal(layer(other).features, out.features[order])
    assert torch.equal(layer(other).coords, coords[order])


def test_maps_of_other_voxels_are_refused():
    x = SparseTensor(torch.ones(60, 1), random_voxels(60, seed=5))
    with pytest.raises(ValueError, match="are not the 60 voxels of stride 1 that `maps` was made"):
        SparseTensor(torch.ones(60, 1), random_voxels(60, seed=6), maps=x.maps)


def test_symmetric_maps_mirror():
    coords = random_voxels(300, seed=7)
    pairs = CoordinateManager(coords).kernel_map(1, 1, 3)
    assert pairs.symmetric
    by_offset = pairs_by_offset(pairs)
    for (source, target), (mirror_source, mirror_target) in zip(
        by_offset, by_offset[::-1], strict=True
    ):
        assert torch.equal(source, mirror_target)
        assert torch.equal(target, mirror_source)
        assert bool((target[1:] > target[:-1]).all())
        assert bool((source[1:] > source[:-1]).all())


def test_strides_compose():
    coords = random_voxels(400, seed=8, spread=9)
    direct, stepwise = CoordinateManager(coords), CoordinateManager(coords)
    stepwise.level(2), stepwise.level(4)
    assert torch.equal(direct.level(8).coords, stepwise.level(8).coords)


@pytest.mark.parametrize("stride", [1, 2])
def test_no_voxels(stride):
    x = SparseTensor(torch.ones(0, 2, requires_grad=True), torch.zeros(0, 4, dtype=torch.int32))
    out = SparseConv3d(2, 5, 3, stride, bias=True)(x)
    assert out.features.shape == (0, 5)
    assert out.coords.shape == (0, 4)
    out.features.sum().backward()


def test_an_empty_batch_entry_is_no_hindrance():
    coords = random_voxels(80, seed=9)
    coords[:, 0] *= 5  # entries 1 to 4 have no voxels
    layer = SparseConv3d(1, 2, 3)
    x = SparseTensor(torch.ones(80, 1), coords)
    close = coords.clone()
    close[:, 0] = close[:, 0].clamp(max=1)
    assert torch.equal(layer(x).features, layer(SparseTensor(torch.ones(80, 1), close)).features)


def test_maps_made_in_inference_mode_serve_training():
    coords = random_voxels(300, seed=10)
    layers = torch.nn.Sequential(
        SparseConv3d(2, 2, 3), SparseConv3d(2, 2, 2, stride=2), SparseConvTranspose3d(2, 2)
    )
    with torch.inference_mode():
        x = SparseTensor(torch.ones(300, 2), coords)
        before = layers(x).features.clone()
    out = layers(SparseTensor(torch.ones(300, 2), coords, maps=x.maps)).features
    out.sum().backward()
    assert torch.equal(out.detach(), before)
    assert all(parameter.grad is not None for parameter in layers.parameters())


def test_coordinates_changed_afterwards_do_not_pass_for_the_old_ones():
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 5, 0, 0]], dtype=torch.int32)
    x = SparseTensor(torch.ones(3, 1), coords)
    coords[2, 1] = 9
    with pytest.raises(ValueError, match="leave `maps` out"):
        SparseTensor(torch.ones(3, 1), coords, maps=x.maps)
