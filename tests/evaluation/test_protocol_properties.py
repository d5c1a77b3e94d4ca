"""What has to hold under every named protocol, and torchmetrics as an oracle."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.evaluation import (
    PROTOCOLS,
    ConfusionMatrix,
    evaluate_semantic,
    get_protocol,
    score_counts,
)
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from pcdistill.scenes import load_label_set
from tests.tolerances import FLOAT32_SUMS, FLOAT64_EXACT

SET = {name: "matterport40" if name == "long tail" else "scannet20" for name in PROTOCOLS}


def scenes_of(seed: int, classes: int, scenes: int, right: float = 0.6):
    """(predicted, labels) of scenes that lack some classes, with points of both kinds of none."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(scenes):
        there = random.choice(classes, max(1, classes // 2), replace=False)
        labels = random.choice([*there, IGNORE_LABEL], int(random.integers(1, 120)))
        guesses = random.choice([*range(classes), NO_FEATURE_LABEL], len(labels))
        predicted = np.where(random.random(len(labels)) < right, labels, guesses)
        predicted[predicted == IGNORE_LABEL] = 0
        found.append((torch.from_numpy(predicted), torch.from_numpy(labels)))
    return found


def scored(name: str, scenes):
    names = load_label_set(SET[name]).names
    return evaluate_semantic(scenes, names, get_protocol(name, SET[name], names))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_is_all_right_is_one_hundred_but_for_classes_that_count_0(name):
    names = load_label_set(SET[name]).names
    everything = torch.arange(len(names)).repeat(3)
    found = scored(name, [(everything, everything), (everything.flip(0), everything.flip(0))])
    assert (found.miou, found.macc, found.overall_accuracy) == (100, 100, 100)
    assert found.interval == (100, 100)
    half = everything[: len(names) // 2]
    part = scored(name, [(half, half)])
    fixed = PROTOCOLS[name].mean_over == "all"
    assert part.miou == pytest.approx(100 * len(half) / len(names) if fixed else 100)


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_scenes_is_irrelevant(name, seed):
    scenes = scenes_of(seed, len(load_label_set(SET[name]).names), 5)
    there, back = scored(name, scenes), scored(name, scenes[::-1])
    for key in ("miou", "macc", "overall_accuracy"):
        assert getattr(there, key) == pytest.approx(getattr(back, key), abs=1e-10, nan_ok=True)
    assert there.points == back.points
    assert torch.equal(there.confusion, back.confusion)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_splitting_a_scene_matters_only_where_scenes_are_averaged(name):
    scenes = scenes_of(3, len(load_label_set(SET[name]).names), 4)
    parts = [part for p, t in scenes for part in zip(p.split(37), t.split(37), strict=True)]
    assert len(parts) > len(scenes)
    whole, split = scored(name, scenes), scored(name, parts)
    same = (whole.miou, whole.macc) == (split.miou, split.macc)
    assert same == (PROTOCOLS[name].average == "global")
    assert whole.overall_accuracy == split.overall_accuracy


@pytest.mark.parametrize("workers", [2, 3])
def test_counts_of_any_division_of_the_scenes_add_up_to_the_same_numbers(workers):
    """As several workers would count them, each its own scenes."""
    scenes = scenes_of(11, 20, 7)
    names = load_label_set("scannet20").names
    protocol = get_protocol("standard", "scannet20", names)
    alone = evaluate_semantic(scenes, names, protocol)
    shares = []
    for worker in range(workers):
        share = ConfusionMatrix(20)
        for scene in scenes[worker::workers]:
            share.update(*scene)
        shares.append(share.counts)
    merged = score_counts(shares, names, protocol)
    assert (merged.miou, merged.macc) == (alone.miou, alone.macc)
    assert torch.equal(merged.confusion, alone.confusion)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_torchmetrics_finds_the_same(seed):
    """Of points that have a prediction; it gives a class without points another number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.classification import (
            multiclass_accuracy,
            multiclass_confusion_matrix,
            multiclass_jaccard_index,
        )

    scenes = scenes_of(seed, 20, 6)
    predicted, labels = (torch.cat(parts) for parts in zip(*scenes, strict=True))
    labels = torch.where(predicted == NO_FEATURE_LABEL, IGNORE_LABEL, labels)
    how = {"num_classes": 20, "ignore_index": IGNORE_LABEL}
    guesses = predicted.clamp(min=0)
    found = scored("seen", scenes)
    counted = multiclass_confusion_matrix(guesses, labels, **how)  # true by predicted
    assert torch.equal(found.confusion, counted.T)
    iou = multiclass_jaccard_index(guesses, labels, average="none", **how)
    recall = multiclass_accuracy(guesses, labels, average="none", **how)
    present = counted.sum(dim=1) > 0
    for ours, oracle in ((found.per_class, iou), (found.per_class_accuracy, recall)):
        assert [value is not None for value in ours.values()] == present.tolist()
        known = [value for value in ours.values() if value is not None]
        assert known == pytest.approx((100 * oracle[present]).tolist(), abs=100 * FLOAT32_SUMS)
    assert found.miou == pytest.approx(100 * float(iou[present].mean()), abs=100 * FLOAT32_SUMS)
    micro = multiclass_accuracy(guesses, labels, average="micro", **how)
    assert found.overall_accuracy == pytest.approx(100 * float(micro), abs=100 * FLOAT32_SUMS)


def test_foreground_is_standard_without_the_room():
    scenes = scenes_of(5, 20, 3)
    standard, foreground = scored("standard", scenes), scored("foreground", scenes)
    names = load_label_set("scannet20").names
    others = [v for k, v in standard.per_class.items() if k not in ("wall", "floor")]
    known = [value for value in others if value is not None]
    assert foreground.miou == pytest.approx(sum(known) / len(known))
    assert foreground.per_class == standard.per_class
    assert foreground.miou != standard.miou
    assert "of 18) that have a true point; without wall, floor" in foreground.protocol
    nuscenes = load_label_set("nuscenes16").names
    kept = get_protocol("foreground", "nuscenes16", nuscenes).excluded_classes
    assert [name for name in nuscenes if name not in kept][-1] == "truck"
    assert names[0] == "wall"


def test_groups_are_means_over_their_classes():
    """Head, common and tail of ScanNet200, as its benchmark divides them."""
    label_set = load_label_set("scannet200")
    groups = label_set.classes_by_group
    assert {name: len(members) for name, members in groups.items()} == {
        "head": 66,
        "common": 68,
        "tail": 66,
    }
    assert {label_set.groups[label_set.names.index(n)] for n in ("wall", "shelf")} == {"head"}
    assert label_set.groups[label_set.names.index("mattress")] == "common"
    assert label_set.groups[label_set.names.index("luggage")] == "tail"
    scenes = scenes_of(2, 200, 4)
    for name in ("standard", "openscene"):
        protocol = get_protocol(name, "scannet200", label_set.names)
        found = evaluate_semantic(scenes, label_set.names, protocol, groups=groups)
        for group, members in groups.items():
            values = [found.per_class[label_set.names[k]] for k in members]
            known = [value for value in values if value is not None]
            below = len(values) if name == "openscene" else len(known)
            assert found.groups[group].miou == pytest.approx(sum(known) / below)
            recalls = [found.per_class_accuracy[label_set.names[k]] or 0.0 for k in members]
            assert found.groups[group].macc == pytest.approx(sum(recalls) / below)
            assert found.groups[group].classes == len(known) < len(values)


def test_a_group_that_nobody_has_is_no_number():
    names = ["wall", "chair", "lamp"]
    protocol = get_protocol("foreground", "rooms", names)
    found = evaluate_semantic(
        [(torch.tensor([0, 1]), torch.tensor([0, 1]))],
        names,
        protocol,
        groups={"room": [0], "things": [1, 2]},
    )
    assert math.isnan(found.groups["room"].miou)
    assert (found.groups["things"].miou, found.groups["things"].classes) == (100, 1)


def test_overall_accuracy_is_that_of_points():
    found = scored("standard", [(torch.tensor([0, 0, 1, NO_FEATURE_LABEL]), torch.tensor([0] * 4))])
    assert found.overall_accuracy == pytest.approx(50, abs=FLOAT64_EXACT)
