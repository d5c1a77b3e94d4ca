"""Relevancy: sharp features do not win by being sharp, and the floor follows the text space."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from pcdistill.inference import meant_word, query_alternatives, relevancy, similarity_floor
from pcdistill.inference.relevancy import NeighborhoodMean

BED, DOOR, LAMP, OTHER = torch.eye(4)
FLOAT32 = 1e-6  # rounding of a softmax over a few float32 cosines


def unit(*values: float) -> torch.Tensor:
    return normalize(torch.tensor(values), dim=0)


def test_a_blurred_bed_is_a_better_place_to_sleep_than_a_sharp_door():
    """The text is nearest to bed; the door is all door, the bed a mixture."""
    query = unit(0.56, 0.38, 0.0, 0.0)
    bed, door = unit(0.5, 0.0, 0.7, 0.5), DOOR
    assert door @ query > bed @ query
    alternatives = query_alternatives(query[None], torch.stack([BED, DOOR, LAMP]), OTHER[None])
    fits = relevancy(torch.stack([bed, door]), query[None], alternatives)
    assert fits[0] > fits[1]


def test_the_word_nearest_to_the_text_is_no_alternative_to_it():
    words = torch.stack([BED, DOOR, LAMP])
    alternatives = query_alternatives(unit(0.2, 0.9, 0.1, 0.0)[None], words, OTHER[None])
    assert torch.equal(alternatives, torch.stack([BED, LAMP, OTHER]))


def test_it_is_the_share_of_a_softmax():
    """exp(1 / 0.5) against exp(0.6 / 0.5) and exp(0): by hand."""
    feature = unit(1.0, 0.0, 0.0, 0.0)
    found = relevancy(feature[None], BED[None], torch.stack([unit(0.6, 0.8, 0.0, 0.0), LAMP]), 0.5)
    expected = math.exp(2) / (math.exp(2) + math.exp(1.2) + 1)
    assert float(found) == pytest.approx(expected, abs=FLOAT32)


def test_a_piece_without_a_feature_is_not_relevant():
    found = relevancy(torch.stack([torch.zeros(4), BED]), BED[None], DOOR[None])
    assert found[0] == 0
    assert found[1] > 0.9


@given(seed=st.integers(0, 2**32 - 1), alternatives=st.integers(1, 6))
def test_the_order_of_alternatives_does_not_matter_and_shares_are_shares(seed, alternatives):
    generator = torch.Generator().manual_seed(seed)
    draws = normalize(torch.randn(8 + alternatives, 5, generator=generator), dim=1)
    features, query, others = draws[:7], draws[7:8], draws[8:]
    found = relevancy(features, query, others)
    torch.testing.assert_close(relevancy(features, query, others.flip(0)), found)
    assert bool(((found >= 0) & (found <= 1)).all())
    more = relevancy(features, query, torch.cat([others, features[:1]]))
    assert bool((more <= found + FLOAT32).all())  # one more alternative takes a share


def test_of_texts_that_mean_the_same_the_best_counts():
    """A second text that fits worse changes nothing; its own nearest word is no alternative."""
    words, feature = torch.stack([BED, DOOR, LAMP]), unit(0.8, 0.1, 0.5, 0.2)
    alone = query_alternatives(BED[None], words, OTHER[None])
    both = torch.stack([BED, unit(0.1, 0.0, 0.9, 0.0)])
    assert torch.equal(query_alternatives(both, words, OTHER[None]), torch.stack([DOOR, OTHER]))
    one = relevancy(feature[None], BED[None], alone)
    torch.testing.assert_close(relevancy(feature[None], both, alone), one)
    torch.testing.assert_close(relevancy(feature[None], both.flip(0), alone), one)


def test_what_is_not_meant_takes_its_share_even_from_the_word_it_is_nearest_to():
    """A bunk bed is nearest to bed, as the question is; asked without it, only beds remain."""
    words, bunk = torch.stack([BED, DOOR, LAMP]), unit(0.8, 0.0, 0.6, 0.0)
    with_bunks = query_alternatives(BED[None], words, OTHER[None])
    without = query_alternatives(BED[None], words, OTHER[None], bunk[None])
    assert torch.equal(without, torch.cat([with_bunks, bunk[None]]))
    pieces = torch.stack([BED, bunk])
    assert relevancy(pieces, BED[None], with_bunks)[1] > 0.5
    assert relevancy(pieces, BED[None], without)[1] < 0.5
    assert relevancy(pieces, BED[None], without)[0] > 0.5


def test_the_floor_is_a_quantile_of_what_features_do_not_mean():
    """Two features, three words: each feature's best word is left out, four cosines remain."""
    features = torch.stack([unit(1.0, 0.5, 0.2, 0.0), unit(0.1, 1.0, 0.3, 0.0)])
    words = torch.stack([BED, DOOR, LAMP])
    cosines = sorted(
        [*(features[0] @ words.T)[1:].tolist(), *(features[1] @ words.T)[[0, 2]].tolist()]
    )
    assert similarity_floor(features, words, 1.0) == pytest.approx(cosines[-1], abs=FLOAT32)
    assert similarity_floor(features, words, 0.0) == pytest.approx(cosines[0], abs=FLOAT32)
    with_unseen = torch.cat([features, torch.zeros(3, 4)])
    assert similarity_floor(with_unseen, words, 0.0) == similarity_floor(features, words, 0.0)


def test_without_features_every_answer_is_above_the_floor():
    assert similarity_floor(torch.zeros(2, 4), torch.stack([BED, DOOR])) == -1.0


