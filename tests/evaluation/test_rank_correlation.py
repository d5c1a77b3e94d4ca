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


def test_the_interval_holds_the_correlation_and_narrows_with_more_pairs():
    rng = np.random.default_rng(2)

    def agreement(pairs):
        first = rng.random(pairs)
        second = first + 0.3 * rng.standard_normal(pairs)
        tables = torch.tensor(first)[None], torch.tensor(second)[None]
        return rank_agreement(*tables, torch.ones(1, pairs, dtype=torch.bool))

    widths = []
    for pairs in (10, 40, 160):
        found = agreement(pairs)
        low, high = found.interval
        assert -1 <= low < found.spearman < high <= 1
        widths.append(high - low)
        assert f"{found.spearman:.2f} [{low:.2f}, {high:.2f}] over {pairs}" in found.sentence()
    assert widths[0] > widths[1] > widths[2]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Of 60 samples of 30 pairs; 95 % of 60 is 57, and fewer than 50 has a chance below 1 in 1000.

    (A bootstrap of ranks is known to be somewhat narrow with few pairs.)
    """
    rng, slope = np.random.default_rng(3), 1.0
    large = rng.standard_normal((2, 200_000))
    truth = stats.spearmanr(large[0], slope * large[0] + large[1]).statistic
    held = 0
    for _ in range(60):
        first, noise = rng.standard_normal((2, 30))
        tables = torch.tensor(first)[None], torch.tensor(slope * first + noise)[None]
        low, high = rank_agreement(*tables, torch.ones(1, 30, dtype=torch.bool)).interval
        held += low <= truth <= high
    assert held >= 50


def test_few_pairs_have_no_interval():
    three = torch.tensor([[0.1, 0.2, 0.3]])
    assert rank_agreement(three, three, torch.ones(1, 3, dtype=torch.bool)).interval is None
