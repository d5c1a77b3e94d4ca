"""Protocols: what each choice does to the number, and that it is said."""

import math
from dataclasses import replace

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.evaluation import (
    OPENSCENE,
    ConfusionMatrix,
    Protocol,
    evaluate_semantic,
    named_protocol,
)
from tests.conftest import golden_cases, load_npz

NAMES = ["wall", "floor", "chair"]
FIRST = (torch.tensor([0, 0, 1, 256]), torch.tensor([0, 1, 1, 1]))
SECOND = (torch.tensor([0, 2, 0]), torch.tensor([0, 0, 255]))


@pytest.mark.parametrize("file", golden_cases("metrics/scannet*.npz"))
@pytest.mark.parametrize("name", ["all", "absent", "nofeat"])
def test_openscene_protocol_is_the_reference(file, name):
    case = load_npz(file)
    predicted = torch.from_numpy(case[f"{name}_pred"]).long()
    labels = torch.from_numpy(case[f"{name}_gt"]).long()
    classes = len(case[f"{name}_class_iou"])
    scenes = zip(predicted.split(1777), labels.split(1777), strict=True)
    result = evaluate_semantic(scenes, [str(k) for k in range(classes)], OPENSCENE)
    # percent in float64
    assert result.miou == pytest.approx(100 * float(case[f"{name}_mean_iou"]), abs=1e-10)
    assert result.macc == pytest.approx(100 * float(case[f"{name}_mean_acc"]), abs=1e-10)
    for value, reference in zip(result.per_class.values(), case[f"{name}_class_iou"], strict=True):
        assert (value is None) == math.isnan(reference)
        assert value is None or value == pytest.approx(100 * reference, abs=1e-10)


def test_each_choice_by_hand():
    """Over both scenes: wall 2 of 3 found and one false; floor 1 of 3, one of them unseen."""
    result = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", unseen="wrong"))
    assert result.per_class == pytest.approx({"wall": 50, "floor": 100 / 3, "chair": None})
    assert result.per_class_accuracy == pytest.approx(
        {"wall": 200 / 3, "floor": 100 / 3, "chair": None}
    )
    assert result.miou == pytest.approx((50 + 100 / 3) / 2)
    assert result.overall_accuracy == pytest.approx(50)
    assert (result.scenes, result.points, result.unseen_points) == (2, 6, 1)
    assert result.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]

    left_out = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", unseen="left out"))
    assert left_out.per_class["floor"] == pytest.approx(50)
    assert left_out.overall_accuracy == pytest.approx(60)
    every = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", mean_over="all"))
    assert every.miou == pytest.approx((50 + 100 / 3) / 3)
    foreground = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", left_out=("wall",)))
    assert foreground.miou == pytest.approx(100 / 3)


def test_scenes_can_be_averaged_one_by_one():
    unlabelled = (torch.tensor([0, 1]), torch.tensor([255, 255]))
    protocol = Protocol("rooms", average="per scene")
    result = evaluate_semantic([FIRST, unlabelled, SECOND], NAMES, protocol)
    first, second = (50 + 100 / 3) / 2, 50
    assert result.scene_miou == pytest.approx((first, math.nan, second), nan_ok=True)
    assert result.miou == pytest.approx((first + second) / 2)
    assert result.per_class == pytest.approx({"wall": 50, "floor": 100 / 3, "chair": None})
    assert result.scenes == 3


def test_scenes_are_read_once_and_lazily():
    drawn = []

    def scenes():
        for number, scene in enumerate((FIRST, SECOND)):
            drawn.append(number)
            yield scene

    result = evaluate_semantic(scenes(), NAMES)
    expected = ConfusionMatrix(3)
    for scene in (FIRST, SECOND):
        expected.update(*scene)
    assert drawn == [0, 1]
    assert torch.equal(result.confusion, expected.matrix)


def test_without_any_label_there_is_no_number():
    result = evaluate_semantic([(torch.tensor([0]), torch.tensor([255]))], NAMES, OPENSCENE)
    assert math.isnan(result.miou)
    assert math.isnan(result.macc)
    assert set(result.per_class.values()) == {None}


def test_protocol_says_what_it_does():
    text = replace(OPENSCENE, left_out=("wall",)).describe(20)
    for part in ("scannet20", "all 19 classes", "counting 0", "without wall", "5 runs added"):
        assert part in text
    assert "'a {} in a scene'" in text
    assert evaluate_semantic([FIRST], NAMES, OPENSCENE).protocol == OPENSCENE.describe(3)
    differing = {
        Protocol("a").describe(3),
        Protocol("b").describe(3),
        Protocol("a", mean_over="all").describe(3),
        Protocol("a", unseen="left out").describe(3),
        Protocol("a", unseen="openscene").describe(3),
        Protocol("a", votes=2).describe(3),
        Protocol("a", average="per scene").describe(3),
        Protocol("a", prompt_template="{}").describe(3),
    }
    assert len(differing) == 8  # no choice goes unsaid


def test_protocols_have_names():
    protocol = named_protocol("openscene", "nuscenes16", votes=1)
    assert (protocol.label_set, protocol.votes) == ("nuscenes16", 1)
    assert (protocol.mean_over, protocol.unseen) == ("all", "openscene")
    assert named_protocol("seen", "homes", prompt_template="{}").prompt_template == "{}"
    with pytest.raises(ConfigError, match="unknown protocol 'openscen'; did you mean 'openscene'"):
        named_protocol("openscen", "scannet20")
    with pytest.raises(ValueError, match="leaves out 'flor'; did you mean 'floor'"):
        evaluate_semantic([FIRST], NAMES, Protocol("rooms", left_out=("flor",)))
