"""Confidence: the share of a label's class in a softmax over all classes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pcdistill.inference import label_confidence
from pcdistill.scenes import load_label_set

SET = load_label_set("scannet20")


def random_points(seed, points=50, dimensions=8):
    chance = torch.Generator().manual_seed(seed)
    features = torch.randn(points, dimensions, generator=chance)
    words = functional.normalize(torch.randn(20, dimensions, generator=chance), dim=1)
    return features, words, (features @ words.T).argmax(dim=1)


@given(seed=st.integers(0, 2**31))
def test_the_most_similar_class_has_the_largest_share(seed):
    features, words, labels = random_points(seed)
    best = label_confidence(features, labels, words, SET)
    assert bool(((best >= 1 / 20 - 1e-6) & (best <= 1)).all())
    other = label_confidence(features, (labels + 1) % 20, words, SET)
    assert bool((other <= best).all())


def test_shares_follow_the_formula_whatever_the_length_of_a_feature():
    features, words, labels = random_points(3)
    found = label_confidence(7 * features, labels, words, SET)
    for point in range(len(features)):
        cosines = [float(features[point] @ word / features[point].norm()) for word in words]
        total = sum(math.exp(cosine / 0.1) for cosine in cosines)
        expected = math.exp(cosines[labels[point]] / 0.1) / total
        assert float(found[point]) == pytest.approx(expected, rel=1e-4)


def test_no_answer_has_no_confidence():
    features, words, labels = random_points(4)
    labels[::2] = -2
    found = label_confidence(features, labels, words, SET)
    assert found[::2].tolist() == [0] * 25
    assert bool((found[1::2] > 0).all())


def test_rows_beyond_one_chunk_are_scored_too():
    features, words, labels = random_points(5, points=20_000)
    found = label_confidence(features, labels, words, SET)
    assert torch.equal(found[-10:], label_confidence(features[-10:], labels[-10:], words, SET))


def test_a_class_is_as_similar_as_its_best_prompt():
    fine = load_label_set("nuscenes16")
    assert fine.mapping is not None
    prompts = len(fine.mapping)
    features = torch.eye(prompts)[[0]]
    label = fine.mapping[[0]]
    found = float(label_confidence(features, label, torch.eye(prompts), fine))
    assert found == pytest.approx(math.e**10 / (math.e**10 + len(fine.names) - 1), rel=1e-5)
