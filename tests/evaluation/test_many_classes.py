"""Scores of few and of many classes: no class has the number that stands for none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdistill.evaluation import ConfusionMatrix, Protocol, evaluate_semantic
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from tests.tolerances import FLOAT64_EXACT

SIZES = (3, 255, 256, 257, 300, 1000)
UNSEEN = ("miss", "ignore", "openscene")


def names_of(classes: int) -> list[str]:
    return [f"class {i}" for i in range(classes)]


@pytest.mark.parametrize("classes", SIZES)
@pytest.mark.parametrize("ignore", [IGNORE_LABEL, 254, 255, 1000, -100])
def test_what_is_all_right_scores_exactly_one_hundred(classes, ignore):
    labels = torch.arange(classes).repeat(3)
    if 0 <= ignore < classes:
        with pytest.raises(ValueError, match=f"ignore_label is {ignore}, which is one of the"):
            ConfusionMatrix(classes, ignore_label=ignore)
        return
    truth = torch.cat([labels, torch.full((7,), ignore)])
    predicted = torch.cat([labels, torch.arange(7) % classes])
    for unseen in UNSEEN:
        for mean_over in ("all", "present"):
            found = evaluate_semantic(
                [(predicted, truth)],
                names_of(classes),
                Protocol("many", mean_over=mean_over, unseen=unseen),
                ignore_label=ignore,
            )
            assert (found.miou, found.macc, found.overall_accuracy) == (100, 100, 100)
            assert found.points == len(labels)


@pytest.mark.parametrize("classes", SIZES)
@pytest.mark.parametrize("unseen", UNSEEN)
def test_random_labels_score_as_counted_one_class_at_a_time(classes, unseen):
    random = np.random.default_rng(classes)
    truth = random.integers(IGNORE_LABEL, classes, 4000)
    predicted = np.where(random.random(4000) < 0.5, truth, random.integers(0, classes, 4000))
    predicted[(random.random(4000) < 0.1) | (predicted < 0)] = NO_FEATURE_LABEL
    found = evaluate_semantic(
        [(torch.from_numpy(predicted), torch.from_numpy(truth))],
        names_of(classes),
        Protocol("many", mean_over="present", unseen=unseen),
    )
    scored, seen = truth != IGNORE_LABEL, predicted != NO_FEATURE_LABEL
    in_iou = scored if unseen == "miss" else scored & seen
    in_accuracy = scored & seen if unseen == "ignore" else scored
    ious, recalls = [], []
    for k in range(classes):
        true = np.sum(in_accuracy & (truth == k))
        if true:
            hit = np.sum(scored & (predicted == k) & (truth == k))
            either = np.sum(in_iou & ((predicted == k) | (truth == k)))
            ious.append(hit / either if either else 0.0)
            recalls.append(hit / true)
    assert found.miou == pytest.approx(100 * np.mean(ious), abs=100 * FLOAT64_EXACT)
    assert found.macc == pytest.approx(100 * np.mean(recalls), abs=100 * FLOAT64_EXACT)
    assert found.points == scored.sum()


def test_the_numbers_of_openscene_are_no_class_only_where_they_cannot_be_one():
    few = ConfusionMatrix(255)
    few.update(torch.tensor([256, 254]), torch.tensor([0, 255]))
    assert (few.points, int(few.without_feature.sum())) == (1, 1)
    many = ConfusionMatrix(257)
    many.update(torch.tensor([256, 255]), torch.tensor([256, 255]))
    assert many.points == int(many.intersection().sum()) == 2


def test_a_class_cannot_stand_for_no_prediction():
    with pytest.raises(ValueError, match="no_feature_label is 256, which is one of the 300"):
        evaluate_semantic([], names_of(300), no_feature_label=256)
