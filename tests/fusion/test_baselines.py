"""The two baselines of Table 3 and the nearest word."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.fusion import average_features, linear_features, predict_labels
from tests.tolerances import FLOAT32, FLOAT32_SUMS


def random_features(seed, teachers=3, points=25, dimensions=4, classes=6):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(teachers, points, dimensions, generator=generator)
    words = torch.randn(classes, dimensions, generator=generator)
    words = words / words.norm(dim=1, keepdim=True)
    seen = torch.rand(teachers, points, generator=generator) < 0.7
    return features, words, seen


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_average_is_the_mean_of_those_who_see(seed, teachers):
    features, _, seen = random_features(seed, teachers)
    features[~seen] = torch.nan
    average = average_features(features, seen).numpy()
    for point in range(features.shape[1]):
        values = features[seen[:, point], point].numpy().astype(np.float64)
        expected = values.mean(axis=0) if len(values) else np.zeros(4)
        np.testing.assert_allclose(average[point], expected, atol=FLOAT32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_linear_weighs_by_the_best_cosine(seed, teachers):
    features, words, seen = random_features(seed, teachers)
    features[~seen] = torch.nan
    fused = linear_features(features, words, seen).numpy()
    for point in range(features.shape[1]):
        values = features[seen[:, point], point].numpy().astype(np.float64)
        if not len(values):
            assert (fused[point] == 0).all()
            continue
        cosine = values @ words.numpy().T / np.linalg.norm(values, axis=1)[:, None]
        weight = np.maximum(cosine.max(axis=1), 0)
        weight = weight if weight.sum() > 0 else np.ones(len(values))
        expected = (weight[:, None] * values).sum(axis=0) / weight.sum()
        np.testing.assert_allclose(fused[point], expected, atol=FLOAT32_SUMS)


def test_linear_does_not_reward_longer_vectors():
    words = torch.eye(2)
    short = torch.tensor([[[0.1, 0.0]], [[0.0, 5.0]]])
    assert torch.allclose(linear_features(short, words), short.mean(dim=0))


def test_linear_with_nothing_similar_is_the_average():
    words = torch.eye(2)
    features = torch.tensor([[[-1.0, -2.0], [0.0, 0.0]], [[-3.0, -1.0], [1.0, 0.0]]])
    fused = linear_features(features, words)
    assert torch.allclose(fused[0], features[:, 0].mean(dim=0))
    assert torch.allclose(fused[1], features[1, 1])


def test_half_features_stay_half():
    features, words, _ = random_features(0)
    assert average_features(features.half()).dtype == torch.float16
    assert linear_features(features.half(), words).dtype == torch.float16


def test_the_first_of_equally_similar_words_wins_and_any_leading_shape_is_kept():
    words = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    features = torch.tensor([[[2.0, 1.0], [0.0, 0.0]], [[0.0, 3.0], [1.0, 1.0]]])
    assert predict_labels(features, words).tolist() == [[1, 0], [0, 0]]
    assert predict_labels(torch.zeros(0, 2), words).shape == (0,)
    assert predict_labels(features[0, 0], words).item() == 1


def test_half_similarity_turns_near_ties_into_ties():
    # 1.0 and 1.0002 are one half-precision number; the first then wins.
    words = torch.tensor([[1.0], [1.0002]])
    features = torch.ones(1, 1)
    assert predict_labels(features, words).item() == 1
    assert predict_labels(features, words, half_similarity=True).item() == 0


def test_scoring_in_chunks_changes_nothing(monkeypatch):
    features, words, _ = random_features(1, points=97)
    whole = predict_labels(features, words), linear_features(features, words)
    monkeypatch.setattr("pcdistill.fusion.classify._CHUNK_ELEMENTS", 30)
    parts = predict_labels(features, words), linear_features(features, words)
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1])
    assert torch.equal(whole[0], (features @ words.T).argmax(dim=-1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predict_labels(torch.zeros(3, 4), torch.zeros(2, 5)), r"shape \(2, 5\), expected"),
        (lambda: predict_labels(torch.zeros(3, 4), torch.zeros(0, 4)), "holds no words"),
        (lambda: predict_labels(torch.zeros(()), torch.zeros(2, 4)), "is a single number"),
        (lambda: linear_features(torch.zeros(2, 3, 4), torch.zeros(2, 5)), "text_embeddings has"),
        (lambda: average_features(torch.zeros(3, 4)), "features has shape"),
        (lambda: average_features([]), "holds no teacher"),
        (
            lambda: average_features(torch.zeros(2, 3, 4), torch.ones(3, 2).bool()),
            r"seen has shape \(3, 2\), expected \(2, 3\)",
        ),
        (
            lambda: average_features(torch.full((2, 3, 4), torch.nan)),
            r"features\[0\] is not finite at point 0",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
