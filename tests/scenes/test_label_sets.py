"""Label sets and vocabularies: the facts they must hold, and how a user's own may be wrong."""

from __future__ import annotations

import json

import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import (
    IGNORE_LABEL,
    label_set_names,
    load_label_set,
    load_vocabulary,
    vocabulary_names,
)
from tests.conftest import golden_cases

MENDED = {
    "otherfurniture": "other furniture",
    "refridgerator": "refrigerator",
    "excercise equipment": "exercise equipment",
}
REFERENCE = golden_cases("metrics/label_sets.json")
SETS = {
    "scannet20": ("SCANNET_LABELS_20", "SCANNET_COLOR_MAP_20"),
    "matterport21": ("MATTERPORT_LABELS_21", "MATTERPORT_COLOR_MAP_21"),
    "matterport40": ("MATTERPORT_LABELS_40", "MATTERPORT_COLOR_MAP_160"),
    "matterport80": ("MATTERPORT_LABELS_80", "MATTERPORT_COLOR_MAP_160"),
    "matterport160": ("MATTERPORT_LABELS_160", "MATTERPORT_COLOR_MAP_160"),
    "nuscenes16": ("NUSCENES_LABELS_16", "NUSCENES16_COLORMAP"),
}


@pytest.mark.parametrize("file", REFERENCE)
@pytest.mark.parametrize("name", SETS)
def test_names_and_colors_are_the_published_ones(file, name):
    reference = json.loads(file.read_text())
    names, color_map = (reference[key] for key in SETS[name])
    label_set = load_label_set(name)
    assert label_set.released_names == tuple(names)
    assert label_set.names == tuple(MENDED.get(word, word) for word in names)
    # the colour list holds black for unlabelled points: at its end, or amid the 160 categories
    colors = [color for _, color in color_map if any(color)]
    assert label_set.palette.tolist() == colors[: len(names)]
    assert label_set.ignore_label == reference["IGNORE_LABEL"]


@pytest.mark.parametrize("file", REFERENCE)
def test_nuscenes_prompts_and_their_map_are_the_published_ones(file):
    reference = json.loads(file.read_text())
    label_set = load_label_set("nuscenes16")
    assert label_set.prompt_names == tuple(reference["NUSCENES_LABELS_DETAILS"])
    assert label_set.mapping.tolist() == reference["MAPPING_NUSCENES_DETAILS"]


@pytest.mark.parametrize("file", REFERENCE)
def test_the_indoor_vocabulary_is_the_released_one_without_other(file):
    released = json.loads(file.read_text())["SAS_VOCABULARY_21"]
    assert set(load_vocabulary("indoor")) == set(released) - {"other"}


def test_scannet_prompts_read_as_sentences():
    label_set = load_label_set("scannet20")
    assert len(label_set.names) == 20
    assert label_set.names[:3] == ("wall", "floor", "cabinet")
    assert label_set.names[15] == "shower curtain"
    assert label_set.prompts[5] == "a sofa in a scene"
    assert label_set.prompts[19] == "a other furniture in a scene"
    assert label_set.mapping is None
    assert label_set.palette.dtype == torch.uint8
    assert label_set.palette[4].tolist() == [188, 189, 34]


def test_the_best_prompt_is_mapped_to_its_category():
    label_set = load_label_set("nuscenes16")
    assert len(label_set.prompts) == 43
    prompts = [label_set.prompts.index(f"a {word} in a scene") for word in ("curb", "turf", "bus")]
    categories = label_set.to_categories(torch.tensor(prompts))
    assert [label_set.names[i] for i in categories] == ["other flat", "terrain", "bus"]
    same = torch.tensor([3, 1])
    assert torch.equal(load_label_set("scannet20").to_categories(same), same)


@pytest.mark.parametrize("name", label_set_names())
def test_every_set_that_comes_along_is_sound(name):
    label_set = load_label_set(name)
    assert label_set.name == name
    assert label_set.palette.shape == (len(label_set.names), 3)
    assert bool((label_set.palette.sum(dim=1) > 0).all())  # black is for points without a label
    assert all(word == word.strip().lower() for word in label_set.prompt_names)
    if label_set.mapping is not None:
        assert set(label_set.mapping.tolist()) == set(range(len(label_set.names)))


def test_vocabularies_are_those_of_the_paper():
    assert vocabulary_names() == ("indoor", "outdoor")
    indoor, outdoor = load_vocabulary("indoor"), load_vocabulary("outdoor")
    assert len(indoor) == 20
    assert len(outdoor) == 23
    assert indoor[:3] == ("bookshelf", "table", "wall")
    assert "sink" in indoor
    assert "curtain" in indoor
    assert "traffic cone" in outdoor


