"""Capability-guided fusion: the release's numbers, Eq. 6-8 by hand, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.fusion import average_features, fuse_features, fusion_weights, predict_labels
from pcdistill.fusion.weights import unique_columns
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32_SUMS, FLOAT64_EXACT


def random_case(seed: int, teachers: int, points: int, classes: int = 5, dimensions: int = 3):
    """Features, labels, capability and seen of random teachers; unseen rows hold NaN."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(teachers, points, dimensions, generator=generator)
    labels = torch.randint(classes, (teachers, points), generator=generator)
    capability = torch.rand(teachers, classes, generator=generator, dtype=torch.float64)
    seen = torch.rand(teachers, points, generator=generator) < 0.7
    features[~seen] = torch.nan
    labels[~seen] = 255
    return features, labels, capability, seen


def fuse_by_hand(features, labels, capability, temperature, seen):
    """Eq. 7-8 point by point in float64, with nothing shared with the library."""
    teachers, points, dimensions = features.shape
    fused = np.zeros((points, dimensions))
    for n in range(points):
        who = [t for t in range(teachers) if seen[t, n]]
        if not who:
            continue
        p = [np.mean([capability[t, labels[s, n]] for s in who]) for t in who]
        weight = np.exp((np.array(p) - max(p)) / temperature)
        weight /= weight.sum()
        fused[n] = sum(w * features[t, n].astype(np.float64) for w, t in zip(weight, who, strict=1))
    return fused


@pytest.mark.parametrize("file", golden_cases("fusion/fusion_*.npz"))
def test_the_releases_weights_and_features(file):
    case = load_npz(file)
    labels = torch.from_numpy(np.stack([case["lseg_class"], case["seem_class"]])).long()
    capability = torch.from_numpy(np.stack([case["lseg_capability"], case["seem_capability"]]))
    features = torch.from_numpy(np.stack([case["lseg_feat"], case["seem_feat"]]))
    ignored = np.unique(case["lseg_class"][~case["fused_mask"]])
    assert len(ignored) <= 1
    options = {"mode": "release", "ignored_class": int(ignored[0]) if len(ignored) else None}

    weights = fusion_weights(labels, capability, 0.05, **options).numpy().T
    fused_mask = case["fused_mask"]
    np.testing.assert_allclose(
        weights[fused_mask], case["weights"][fused_mask], atol=FLOAT32_SUMS, rtol=0
    )
    assert (weights[~fused_mask] == [1, 0]).all()

    fused = fuse_features(features, labels, capability, 0.05, **options).numpy()
    expected = case["fused_feat"]
    assert fused.dtype == expected.dtype
    step = np.abs(np.spacing(expected)) if expected.dtype == np.float16 else 1e-5
    off = np.abs(fused.astype(np.float64) - expected.astype(np.float64))
    assert (off <= step).all(), off.max()


@pytest.mark.parametrize("file", golden_cases("fusion/fusion_*.npz"))
def test_the_papers_weights(file):
    case = load_npz(file)
    labels = torch.from_numpy(np.stack([case["lseg_class"], case["seem_class"]])).long()
    capability = torch.from_numpy(np.stack([case["lseg_capability"], case["seem_capability"]]))
    weights = fusion_weights(labels, capability, 0.05)
    compared = np.isfinite(case["weight_lseg_paper_eq7_8"])
    np.testing.assert_allclose(
        weights[0].numpy()[compared], case["weight_lseg_paper_eq7_8"][compared], atol=FLOAT64_EXACT
    )


@pytest.mark.parametrize("file", golden_cases("fusion/fusion_*.npz"))
@pytest.mark.parametrize("half_similarity", [False, True])
def test_the_releases_classes(file, half_similarity):
    words = file.with_name("text_embeddings.npz")
    if not words.exists():
        pytest.skip(f"no {words.name} beside {file.name}")
    case, vocabulary = load_npz(file), torch.from_numpy(load_npz(words)["vocabulary"])
    if half_similarity and case["lseg_feat"].dtype != np.float16:
        pytest.skip("this fixture was made in float32")
    for teacher in ("lseg", "seem"):
        features = torch.from_numpy(case[f"{teacher}_feat"])
        labels = predict_labels(features, vocabulary, half_similarity=half_similarity)
        np.testing.assert_array_equal(labels.numpy(), case[f"{teacher}_class"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(0, 40), st.floats(0.01, 2))
def test_equations_7_and_8_point_by_point(seed, teachers, points, temperature):
    features, labels, capability, seen = random_case(seed, teachers, points)
    fused = fuse_features(features, labels, capability, temperature, seen=seen)
    expected = fuse_by_hand(
        features.numpy(), labels.numpy(), capability.numpy(), temperature, seen.numpy()
    )
    np.testing.assert_allclose(fused.numpy(), expected, atol=FLOAT32_SUMS)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(0, 40))
