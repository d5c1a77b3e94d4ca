"""Names, nouns and prompts of SEEM's classes."""

from __future__ import annotations

import pytest

from pcdistill.teachers.seem.vocabulary import (
    class_noun,
    class_prompts,
    clean_name,
    released_vocabulary,
    seem_vocabulary,
)
from tests.teachers.seem.reference import load_facts


def test_names_and_templates_are_those_of_the_release():
    facts = load_facts("seem_vocab")
    released = released_vocabulary()
    assert list(released.names) == facts["sas_139"]
    assert [clean_name(name) for name in released.names] == facts["cleaned_for_prompt"]
    prompts = [template.format("wall-brick") for template in facts["templates"]]
    assert class_prompts("wall-brick") == prompts
    assert sorted(released.things) == facts["thing_contiguous_ids"]
    assert released.void == len(facts["coco_panoptic_133"])


def test_the_last_class_is_the_background_that_the_model_was_trained_with():
    vocabulary = seem_vocabulary()
    assert vocabulary.names[:-1] == released_vocabulary().names[:-1]
    assert vocabulary.names[-1] == "background"
    assert vocabulary.void == len(vocabulary.names) - 1 == 138
    assert {vocabulary.names[thing] for thing in vocabulary.things} >= {"person", "desk", "sofa"}
    assert "wall-brick" not in {vocabulary.names[thing] for thing in vocabulary.things}


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("wall-other-merged", "wall"),
        ("wall-brick", "brick wall"),
        ("floor-wood", "wood floor"),
        ("window-blind", "window blind"),
        ("window-other", "window"),
        ("door-stuff", "door"),
        ("shower curtain", "shower curtain"),
    ],
)
def test_classes_are_called_what_one_says(name, noun):
    assert class_noun(name) == noun


def test_prompts_have_the_clean_name():
    prompts = class_prompts("wall-other-merged")
    assert len(prompts) == 81
    assert prompts[1] == "a photo of a wall."
    assert class_prompts("wall-brick")[0] == "wall-brick."
