"""The search for neighbours: by walking, as on the CPU, and by looking up, as elsewhere."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.sparse import neighbor_search
from pcdistill.sparse.neighbor_search import binary_search_neighbors, merge_scan_neighbors


@settings(max_examples=60, deadline=None)
@given(
    sources=st.integers(0, 120),
    targets=st.integers(0, 120),
    cells=st.integers(120, 900),
    size=st.sampled_from([1, 2, 3, 5]),
    dilation=st.sampled_from([1, 2, 3]),
    fraction=st.sampled_from([5, 1 << 20]),
    seed=st.integers(0, 2**31 - 1),
)
def test_both_find_what_is_there(sources, targets, cells, size, dilation, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randperm(cells, generator=generator)[:sources].sort().values
    wanted = torch.randperm(cells, generator=generator)[:targets].sort().values
    row, column = torch.arange(size)[:, None] - size // 2, torch.arange(size**2)[None]
    deltas = dilation * row + 7 * (column - size)
    place = {key: i for i, key in enumerate(keys.tolist())}
    by_hand = [
        [place.get(key + delta, sources) for key in wanted.tolist()]
        for delta in deltas.flatten().tolist()
    ]
    expected = torch.tensor(by_hand, dtype=torch.int32).view(size**3, targets)
    with mock.patch.object(neighbor_search, "MIN_VOXELS_PER_WORKER", fraction):
        walked = merge_scan_neighbors(keys, wanted, deltas, dilation)
    assert torch.equal(walked, expected)
    assert torch.equal(binary_search_neighbors(keys, wanted, deltas, dilation), expected)


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    keys = torch.randperm(100_000)[:30_000].sort().values
    deltas = torch.tensor([[-101, -1, 99], [-100, 0, 100], [-99, 1, 101]])
    walked = merge_scan_neighbors(keys, keys, deltas, 1)
    assert torch.equal(binary_search_neighbors(keys.cuda(), keys.cuda(), deltas, 1).cpu(), walked)
