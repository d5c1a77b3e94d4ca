"""Counts and ratios against the reference, against plain loops, and by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.evaluation import (
    ConfusionMatrix,
    mean_over_classes,
)
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from pcdistill.scenes import load_label_set
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT64_EXACT

RATIO = 1e-12  # stated tolerance of the fixtures


def cases_of(archive):
    """The named cases of one fixture, each as its own dictionary."""
    names = sorted({key.split("_")[0] for key in archive if key.endswith("_gt")})
    return {
        n: {k[len(n) + 1 :]: v for k, v in archive.items() if k.startswith(n + "_")} for n in names
    }


@pytest.mark.parametrize("file", golden_cases("metrics/*.npz"))
def test_counts_and_ratios_are_the_reference(file):
    cases = cases_of(load_npz(file))
    if not cases:
        pytest.skip(f"{file.name} holds mapped prompts, tested below")
    for name, case in cases.items():
        classes = len(case["class_iou"])
        predicted = torch.from_numpy(case["pred"])
        confusion = ConfusionMatrix(classes)
        confusion.update(predicted, torch.from_numpy(case["gt"]))
        assert np.array_equal(predicted.numpy(), case["pred"]), name  # ours changes no input
        assert np.array_equal(confusion.matrix, case["confusion"]), name
        present = case["tp"] >= 0
        assert int(present.sum()) == int(case["n_present"])
        assert np.array_equal(confusion.intersection()[present], case["tp"][present])
        assert np.array_equal(confusion.union()[present], case["denom"][present])
        np.testing.assert_allclose(confusion.iou(), case["class_iou"], atol=RATIO)
        np.testing.assert_allclose(confusion.accuracy(), case["class_acc"], atol=RATIO)
        assert confusion.mean_iou() == pytest.approx(float(case["mean_iou"]), abs=RATIO)
        assert mean_over_classes(confusion.accuracy(), "all") == pytest.approx(
            float(case["mean_acc"]), abs=RATIO
        )
        if "inter" not in case:
            continue
        assert np.array_equal(confusion.intersection(), case["inter"])
        assert np.array_equal(confusion.union(), case["union"])
        assert np.array_equal(confusion.target(), case["target"])
        # The meter of the training loop adds 1e-10 to denominators.
        meter = (case["inter"] / (confusion.union().numpy() + 1e-10)).mean()
        assert meter == pytest.approx(float(case["val_miou"]), abs=RATIO)
        assert confusion.overall_accuracy() == pytest.approx(
            float(case["val_allacc"]), abs=FLOAT64_EXACT
        )


@pytest.mark.parametrize("file", golden_cases("metrics/*details*.npz"))
def test_many_prompts_of_one_category_are_the_reference(file):
    case = load_npz(file)
    classes = load_label_set("nuscenes16")
    assert np.array_equal(classes.mapping, case["mapping"])
    prompts = torch.from_numpy(case["pred43_run1"]).long()
    predicted = classes.to_categories(prompts)
    assert np.array_equal(predicted, case["pred16_run1"])
    confusion = ConfusionMatrix(len(case["run1_class_iou"]))
    confusion.update(predicted, torch.from_numpy(case["gt16"]))
    assert np.array_equal(confusion.matrix, case["run1_confusion"])
    np.testing.assert_allclose(confusion.iou(), case["run1_class_iou"], atol=RATIO)
    np.testing.assert_allclose(confusion.accuracy(), case["run1_class_acc"], atol=RATIO)
    assert confusion.mean_iou() == pytest.approx(float(case["run1_mean_iou"]), abs=RATIO)
    runs = [torch.from_numpy(case[f"logits_run{run}"]) for run in (1, 2)]
    assert np.array_equal(runs[0].float().argmax(dim=1), case["pred43_run1"])
    added = sum(runs).float().argmax(dim=1)  # in half precision, as the reference adds them
    assert np.array_equal(classes.to_categories(added), case["pred16_accumulated"])
    ours = classes.to_categories((runs[0].float() + runs[1].float()).argmax(dim=1))
    assert float((ours == torch.from_numpy(case["pred16_accumulated"])).float().mean()) > 0.99


def random_labels(seed, points, classes):
    random = np.random.default_rng(seed)
    predicted = random.choice([*range(classes), NO_FEATURE_LABEL], points)
    labels = random.choice(
        [*range(max(1, classes - 1)), IGNORE_LABEL], points
    )  # the last one never occurs
    return predicted, labels


@given(seed=st.integers(0, 2**32 - 1), points=st.integers(0, 80), classes=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_ratios_follow_their_definition(seed, points, classes):
    predicted, labels = random_labels(seed, points, classes)
    confusion = ConfusionMatrix(classes)
    confusion.update(torch.from_numpy(predicted), torch.from_numpy(labels))
    scored = labels != IGNORE_LABEL
    for unseen in ("miss", "ignore", "openscene"):
        in_iou = scored if unseen == "miss" else scored & (predicted != NO_FEATURE_LABEL)
        in_accuracy = scored & (predicted != NO_FEATURE_LABEL) if unseen == "ignore" else scored
        for k in range(classes):
            hit = np.sum(scored & (predicted == k) & (labels == k))
            either = np.sum(in_iou & ((predicted == k) | (labels == k)))
            true = np.sum(in_accuracy & (labels == k))
            iou, accuracy = confusion.iou(unseen)[k].item(), confusion.accuracy(unseen)[k].item()
            if true == 0:
                assert math.isnan(iou)
                assert math.isnan(accuracy)
            else:
                assert iou == (hit / either if either else 0.0)
                assert accuracy == hit / true


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 70), max_size=4))
@settings(max_examples=30, deadline=None)
def test_scenes_add_up_in_any_order(seed, cuts):
    predicted, labels = (torch.from_numpy(a) for a in random_labels(seed, 70, 5))
    whole = ConfusionMatrix(5)
    whole.update(predicted, labels)
    parts = ConfusionMatrix(5)
    for start, stop in reversed(list(pairwise([0, *sorted(cuts), 70]))):
        parts.update(predicted[start:stop], labels[start:stop])
    assert torch.equal(whole.counts, parts.counts)


def test_a_present_class_that_nobody_saw_scores_zero():
    """Where the reference fails with a TypeError."""
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor([256, 256, 1]), torch.tensor([0, 0, 1]))
    assert confusion.iou().tolist() == [0, 1]
    assert confusion.accuracy().tolist() == [0, 1]
    assert confusion.iou("ignore")[0].isnan()
    assert confusion.mean_iou("ignore", "present") == 1
    assert confusion.mean_iou() == 0.5


def test_absent_classes_count_only_where_the_protocol_says_so():
    confusion = ConfusionMatrix(4)
    confusion.update(torch.tensor([0, 0, 1, 3]), torch.tensor([0, 0, 1, 1]))
    assert confusion.mean_iou(mean_over="all") == pytest.approx((1 + 0.5) / 4)
    assert confusion.mean_iou(mean_over="present") == pytest.approx(0.75)
    assert confusion.mean_iou(mean_over="present", excluded_classes=[0]) == pytest.approx(0.5)
    assert confusion.mean_iou(mean_over="all", excluded_classes=[0]) == pytest.approx(0.5 / 3)
    assert math.isnan(mean_over_classes(torch.tensor([math.nan]), "present"))
    assert math.isnan(ConfusionMatrix(2).overall_accuracy())


def test_labels_outside_the_set_are_named():
    confusion = ConfusionMatrix(3)
    inside = torch.tensor([0, 1])
    with pytest.raises(
        ValueError, match=r"labels holds 7 \(1 such points\), expected 0 to 2 or -1"
    ):
        confusion.update(inside, torch.tensor([0, 7]))
    with pytest.raises(ValueError, match=r"predicted holds 3 .* expected 0 to 2 or -2"):
        confusion.update(torch.tensor([3, 0]), inside)
    with pytest.raises(ValueError, match=r"predicted has shape \(3,\), expected \(2\)"):
        confusion.update(torch.tensor([0, 1, 2]), inside)
    confusion.update(torch.tensor([99, 0]), torch.tensor([255, 0]))  # not read where ignored
    assert confusion.points == 1
    with pytest.raises(ValueError, match="classes is 0"):
        ConfusionMatrix(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_counts_are_the_same_on_the_gpu():
    predicted, labels = (torch.from_numpy(a) for a in random_labels(0, 1000, 6))
    here, there = ConfusionMatrix(6), ConfusionMatrix(6)
    here.update(predicted, labels)
    there.update(predicted.cuda(), labels.cuda())
    assert torch.equal(here.counts, there.counts.cpu())