def test_ignored_and_foreign_labels_are_black():
    label_set = load_label_set("scannet20")
    colors = label_set.colors_of(torch.tensor([0, IGNORE_LABEL, 19, 77]))
    assert colors.tolist() == [[174, 199, 232], [0, 0, 0], [82, 84, 163], [0, 0, 0]]


def test_labels_outside_of_the_set_are_refused():
    label_set = load_label_set("scannet20")
    label_set.require_labels("attic", torch.tensor([0, 19, 255, IGNORE_LABEL]))
    with pytest.raises(SceneError, match=r"attic: 2 points have labels outside of scannet20 \(40,"):
        label_set.require_labels("attic", torch.tensor([0, 41, 40, 255]))


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    with pytest.raises(ConfigError, match=r"'scanet20'.*'scannet20'.*matterport160, matterport21"):
        load_label_set("scanet20")
    with pytest.raises(ConfigError, match=r"unknown label set 'zzz'.*nuscenes16.*scannet20"):
        load_label_set("zzz")
    with pytest.raises(ConfigError, match=r"vocabulary 'indor', did you mean 'indoor'"):
        load_vocabulary("indor")


def test_a_file_of_the_users_own(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"categories": ["cup", {"name": "mug", "color": [1, 2, 3]}]}))
    label_set = load_label_set(file)
    assert label_set.name == "mine"
    assert label_set.prompts == ("a cup in a scene", "a mug in a scene")
    assert label_set.palette[1].tolist() == [1, 2, 3]
    assert load_label_set(str(file)).names == ("cup", "mug")
    assert load_vocabulary(file) == ("cup", "mug")
    words = tmp_path / "words.json"
    words.write_text('["stove", "cat"]')
    assert load_vocabulary(words) == ("stove", "cat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("3", "holds a int"),
        ("{}", "'categories' is None, expected a list"),
        ('{"categories": []}', "'categories' is"),
        ('{"categories": ["a", "a"]}', "category 'a' is listed twice"),
        ('{"categories": [3]}', "3 stands where a name"),
        ('{"categories": [{"nam": "a"}]}', "unknown key 'nam'.*did you mean 'name'"),
        ('{"categories": [{"name": " "}]}', "needs a 'name'"),
        ('["a", "b\\ud800"]', r"'b\\ud800' is no text, expected letters; write it again"),
        ('{"categories": ["a"], "template": "\\ud800 {}"}', r"'\\ud800 {}' is no text"),
        ('{"categories": [{"name": "a", "color": [1, 2, 300]}]}', "color of 'a'"),
        ('{"categories": ["a"], "templat": "x"}', "unknown key 'templat', did you mean 'template'"),
        (
            '{"categories": ["a"], "template": "x"}',
            r"template is 'x', expected a text with one \{\}",
        ),
        ('{"categories": ["a"], "ignore_label": 0}', "ignore_label is 0"),
        (
            '{"categories": ["a"], "prompts": [{"name": "x", "category": "b"}]}',
            "prompt 'x' asks for category 'b'",
        ),
        (
            '{"categories": ["a", "b"], "prompts": [{"name": "x", "category": "a"}]}',
            "no prompt asks for 'b'",
        ),
    ],
)
def test_a_malformed_file_is_named_with_its_fault(tmp_path, content, message):
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_label_set(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(ConfigError, match="there is no such label set file"):
        load_label_set(tmp_path / "none.json")


@pytest.mark.parametrize("classes", [3, 255, 256, 1000])
def test_labels_of_files_go_in_and_come_out(tmp_path, classes):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([f"class {i}" for i in range(classes)]))
    label_set = load_label_set(file)
    in_files = torch.tensor([*range(classes), label_set.ignore_label])
    inside = label_set.labels_from_files("attic", in_files)
    assert inside.tolist() == [*range(classes), IGNORE_LABEL]
    assert torch.equal(label_set.labels_for_files(inside), in_files)
    assert label_set.ignore_label == (255 if classes <= 255 else -1)
    with pytest.raises(SceneError, match="attic: 1 points have labels outside of mine"):
        label_set.labels_from_files("attic", torch.tensor([0, -2]))


@pytest.mark.parametrize(
    ("categories", "said"),
    [
        ([{"name": "a", "group": "head"}, "b"], "1 of 2 categories have a group, expected all or"),
        ([{"name": "a", "group": 3}], "a group is 3, expected a name"),
    ],
)
def test_groups_are_of_all_categories_and_have_names(tmp_path, categories, said):
    file = tmp_path / "own.json"
    file.write_text(json.dumps(categories))
    with pytest.raises(ConfigError, match=said):
        load_label_set(file)
    file.write_text(json.dumps([{"name": n, "group": g} for n, g in (("a", "x"), ("b", "x"))]))
    assert load_label_set(file).classes_by_group == {"x": [0, 1]}
    assert load_label_set("scannet20").classes_by_group == {}
