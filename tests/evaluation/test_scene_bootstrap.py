"""Intervals of one method's mIoU over scenes, against drawings made one scene at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcdistill.evaluation import (
    ConfusionMatrix,
    Protocol,
    class_totals,
    evaluate_semantic,
    mean_over_classes,
    scene_interval,
)
from pcdistill.evaluation.scene_bootstrap import DRAWS, SEED
from pcdistill.labels import NO_FEATURE_LABEL
from tests.evaluation.test_paired import counts
from tests.evaluation.test_protocol_properties import scenes_of

UNSEEN = ("miss", "ignore", "openscene")


def interval_by_hand(scenes, unseen, mean_over, average, excluded) -> tuple[float, float]:
    """Of (K + 1, K) counts of scenes; every drawing is summed and averaged by itself."""

    def miou(one: torch.Tensor) -> float:
        matrix = ConfusionMatrix.from_counts(one)
        return 100 * mean_over_classes(matrix.iou(unseen), mean_over, excluded)

    picked = np.random.default_rng(SEED).integers(0, len(scenes), (DRAWS, len(scenes)))
    own = [miou(one) for one in scenes]
    drawn = []
    for row in picked:
        if average == "global":
            drawn.append(miou(torch.stack([scenes[i] for i in row]).sum(dim=0)))
        else:
            drawn.append(np.mean([own[i] for i in row]))
    drawn.sort()
    return drawn[50], drawn[-51]


@pytest.mark.parametrize(
    ("unseen", "mean_over", "average", "excluded"),
    [
        ("miss", "present", "global", []),
        ("openscene", "all", "global", []),
        ("ignore", "present", "global", [1]),
        ("miss", "present", "per scene", [0]),
    ],
)
def test_the_interval_is_that_of_drawings_made_by_hand(unseen, mean_over, average, excluded):
    scenes = list(counts(1, 5, 4, 0)[0])
    totals = [class_totals(one, unseen)[None] for one in scenes]
    found = scene_interval(totals, mean_over=mean_over, average=average, excluded_classes=excluded)
    by_hand = interval_by_hand(scenes, unseen, mean_over, average, excluded)
    assert found == pytest.approx(by_hand, abs=1e-9)
    assert found[0] < found[1]


def test_several_measurements_are_averaged_in_every_drawing():
    """Of twice the same the interval is the same; of two it lies between theirs."""
    one, other = (
        [class_totals(scene, "miss") for scene in counts(1, 6, 4, seed, right)[0]]
        for seed, right in ((0, 0.3), (1, 0.8))
    )
    low = scene_interval([a[None] for a in one])
    high = scene_interval([a[None] for a in other])
    assert scene_interval([torch.stack([a, a]) for a in one]) == pytest.approx(low)
    both = scene_interval([torch.stack([a, b]) for a, b in zip(one, other, strict=True)])
    assert all(a < b < c for a, b, c in zip(low, both, high, strict=True))


def test_one_scene_tells_nothing_of_others_nor_do_scenes_without_labels():
    labelled = (torch.tensor([0, 1]), torch.tensor([0, 0]))
    bare = (torch.tensor([0, 1]), torch.tensor([-1, -1]))
    for scenes in ([labelled], [labelled, bare], [bare]):
        assert evaluate_semantic(scenes, ["a", "b"], Protocol("rooms")).interval is None
    assert evaluate_semantic([labelled] * 2, ["a", "b"], Protocol("rooms")).interval == (50, 50)


@pytest.mark.parametrize("unseen", UNSEEN)
def test_totals_are_what_the_ratios_are_made_of(unseen):
    scenes = scenes_of(0, 5, 3)
    assert any(bool((predicted == NO_FEATURE_LABEL).any()) for predicted, _ in scenes)
    for predicted, labels in scenes:
        matrix = ConfusionMatrix(5)
        matrix.update(predicted, labels)
        hit, union, present = class_totals(matrix.counts, unseen)
        assert torch.equal(hit, matrix.intersection())
        assert torch.equal(union, matrix.union(unseen))
        assert torch.equal(present, matrix.target(unseen))


def test_the_interval_of_a_result_is_that_of_its_scenes():
    scenes = scenes_of(4, 6, 5)
    protocol = Protocol("rooms", average="per scene", excluded_classes=("c2",))
    found = evaluate_semantic(scenes, [f"c{k}" for k in range(6)], protocol)
    totals = []
    for predicted, labels in scenes:
        matrix = ConfusionMatrix(6)
        matrix.update(predicted, labels)
        totals.append(class_totals(matrix.counts, "miss")[None])
    expected = scene_interval(totals, average="per scene", excluded_classes=[2])
    assert found.interval == expected
    assert found.interval[0] <= found.miou <= found.interval[1]
