"""Tables that know less than was measured: what they keep of it, and what not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.capability import binary_capability, shuffled_capability

TABLE = torch.tensor([[0.0, 0.2, 0.9, 0.0], [0.4, 0.0, 0.3, 0.0]])


def random_table(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(3, 7, generator=generator)
    return torch.where(torch.rand(3, 7, generator=generator) < 0.4, 0.0, table)


def test_the_binary_table_says_who_finds_what_at_all():
    assert binary_capability(TABLE).tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
    assert binary_capability(TABLE.double()).dtype == torch.float64


@given(seed=st.integers(0, 2**20), draw=st.integers(0, 9))
def test_shuffling_keeps_zeros_and_strengths_of_the_whole_table(seed, draw):
    table = random_table(seed)
    before = table.clone()
    shuffled = shuffled_capability(table, seed, draw)
    assert torch.equal(shuffled == 0, table == 0)
    assert shuffled[shuffled > 0].sort().values.tolist() == table[table > 0].sort().values.tolist()
    assert torch.equal(shuffled, shuffled_capability(table, seed, draw))
    assert torch.equal(table, before)


def test_strengths_pass_from_teacher_to_teacher():
    """A permutation within each teacher's row would keep what is known of the teacher."""
    firsts = [shuffled_capability(TABLE, 0, draw)[0] for draw in range(20)]
    assert any(0.4 in [round(v, 6) for v in first.tolist()] for first in firsts)
    assert any(0.9 not in [round(v, 6) for v in first.tolist()] for first in firsts)


def test_draws_and_seeds_differ_and_are_numpys_own():
    table = random_table(4)
    tables = [shuffled_capability(table, seed, draw) for seed in (0, 1) for draw in (0, 1)]
    assert len({tuple(one.flatten().tolist()) for one in tables}) == 4
    one = torch.tensor([[0.4, 0.1, 0.3, 0.2, 0.5]])
    # numpy.random.default_rng((7, 2)).permutation(5)
    assert torch.equal(shuffled_capability(one, 7, 2), one[:, [0, 2, 1, 3, 4]])


def test_what_is_no_table_is_refused():
    for make in (binary_capability, lambda table: shuffled_capability(table, 0, 0)):
        with pytest.raises(ValueError, match="capability has shape"):
            make(torch.zeros(3))
