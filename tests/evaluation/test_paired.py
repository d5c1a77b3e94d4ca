"""Paired bootstrap intervals: what has to hold of any, and a case drawn by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.evaluation import ConfusionMatrix, PairedDifference, paired_difference
from pcdistill.evaluation.scene_bootstrap import DRAWS

DIGITS = ["0x1.81fb97c5fd6e1p+4", "0x1.4b4eae2a4eb45p+4", "0x1.c898121ec9253p+4"]
"""Difference, low and high of the counts below; the same with and without AVX-512."""


def counts(seeds: int, scenes: int, classes: int, seed: int, right: float = 0.5) -> torch.Tensor:
    """(S, H, K + 1, K) of a method that is right so often; the truth depends on nothing else."""
    truth = np.random.default_rng(99).integers(20, 60, (seeds, scenes, classes))
    generator = np.random.default_rng(seed)
    found = np.zeros((seeds, scenes, classes + 1, classes), dtype=np.int64)
    for s, h, k in np.ndindex(*truth.shape):
        odds = np.full(classes + 1, (1 - right) / classes)
        odds[k] = right
        found[s, h, :, k] = generator.multinomial(truth[s, h, k], odds)
    return torch.from_numpy(found)


def miou(scenes: torch.Tensor, unseen="miss", mean_over="present") -> float:
    """Per cent, of (H, K + 1, K) by the class that stage evaluate measures with."""
    matrix = ConfusionMatrix(scenes.shape[-1])
    matrix.counts = scenes.sum(dim=0)
    return 100 * matrix.mean_iou(unseen, mean_over)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999), seeds=st.integers(1, 3), scenes=st.integers(2, 5))
def test_a_method_is_not_ahead_of_itself(seed, seeds, scenes):
    one = counts(seeds, scenes, 4, seed)
    found = paired_difference(one, one)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.verdict == "no difference"
    assert (found.scenes, found.seeds) == (seeds * scenes, seeds)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999), seeds=st.integers(1, 3))
def test_the_other_way_round_everything_changes_its_sign(seed, seeds):
    one, other = counts(seeds, 4, 3, seed), counts(seeds, 4, 3, seed + 1)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert there.difference == -back.difference
    assert (there.low, there.high) == (-back.high, -back.low)
    assert there.low <= there.difference <= there.high


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_large_advantage_everywhere_leaves_out_0(seeds):
    one, other = counts(seeds, 5, 4, 0, right=0.9), counts(seeds, 5, 4, 1, right=0.4)
    found = paired_difference(one, other)
    assert found.verdict == "ahead"
    assert 20 < found.low < found.difference < found.high
    assert paired_difference(other, one).verdict == "behind"


def test_chance_alone_is_no_difference():
    found = [
        paired_difference(counts(1, 6, 4, number), counts(1, 6, 4, number + 50)).verdict
        for number in range(20)
    ]
    assert found.count("no difference") >= 15  # 19 in the mean, were intervals of 6 scenes exact


@pytest.mark.parametrize("unseen", ["miss", "ignore", "openscene"])
@pytest.mark.parametrize("mean_over", ["all", "present"])
def test_the_difference_is_that_of_the_tables_numbers(unseen, mean_over):
    """The mean over the seeds of what stage evaluate measures, as the protocol says."""
    one, other = counts(3, 4, 5, 0), counts(3, 4, 5, 1)
    one[:, :, :, 2] = other[:, :, :, 2] = 0  # a class that no scene has
    one[1, :, 5, 3] = one[1, :, :, 3].sum(dim=1)  # one that a method says nothing about
    one[1, :, :5, 3] = 0
    how = {"unseen": unseen, "mean_over": mean_over}
    expected = np.mean([miou(a, **how) - miou(b, **how) for a, b in zip(one, other, strict=True)])
    assert paired_difference(one, other, **how).difference == pytest.approx(expected, abs=1e-9)


def test_two_scenes_have_the_interval_of_their_four_samples():
    """A quarter of the samples has the first scene twice, one the second, half of them both."""
    one, other = counts(1, 2, 3, 5, right=0.8), counts(1, 2, 3, 6)
    found = paired_difference(one, other)
    possible = [miou(one[0, list(p)]) - miou(other[0, list(p)]) for p in product((0, 1), repeat=2)]
    assert found.low == pytest.approx(min(possible), abs=1e-9)
    assert found.high == pytest.approx(max(possible), abs=1e-9)


def test_the_interval_is_that_of_samples_drawn_one_by_one():
    """Another generator, the same distribution: seeds first, then scenes of the seed drawn."""
    one, other = counts(3, 4, 4, 7, right=0.55), counts(3, 4, 4, 8)
    one[0] = counts(1, 4, 4, 9, right=0.9)[0]  # seeds differ more than scenes
    other[0] = counts(1, 4, 4, 10, right=0.5)[0]
    truth = counts(3, 4, 4, 7).sum(dim=2)
    assert torch.equal(truth[1:], one.sum(dim=2)[1:])
    one[0, :, -1] += truth[0] - one[0].sum(dim=1)
    other[0, :, -1] += truth[0] - other[0].sum(dim=1)
    drawn, generator = [], np.random.default_rng(1)
    for _ in range(4000):
        seeds = generator.integers(0, 3, 3)
        picked = [(s, generator.integers(0, 4, 4)) for s in seeds]
        drawn.append(np.mean([miou(one[s, h]) - miou(other[s, h]) for s, h in picked]))
    found = paired_difference(one, other)
    low, high = np.quantile(drawn, [0.025, 0.975])
    width = high - low
    assert found.low == pytest.approx(low, abs=0.08 * width)  # noise of percentiles
    assert found.high == pytest.approx(high, abs=0.08 * width)
    scenes_alone = paired_difference(one[:1], other[:1])
    assert scenes_alone.high - scenes_alone.low < 0.7 * width


def test_the_digits_are_the_same_everywhere():
    """Counts by arithmetic in whole numbers."""
    places = torch.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3)
    one = 3 + 7919 * places % 101 + 60 * torch.eye(3).long()
    other = one.roll(1, dims=2)  # the same truth, each word said for the next
    found = paired_difference(one, other)
    assert [x.hex() for x in (found.difference, found.low, found.high)] == DIGITS


def test_several_measurements_of_a_method_have_the_mean_of_their_numbers():
    """Not the number of their mean counts."""
    other = counts(1, 3, 4, 0)
    several = torch.stack([counts(1, 3, 4, n, right=0.2 * n) for n in range(1, 5)], dim=2)
    means = np.mean([miou(several[0, :, n]) for n in range(4)])
    expected = means - miou(other[0])
    assert paired_difference(several, other).difference == pytest.approx(expected, abs=1e-9)
    repeated = torch.stack([other] * 3, dim=2)
    assert paired_difference(repeated, other).difference == pytest.approx(0, abs=1e-9)


def test_scenes_without_a_true_point_do_not_count():
    one, other = counts(2, 4, 3, 0, right=0.7), counts(2, 4, 3, 1)
    more = [torch.cat([x, torch.zeros_like(x[:, :1])], dim=1) for x in (one, other)]
    assert paired_difference(*more) == paired_difference(one, other)


def test_seeds_may_have_different_numbers_of_scenes():
    one, other = counts(2, 4, 3, 0, right=0.7), counts(2, 4, 3, 1)
    one[1, 1:], other[1, 1:] = 0, 0
    found = paired_difference(one, other)
    assert (found.scenes, found.seeds) == (5, 2)
    expected = np.mean([miou(a) - miou(b) for a, b in zip(one, other, strict=True)])
    assert found.difference == pytest.approx(expected, abs=1e-9)


def test_a_single_scene_has_no_interval():
    found = paired_difference(counts(1, 1, 3, 0, right=0.9), counts(1, 1, 3, 1))
    assert (found.low, found.high, found.verdict) == (None, None, None)
    assert "[" not in str(found)


def test_classes_can_be_left_out():
    one, other = counts(1, 3, 3, 0), counts(1, 3, 3, 1)
    better = one.clone()
    better[..., 2, 2] += better[..., 3, 2]  # what had no answer is right now
    better[..., 3, 2] = 0
    without = paired_difference(better, other, excluded_classes=(2,))
    assert without == paired_difference(one, other, excluded_classes=(2,))
    assert paired_difference(better, other) != paired_difference(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_matrices_without_a_row_of_no_answer_are_understood(seed):
    one, other = counts(2, 3, 4, seed), counts(2, 3, 4, seed + 1)
    one[..., 4, :] = other[..., 4, :] = 0
    other[..., 0, :] += (one.sum(dim=-2) - other.sum(dim=-2)).clamp(min=0)
    one[..., 0, :] += (other.sum(dim=-2) - one.sum(dim=-2)).clamp(min=0)
    bare = paired_difference(one[..., :4, :], other[..., :4, :])
    assert bare == paired_difference(one, other)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (torch.zeros(3, 3), torch.zeros(3, 3), "first has shape"),
        (torch.zeros(1, 2, 5, 3), torch.zeros(1, 2, 3, 3), "first has shape"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 3, 3, 3), "expected the same"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 4, 4), "expected the same"),
        (torch.ones(1, 2, 4, 3), 2 * torch.ones(1, 2, 4, 3), "not measured on the same points"),
        (torch.zeros(1, 2, 4, 3), torch.zeros(1, 2, 4, 3), "no scene has a true point"),
        (-torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3), "not 0 or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(one, other, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(one, other)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "text"),
    [
        (1.0, 5.24, "ahead", "+3.3 [1.0, 5.2]"),
        (-0.4, 5.2, "no difference", "+3.3 [-0.4, 5.2]"),
        (0.0, 5.2, "no difference", "+3.3 [0.0, 5.2]"),
    ],
)
def test_it_is_said_with_its_interval(low, high, verdict, text):
    found = PairedDifference(3.3, low, high, 4, 1)
    assert (found.verdict, str(found)) == (verdict, text)


def test_there_are_enough_samples_for_their_percentiles():
    assert DRAWS >= 1000


def test_the_p_value_counts_exchanges_by_hand():
    """Of all 2^5 ways to exchange the two methods in some scenes."""
    one, other = counts(1, 5, 3, 0), counts(1, 5, 3, 1)
    found = paired_difference(one, other)
    as_large = 0
    for swaps in product((False, True), repeat=5):
        swap = torch.tensor(swaps)[:, None, None]
        first = torch.where(swap, other[0], one[0])
        second = torch.where(swap, one[0], other[0])
        as_large += abs(miou(first) - miou(second)) >= abs(found.difference) - 1e-9
    assert found.p_value == as_large / 32
    assert 0 < as_large < 32


def test_p_values_of_what_is_the_same_and_of_what_never_is():
    one, worse = counts(1, 6, 4, 0, right=0.9), counts(1, 6, 4, 1, right=0.3)
    assert paired_difference(one, one).p_value == 1
    assert paired_difference(one, worse).p_value == 2 / 64
    many, low = counts(1, 20, 4, 0, right=0.9), counts(1, 20, 4, 1, right=0.3)
    assert paired_difference(many, low).p_value == 1 / 4096  # drawn: only what was found
    assert paired_difference(many, low) == paired_difference(many, low)
    assert paired_difference(counts(2, 3, 4, 0), counts(2, 3, 4, 1)).p_value is None
    assert paired_difference(one[:, :1], worse[:, :1]).p_value is None


def test_scenes_may_be_averaged_one_by_one():
    """As protocol `per scene` does, with scenes of very different size."""
    one, other = counts(1, 4, 3, 0), counts(1, 4, 3, 1)
    one[:, 0] *= 100
    other[:, 0] *= 100
    found = paired_difference(one, other, average="per scene")
    alone = [miou(a[None]) - miou(b[None]) for a, b in zip(one[0], other[0], strict=True)]
    assert found.difference == pytest.approx(sum(alone) / 4)
    assert paired_difference(one, other).difference != pytest.approx(found.difference)
    assert min(alone) <= found.low <= found.difference <= found.high <= max(alone)
    as_large = sum(
        abs(sum(sign * value for sign, value in zip(signs, alone, strict=True)))
        >= abs(sum(alone)) - 1e-9
        for signs in product((-1, 1), repeat=4)
    )
    assert found.p_value == as_large / 16