def test_the_order_of_the_teachers_does_not_matter(seed, teachers, points):
    features, labels, capability, seen = random_case(seed, teachers, points)
    order = torch.randperm(teachers, generator=torch.Generator().manual_seed(seed))
    there = fuse_features(features, labels, capability, seen=seen)
    back = fuse_features(features[order], labels[order], capability[order], seen=seen[order])
    torch.testing.assert_close(there, back)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_one_teacher_returns_its_own_features(seed, dtype):
    features, labels, capability, _ = random_case(seed, 1, 30)
    features = features.nan_to_num(0).to(dtype)
    labels = labels.clamp(max=4)
    for mode in ("paper", "release"):
        assert torch.equal(fuse_features(features, labels, capability, mode=mode), features[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(0, 1))
def test_equal_capability_is_the_average(seed, teachers, value):
    features, labels, capability, seen = random_case(seed, teachers, 30)
    for mode in ("paper", "release"):
        fused = fuse_features(
            features, labels, torch.full_like(capability, value), seen=seen, mode=mode
        )
        torch.testing.assert_close(fused, average_features(features, seen))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["paper", "release"]))
def test_more_capability_never_weighs_less(seed, mode):
    _, labels, capability, seen = random_case(seed, 3, 40)
    better = capability.clone()
    better[1] = (better[1] + 0.2).clamp(max=1)
    before = fusion_weights(labels, capability, 0.05, seen, mode=mode)[1]
    after = fusion_weights(labels, better, 0.05, seen, mode=mode)[1]
    assert (after >= before - 1e-12).all()
    rivals = seen[1] & (seen.sum(dim=0) > 1)
    contested = rivals & (before > 1e-6) & (before < 1 - 1e-6)
    assert (after > before)[contested].all()


def test_temperature_limits():
    labels = torch.tensor([[0, 0], [1, 1]])
    capability = torch.tensor([[0.9, 0.3], [0.2, 0.5]])
    cold = fusion_weights(labels, capability, 1e-4)
    torch.testing.assert_close(cold, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    hot = fusion_weights(labels, capability, 1e6)
    torch.testing.assert_close(hot, torch.full((2, 2), 0.5))


def test_two_teachers_with_numbers_on_paper():
    # Point: teacher 0 says class 0, teacher 1 says class 1. P_0 = (0.8 + 0.4) / 2 = 0.6,
    # P_1 = (0.5 + 0.6) / 2 = 0.55; the weights are 1 / (1 + exp(-+ 0.05 / 0.05)).
    labels = torch.tensor([[0], [1]])
    capability = torch.tensor([[0.8, 0.4], [0.5, 0.6]], dtype=torch.float64)
    weights = fusion_weights(labels, capability, 0.05)
    assert weights[0, 0].item() == pytest.approx(1 / (1 + np.exp(-1)), abs=FLOAT64_EXACT)
    release = fusion_weights(labels, capability, 0.05, mode="release")
    expected = 1 / (1 + np.exp(-(1.2 - 1.1) / 2.3 / 0.05))
    assert release[0, 0].item() == pytest.approx(expected, abs=FLOAT64_EXACT)


def test_an_ignored_class_has_no_vote():
    labels = torch.tensor([[2, 2, 0], [0, 2, 1]])
    capability = torch.tensor([[0.8, 0.4, 0.0], [0.5, 0.6, 0.0]], dtype=torch.float64)
    weights = fusion_weights(labels, capability, 0.1, ignored_class=2)
    only_class_0 = torch.softmax(torch.tensor([0.8, 0.5], dtype=torch.float64) / 0.1, 0)
    torch.testing.assert_close(weights[:, 0], only_class_0)
    torch.testing.assert_close(weights[:, 1], torch.full((2,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(weights[:, 2], fusion_weights(labels, capability, 0.1)[:, 2])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 4))
def test_a_class_without_a_score_is_as_if_ignored(seed, teachers, unknown):
    _, labels, capability, seen = random_case(seed, teachers, 40)
    labels = labels.clamp(min=0, max=4)
    without = capability.clone()
    without[:, unknown] = torch.nan
    expected = fusion_weights(labels, capability, seen=seen, ignored_class=unknown)
    assert torch.equal(fusion_weights(labels, without, seen=seen), expected)
    nothing = torch.where(without.isnan(), 0, without)
    released = fusion_weights(labels, without, seen=seen, mode="release")
    assert torch.equal(released, fusion_weights(labels, nothing, seen=seen, mode="release"))


def test_a_point_nobody_saw_is_zero_and_nan_there_does_not_leak():
    features = torch.full((2, 3, 4), torch.nan)
    features[0, 1] = 1
    features[:, 2] = 2
    seen = torch.tensor([[False, True, True], [False, False, True]])
    labels = torch.tensor([[-1, 0, 0], [-1, 99, 0]])
    fused = fuse_features(features, labels, torch.rand(2, 3), seen=seen)
    assert fused.tolist() == [[0] * 4, [1] * 4, [2] * 4]
    assert average_features(features, seen).tolist() == fused.tolist()


def test_a_list_of_tensors_and_many_chunks_are_the_same(monkeypatch):
    features, labels, capability, seen = random_case(3, 3, 50)
    whole = fuse_features(features, labels, capability, seen=seen)
    monkeypatch.setattr("pcdistill.fusion.classify._CHUNK_ELEMENTS", 20)
    parts = fuse_features(list(features), labels, capability, seen=seen)
    assert torch.equal(whole, parts)


def test_inputs_stay_as_they_were():
    features, labels, capability, seen = random_case(4, 2, 20)
    copies = [tensor.clone() for tensor in (features, labels, capability, seen)]
    fuse_features(features, labels, capability, seen=seen, mode="release", ignored_class=0)
    for before, after in zip(copies, (features, labels, capability, seen), strict=True):
        assert torch.equal(before.nan_to_num(7), after.nan_to_num(7))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 60), st.integers(1, 4))
