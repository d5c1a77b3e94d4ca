"""Spearman's rank correlation, against the definition and against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pcdistill.evaluation import Agreement, rank_agreement, spearman
from tests.tolerances import FLOAT64


def of(first, second):
    return spearman(np.array(first, dtype=float), np.array(second, dtype=float))


def test_the_same_order_is_1_and_the_opposite_minus_1():
    assert of([0.1, 0.5, 0.9], [10, 11, 500]) == 1
    assert of([0.1, 0.5, 0.9], [3, 2, 1]) == -1
    assert of([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(1 - 6 * 4 / (4 * 15), abs=FLOAT64)


@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40))
def test_ties_have_the_mean_of_their_ranks_as_scipy_has_it(pairs):
    first, second = zip(*pairs, strict=True)
    found = of(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=FLOAT64)


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [2]), ([1, 1], [1, 2])])
def test_without_an_order_there_is_none(first, second):
    assert of(first, second) is None


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="second has 1 numbers, expected 2"):
        of([1, 2], [1])


def test_only_what_is_taught_and_known_is_compared_over_all_teachers_together():
    """Within each teacher the order is the opposite; together it is mostly right."""
    measured = torch.tensor([[0.1, 0.2, 0.9, 0.0], [0.6, 0.5, 0.0, 0.3]])
    true = torch.tensor([[0.2, 0.1, torch.nan, 0.9], [0.7, 0.8, 0.9, 0.8]])
    taught = torch.tensor([[True, True, True, False], [True, True, False, False]])
    found = rank_agreement(measured, true, taught)
    assert found.classes == 4
    assert found.spearman == of([0.1, 0.2, 0.6, 0.5], [0.2, 0.1, 0.7, 0.8])
    assert 0 < found.spearman < 1


def test_it_is_said_how_many_and_of_whom():
    assert Agreement(0.684, 27).sentence() == (
        "the rank correlation (Spearman) of measured capability with true IoU is 0.68 over "
        "27 taught classes of all teachers together"
    )
    guessed = Agreement(0.2, 9).sentence(["lseg"])
    assert "(of lseg, which does not say, those it finds at all)" in guessed
    assert "1 taught classes" in Agreement(None, 1).sentence()
    assert Agreement(None, 1).sentence().startswith("no rank correlation")
