"""Means over superpoints and their gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.geometry import superpoint_mean


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 30), superpoints=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_rows_are_the_means_of_their_members(count, superpoints, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((count, 3), generator=generator, dtype=torch.float64)
    ids = torch.randint(0, superpoints, (count,), generator=generator, dtype=torch.int32)
    means = superpoint_mean(values, ids, superpoints)
    for superpoint in range(superpoints):
        members = values[ids == superpoint]
        expected = members.mean(0) if len(members) else torch.zeros(3).double()
        torch.testing.assert_close(means[superpoint], expected)


def test_the_gradient_is_that_of_a_mean():
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 2, 2, 0, 2, 3])
    assert torch.autograd.gradcheck(lambda rows: superpoint_mean(rows, ids, 5), (values,))


def test_half_precision_is_summed_in_single():
    values = torch.full((5000, 1), 100.0, dtype=torch.float16)  # the sum is beyond any half
    means = superpoint_mean(values, torch.zeros(5000, dtype=torch.int64))
    assert means.dtype == torch.float16
    assert means.item() == 100


def test_the_number_of_rows_is_the_highest_id_or_as_told():
    values, ids = torch.ones(2, 4), torch.tensor([3, 1])
    assert superpoint_mean(values, ids).shape == (4, 4)
    assert superpoint_mean(values, ids, 9).shape == (9, 4)
    assert superpoint_mean(values[:0], ids[:0]).shape == (0, 4)


def test_bad_arguments_are_named():
    values = torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"superpoint_ids has shape \(3,\), expected \(2\)"):
        superpoint_mean(values, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="superpoint_ids range from 0 to 5, expected 0 to 3"):
        superpoint_mean(values, torch.tensor([0, 5]), 4)
    with pytest.raises(ValueError, match="superpoint_ids range from -1 to 0, expected 0"):
        superpoint_mean(values, torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="expected integers"):
        superpoint_mean(values, torch.tensor([0.0, 1.0]))