def test_distinct_columns_rebuild_the_labels(seed, teachers, points, base):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(base, (teachers, points), generator=generator)
    tuples, tuple_of_point = unique_columns(labels, base)
    assert torch.equal(tuples[:, tuple_of_point], labels)
    assert tuples.shape[1] == len({tuple(column) for column in labels.T.tolist()}) or points == 0


def test_many_teachers_of_many_classes_do_not_overflow():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(150, (20, 500), generator=generator)
    capability = torch.rand(20, 150, generator=generator, dtype=torch.float64)
    weights = fusion_weights(labels, capability, 0.05)
    votes = capability[:, labels].mean(dim=1)
    torch.testing.assert_close(weights, torch.softmax(votes / 0.05, dim=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(2, 4)}, r"features has shape \(2, 4\)"),
        ({"features": torch.zeros(0, 4, 3)}, "features holds no teacher"),
        (
            {"features": [torch.zeros(4, 3), torch.zeros(5, 3)]},
            r"features\[1\] has shape \(5, 3\) but features\[0\] has \(4, 3\)",
        ),
        ({"features": torch.zeros(2, 4, 3, dtype=torch.int64)}, "expected floating point"),
        ({"features": torch.full((2, 4, 3), torch.inf)}, r"features\[0\] is not finite at point 0"),
        ({"predicted_labels": torch.zeros(2, 5).long()}, r"predicted_labels has shape \(2, 5\)"),
        ({"predicted_labels": torch.zeros(2, 4)}, "torch.float32, expected integers"),
        ({"predicted_labels": torch.full((2, 4), 6)}, "range from 6 to 6, expected 0 to 5"),
        ({"predicted_labels": torch.full((2, 4), -1)}, "range from -1 to -1, expected 0 to 5"),
        ({"capability": torch.zeros(3, 6)}, r"capability has shape \(3, 6\)"),
        ({"capability": torch.zeros(2, 0)}, "capability has no classes"),
        ({"capability": torch.full((2, 6), 1.5)}, "from 1.5 to 1.5, expected"),
        ({"capability": torch.full((2, 6), -0.1)}, "from -0.1 to -0.1, expected"),
        (
            {"capability": torch.tensor([[0.5] * 6, [0.5] * 5 + [torch.nan]])},
            "capability has NaN for some teachers of a class, expected all or none",
        ),
        ({"capability": torch.full((2, 6), torch.inf)}, "expected intersections over unions"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a number > 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"mode": "published"}, "mode is 'published', expected 'paper' or 'release'"),
        ({"ignored_class": 6}, "ignored_class is 6, expected 0 to 5"),
        ({"seen": torch.ones(2, 4)}, "seen is torch.float32, expected bool"),
        ({"seen": torch.ones(4, 2).bool()}, r"seen has shape \(4, 2\)"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {
        "features": torch.zeros(2, 4, 3),
        "predicted_labels": torch.zeros(2, 4).long(),
        "capability": torch.full((2, 6), 0.5),
    }
    with pytest.raises(ValueError, match=message):
        fuse_features(**(arguments | change))


def test_a_label_just_outside_is_refused_on_seen_points_only():
    features, capability = torch.zeros(1, 2, 3), torch.full((1, 6), 0.5)
    labels, seen = torch.tensor([[0, 6]]), torch.tensor([[True, False]])
    fuse_features(features, labels, capability, seen=seen)
    with pytest.raises(ValueError, match="range from 6 to 6"):
        fuse_features(features, labels, capability, seen=~seen)
