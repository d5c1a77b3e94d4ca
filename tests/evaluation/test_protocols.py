"""Protocols: what each choice does to the number, and that it is said."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.evaluation import (
    OPENSCENE,
    PROTOCOLS,
    ConfusionMatrix,
    Protocol,
    evaluate_semantic,
    get_protocol,
)
from pcdistill.scenes import load_label_set
from tests.conftest import golden_cases, load_npz

NAMES = ["wall", "floor", "chair"]
FIRST = (torch.tensor([0, 0, 1, 256]), torch.tensor([0, 1, 1, 1]))
SECOND = (torch.tensor([0, 2, 0]), torch.tensor([0, 0, 255]))


@pytest.mark.parametrize("file", golden_cases("metrics/[mns]*[0-9].npz"))
@pytest.mark.parametrize("name", ["all", "absent", "nofeat"])
def test_openscene_protocol_is_the_reference(file, name):
    """Of every label set; the scene is cut into several, which makes no difference."""
    case = load_npz(file)
    predicted = torch.from_numpy(case[f"{name}_pred"]).long()
    labels = torch.from_numpy(case[f"{name}_gt"]).long()
    classes = len(case[f"{name}_class_iou"])
    scenes = zip(predicted.split(1777), labels.split(1777), strict=True)
    names = load_label_set(file.stem).names
    assert len(names) == classes
    result = evaluate_semantic(scenes, names, get_protocol("openscene", file.stem, names))
    # percent in float64
    assert result.miou == pytest.approx(100 * float(case[f"{name}_mean_iou"]), abs=1e-10)
    assert result.macc == pytest.approx(100 * float(case[f"{name}_mean_acc"]), abs=1e-10)
    for value, reference in zip(result.per_class.values(), case[f"{name}_class_iou"], strict=True):
        assert (value is None) == math.isnan(reference)
        assert value is None or value == pytest.approx(100 * reference, abs=1e-10)
    for value, reference in zip(
        result.per_class_accuracy.values(), case[f"{name}_class_acc"], strict=True
    ):
        assert value is None or value == pytest.approx(100 * reference, abs=1e-10)
    assert np.array_equal(result.confusion, case[f"{name}_confusion"])
    if f"{name}_val_allacc" in case:
        accuracy = 100 * float(case[f"{name}_val_allacc"])
        assert result.overall_accuracy == pytest.approx(accuracy, abs=1e-10)


def test_each_choice_by_hand():
    """Over both scenes: wall 2 of 3 found and one false; floor 1 of 3, one of them unseen."""
    result = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", unseen="miss"))
    assert result.per_class == pytest.approx({"wall": 50, "floor": 100 / 3, "chair": None})
    assert result.per_class_accuracy == pytest.approx(
        {"wall": 200 / 3, "floor": 100 / 3, "chair": None}
    )
    assert result.miou == pytest.approx((50 + 100 / 3) / 2)
    assert result.overall_accuracy == pytest.approx(50)
    assert (result.scenes, result.points, result.unseen_points) == (2, 6, 1)
    assert result.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]

    ignored = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", unseen="ignore"))
    assert ignored.per_class["floor"] == pytest.approx(50)
    assert ignored.overall_accuracy == pytest.approx(60)
    every = evaluate_semantic([FIRST, SECOND], NAMES, Protocol("rooms", mean_over="all"))
    assert every.miou == pytest.approx((50 + 100 / 3) / 3)
    foreground = evaluate_semantic(
        [FIRST, SECOND], NAMES, Protocol("rooms", excluded_classes=("wall",))
    )
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
    text = replace(OPENSCENE, excluded_classes=("wall",)).describe(20)
    for part in ("scannet20", "all 19 classes", "counting 0", "without wall", "5 runs added"):
        assert part in text
    assert "'a {} in a scene'" in text
    assert evaluate_semantic([FIRST], NAMES, OPENSCENE).protocol == OPENSCENE.describe(3)
    differing = {
        Protocol("a").describe(3),
        Protocol("b").describe(3),
        Protocol("a", mean_over="all").describe(3),
        Protocol("a", unseen="ignore").describe(3),
        Protocol("a", unseen="openscene").describe(3),
        Protocol("a", points="seen").describe(3),
        Protocol("a", votes=2).describe(3),
        Protocol("a", votes=2, runs="turned").describe(3),
        Protocol("a", runs="turned").describe(3),
        Protocol("a", average="per scene").describe(3),
        Protocol("a", prompt_template="{}").describe(3),
        Protocol("a", published="openscene").describe(3),
    }
    assert len(differing) == 12  # no choice goes unsaid


NO_ANSWER = {
    "miss": "count as misses",
    "ignore": "are left out of its numbers",
    "openscene": "are left out of its IoU and are misses in its accuracy",
}


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("unseen", NO_ANSWER)
@pytest.mark.parametrize("points", ["seen", "all"])
def test_the_line_says_what_happens_to_points_without_an_answer_and_contradicts_nothing(
    points, unseen, silent
):
    """Where only seen points are scored, what no frame saw cannot count as anything."""
    text = Protocol("rooms", points=points, unseen=unseen).describe(3, silent=silent)
    scored, *rest = text.split("; ")
    assert scored.startswith({"seen": "points that some frame sees", "all": "all points"}[points])
    assert ("no frame" in text) == (points == "all" and silent)
    for rule, words in NO_ANSWER.items():
        assert (words in scored) == (silent and rule == unseen)
        assert not any(words in part for part in rest)
    assert ("says nothing about" in scored) == silent


@pytest.mark.parametrize(
    ("settings", "departure"),
    [
        ({}, None),
        ({"votes": 5, "points": "all", "prompt_template": "a {} in a scene"}, None),
        ({"votes": 1}, "one run instead of 5"),
        ({"votes": 3}, "3 runs instead of 5"),
        ({"points": "seen"}, "points that some frame sees instead of all points"),
        ({"prompt_template": "a {}"}, "the prompt 'a {}' instead of 'a {} in a scene'"),
        ({"voxel_size": 0.1}, "voxels of 0.1 m instead of {voxels}"),
    ],
)
@pytest.mark.parametrize("label_set", ["scannet20", "matterport160", "nuscenes16"])
def test_only_what_is_openscene_s_in_everything_says_so_without_a_but(
    label_set, settings, departure
):
    protocol = get_protocol("openscene", label_set, NAMES, **settings)
    claim = protocol.describe(20).split("; ")[0]
    if departure is None:
        assert claim == "'openscene': OpenScene's protocol"
    else:
        voxels = "0.05 m" if label_set == "nuscenes16" else "0.02 m"
        departure = departure.replace("{voxels}", voxels)
        assert claim == f"'openscene': OpenScene's protocol but for {departure}"
    for other in ("seen", "every point"):
        assert "OpenScene" not in get_protocol(other, label_set, NAMES, **settings).describe(20)


def test_all_departures_are_named_together():
    protocol = replace(get_protocol("openscene", "own", NAMES, votes=2), excluded_classes=("wall",))
    assert protocol.departures == (
        "2 runs instead of 5",
        "the label set own, which it does not know",
        "without wall",
    )


@pytest.mark.parametrize(("label_set", "voxels"), [("matterport40", 0.02), ("nuscenes16", 0.05)])
def test_voxels_are_named_where_the_points_go_through_them(label_set, voxels):
    protocol = get_protocol("openscene", label_set, NAMES, voxel_size=voxels)
    assert protocol.departures == ()
    assert f"at random, in voxels of {voxels} m; " in protocol.describe(16)
    one = get_protocol("openscene", label_set, NAMES, voxel_size=0.3, votes=1)
    assert "one run, turned and scaled at random, in voxels of 0.3 m; " in one.describe(16)
    assert "voxels" not in get_protocol("seen", label_set, NAMES, voxel_size=0.3).describe(16)


def test_every_protocol_of_the_table_says_its_name_and_another_line():
    lines = []
    for name in PROTOCOLS:
        label_set = "matterport160" if name == "long tail" else "scannet20"
        protocol = get_protocol(name, label_set, NAMES)
        assert protocol.describe(3).startswith(f"'{name}': ")
        assert protocol.describe_arithmetic(3).startswith(f"'{name}': ")
        assert protocol.facts()["name"] == name
        lines.append(protocol.describe(3).split(": ", 1)[1])
    assert len(set(lines)) == len(PROTOCOLS)
    for key in ("standard", "foreground", "per scene"):
        assert PROTOCOLS[key].points == "all"


@pytest.mark.parametrize(
    ("label_set", "sizes"),
    [("matterport21", ()), ("matterport40", ()), ("matterport80", (40,))],
)
def test_the_long_tail_is_counted_among_the_first_classes_too(label_set, sizes):
    protocol = get_protocol("long tail", label_set, NAMES)
    assert protocol.first_classes == sizes
    assert replace(protocol, name="openscene", first_classes=()) == get_protocol(
        "openscene", label_set, NAMES
    )
    largest = get_protocol("long tail", "matterport160", NAMES)
    assert largest.first_classes == (40, 80)
    assert "also among the first 40 and 80 classes alone" in largest.describe(160)
    every = load_label_set("matterport160").names
    for size in largest.first_classes:
        assert load_label_set(f"matterport{size}").names == every[:size]


@pytest.mark.parametrize(
    ("name", "classes", "said"),
    [
        ("long tail", NAMES, "'long tail' is for matterport21.* got label set 'own'"),
        ("foreground", ["chair"], "has none of these; take the protocol standard"),
        ("foreground", ["wall", "floor"], "has no other class than these"),
    ],
)
def test_a_protocol_that_is_not_for_a_label_set_is_refused(name, classes, said):
    with pytest.raises(ConfigError, match=said):
        get_protocol(name, "own", classes)


def test_protocols_have_names():
    protocol = get_protocol("openscene", "nuscenes16", NAMES, votes=1)
    assert (protocol.label_set, protocol.votes) == ("nuscenes16", 1)
    assert (protocol.mean_over, protocol.unseen) == ("all", "openscene")
    assert (protocol.points, protocol.runs) == ("all", "turned")
    assert get_protocol("seen", "homes", NAMES, prompt_template="{}").prompt_template == "{}"
    with pytest.raises(ConfigError, match="unknown protocol 'openscen'; did you mean 'openscene'"):
        get_protocol("openscen", "scannet20", NAMES)
    with pytest.raises(ValueError, match="leaves out 'flor'; did you mean 'floor'"):
        evaluate_semantic([FIRST], NAMES, Protocol("rooms", excluded_classes=("flor",)))