def test_a_text_means_the_nearest_word_unless_words_are_as_near_to_each_other():
    """Bed and door have a cosine of 0.6; a text has to come nearer than that."""
    words = torch.stack([BED, unit(0.6, 0.8, 0.0, 0.0)])
    assert meant_word(unit(0.7, 0.0, 0.7, 0.1), words) == 0
    assert meant_word(unit(0.0, 0.9, 0.1, 0.1), words) == 1
    assert meant_word(unit(0.1, 0.1, 0.9, 0.4), words) is None
    assert meant_word(OTHER, BED[None]) == 0  # nothing to compare with


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0"):
        relevancy(BED[None], BED[None], DOOR[None], 0)
    with pytest.raises(ValueError, match="at least one query"):
        relevancy(BED[None], BED[:0, None].expand(0, 4), DOOR[None])


def chain(features: torch.Tensor, sizes: list[int], **how: float) -> NeighborhoodMean:
    """Pieces of which each is near the next."""
    first = torch.arange(len(features) - 1)
    return NeighborhoodMean(features, torch.tensor(sizes), first, first + 1, **how)


def test_pieces_hear_their_neighbors_by_size_and_likeness():
    """A round by hand: the smaller of two sizes, times exp((cosine - 1) / 0.5)."""
    features = torch.stack([BED, unit(0.6, 0.8, 0.0, 0.0), DOOR])
    found = chain(features, [10, 40, 30], temperature=0.5)(torch.tensor([0.9, 0.3, 0.1]), 1)
    left, right = 10 * math.exp(-0.4 / 0.5), 30 * math.exp(-0.2 / 0.5)
    expected = [
        (10 * 0.9 + left * 0.3) / (10 + left),
        (40 * 0.3 + left * 0.9 + right * 0.1) / (40 + left + right),
        (30 * 0.1 + right * 0.3) / (30 + right),
    ]
    assert found.tolist() == pytest.approx(expected, abs=FLOAT32)


def test_with_each_round_pieces_one_further_away_are_heard():
    means, given = chain(BED.expand(4, 4), [20] * 4), torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert [int((means(given, rounds) > 0).sum()) for rounds in (0, 1, 2, 3)] == [1, 2, 3, 4]
    assert torch.equal(means(given, 0), given)


def test_a_doubtful_piece_of_a_bed_becomes_bed_and_a_chance_hit_elsewhere_does_not_stay():
    """Five pieces of a bed, one of them badly seen; five of a wall, one that fits by chance."""
    bed, wall = unit(0.9, 0.3, 0.1, 0.0), unit(0.1, 0.2, 0.1, 0.9)
    features = torch.stack([bed] * 5 + [wall] * 5)
    given = torch.tensor([0.8, 0.8, 0.3, 0.8, 0.8, 0.05, 0.05, 0.6, 0.05, 0.05])
    found = chain(features, [100] * 10)(given)
    assert found[:5].min() > 0.6
    assert found[5:].max() < 0.3


def test_a_cup_on_a_table_keeps_what_it_has():
    """The table is larger, touches it on many sides, and looks different."""
    table, cup = unit(0.1, 1.0, 0.2, 0.0), unit(1.0, 0.1, 0.4, 0.1)
    features = torch.stack([cup] + [table] * 6)
    first, second = torch.zeros(6, dtype=torch.long), torch.arange(1, 7)
    means = NeighborhoodMean(features, torch.tensor([50] + [3000] * 6), first, second)
    found = means(torch.tensor([0.8] + [0.02] * 6))
    assert found[0] > 0.75
    assert found[1:].max() < 0.03


def test_without_a_feature_a_piece_neither_hears_nor_says():
    features = torch.stack([BED, torch.zeros(4), BED, torch.zeros(4)])
    given = torch.tensor([0.7, 0.0, 0.2, 0.0])
    assert torch.equal(chain(features, [10, 10, 10, 0])(given), given)


def test_many_pairs_are_compared_some_at_a_time(monkeypatch):
    features = normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(3)), dim=1)
    values = torch.rand(40, generator=torch.Generator().manual_seed(4))
    whole = chain(features, [20] * 40)(values)
    monkeypatch.setattr(sys.modules[NeighborhoodMean.__module__], "_PAIRS", 7)
    assert torch.equal(chain(features, [20] * 40)(values), whole)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12), pairs=st.integers(0, 30))
def test_means_lie_between_and_do_not_depend_on_the_order(seed, count, pairs):
    generator = torch.Generator().manual_seed(seed)
    features = normalize(torch.randn(count, 5, generator=generator), dim=1)
    sizes = torch.randint(0, 50, (count,), generator=generator)
    near = torch.randint(0, count, (2, pairs), generator=generator)
    near = near[:, near[0] != near[1]]
    values = torch.rand(count, generator=generator)
    found = NeighborhoodMean(features, sizes, near[0], near[1])(values)
    assert float(found.min()) >= float(values.min()) - FLOAT32
    assert float(found.max()) <= float(values.max()) + FLOAT32
    order = torch.randperm(count, generator=generator)
    rank = order.argsort()
    moved = NeighborhoodMean(features[order], sizes[order], rank[near[1]], rank[near[0]])
    torch.testing.assert_close(moved(values[order]), found[order])
    same = NeighborhoodMean(features, sizes, near[0], near[1])(torch.full((count,), 0.4))
    torch.testing.assert_close(same, torch.full((count,), 0.4))
