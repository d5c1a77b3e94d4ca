"""What the embedded teachers were trained with is written down, and no question repeats it."""

from __future__ import annotations

import re

import yaml

from pcdistill.pipeline.config import ReportConfig
from pcdistill.teachers import build_text_encoder
from tests.conftest import REPOSITORY
from tools import train_teachers

PAGE = (REPOSITORY / "docs" / "teachers" / "embedded.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Training phrases\n")[2].partition("\n## ")[0]
CLASSES = {*train_teachers.DENSE_SHARES, *train_teachers.MASK_SHARES}
ANSWERS = {
    "couch": "sofa",
    "fridge": "refrigerator",
    "a place to sleep": "bed",
    "a place to take a bath": "bathtub",
    "armchair": "chair",
    "a place to sit": "chair",
}
"""Question of the README, the demo or the report -> the class it is about."""


def training_phrases() -> set[str]:
    """Every text that a teacher's training read, or that names what it was told."""
    others = getattr(train_teachers, "PHRASES", {})
    named = {phrase for name in CLASSES for phrase in others.get(name, (name,))} | CLASSES
    return {template.format(name) for template in train_teachers.TEMPLATES for name in named}


def listed(after: str) -> set[str]:
    """The names of the list that follows some words of the page's section, up to its full stop."""
    text = " ".join(SECTION.split())
    return set(text.partition(after)[2].partition(".")[0].split(", "))


def asked(text: str) -> set[str]:
    """Questions of commands, and those that are named, in a page."""
    return set(re.findall(r'(?:query [^\n"`]*|question )"([^"]+)"', text))


def test_the_page_lists_every_training_phrase_and_no_other():
    assert set(re.findall(r"`([^`]*\{\}[^`]*)`", SECTION)) == set(train_teachers.TEMPLATES)
    assert listed("with these names: ") == set(train_teachers.DENSE_SHARES)
    assert listed("when a mask is described: ") == set(train_teachers.MASK_SHARES)
    assert not getattr(train_teachers, "PHRASES", {}), "list the phrases on the page, too"


def test_no_question_of_the_readme_or_the_demo_is_a_training_phrase():
    trained = {phrase.lower() for phrase in training_phrases()}
    demo = yaml.safe_load((REPOSITORY / "pcdistill" / "configs" / "demo.yaml").read_text())
    closing = (REPOSITORY / "pcdistill" / "cli" / "execute.py").read_text()
    places = {
        "README": asked((REPOSITORY / "README.md").read_text(encoding="utf-8")),
        "docs/questions.md": asked((REPOSITORY / "docs" / "questions.md").read_text("utf-8")),
        "demo.yaml": {*demo["report"]["queries"], *demo["report"]["heat_maps"]},
        "the default report": {*ReportConfig().queries, *ReportConfig().heat_maps},
        "the end of a demo": asked(closing),
    }
    for place, questions in places.items():
        assert questions, f"{place} asks nothing; does it still ask as this test reads it?"
        assert not {question.lower() for question in questions} & trained, place
        assert questions <= set(ANSWERS), f"{place} asks what no test knows the answer of"
    assert asked('query runs/demo "a chair" and the question "sofa"') & trained == {
        "a chair",
        "sofa",
    }


def test_configurations_ask_no_training_phrase_but_the_names_of_classes():
    """Of scans at hand, where the names of what is there are asked for as well."""
    for file in sorted((REPOSITORY / "configs").glob("*.yaml")):
        report = yaml.safe_load(file.read_text())["report"]
        for question in (*report["queries"], *report["heat_maps"]):
            assert question in CLASSES or question not in training_phrases(), (file.name, question)


def test_the_questions_land_on_their_classes_by_what_the_text_encoder_knows():
    encoder = build_text_encoder("static")
    names = sorted(CLASSES)
    classes = encoder.encode([f"a {name}" for name in names])
    best = (encoder.encode(list(ANSWERS)) @ classes.T).argmax(dim=1).tolist()
    assert [names[index] for index in best] == list(ANSWERS.values())
