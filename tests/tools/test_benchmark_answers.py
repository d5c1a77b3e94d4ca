"""The benchmark of answers counts what is said of what is there and of what is not."""

from __future__ import annotations

import argparse

import pytest

from tests.fixtures.viewer_run import SCENE, write_run
from tools.benchmarks import answers


def test_it_counts_the_questions_of_each_kind(tmp_path, monkeypatch):
    """Of the three classes of the room; its sofa is found, and is no couch with wings."""
    said = {"sofa": {"sofa"}, "wall": {"floor"}, "couch": {"sofa"}, "horse": {"wall"}}
    monkeypatch.setattr(answers, "answers", lambda run, scene, text, method: said.get(text, set()))
    monkeypatch.setattr(answers, "POINTS", 20)
    words = answers.Words({"couch": "sofa", "fridge": "refrigerator"}, ("horse", "car"), ())
    monkeypatch.setattr(answers, "UNSEEN", words)
    folder = write_run(tmp_path / "run", scenes=1)
    (run,) = [answers.open_run(folder)]
    assert answers.classes_of(run, SCENE) == {"wall", "floor", "sofa"}
    found = answers.shares([run], "validation", words, "fused")
    assert found == {
        "classes_nothing": {"percent": 33.3, "questions": 3},
        "classes_right": {"percent": 33.3, "questions": 3},
        "others_nothing": {"percent": 0.0, "questions": 1},
        "others_right": {"percent": 100.0, "questions": 1},
        "absent_answered": {"percent": 50.0, "questions": 2},
    }


def test_its_answers_are_those_of_the_run(tmp_path):
    run = answers.open_run(write_run(tmp_path / "run", scenes=1))
    assert answers.answers(run, SCENE, "couch", "fused") == {"sofa"}
    assert answers.answers(run, SCENE, "airplane", "fused") == set()


def test_no_word_that_is_told_of_is_one_that_the_rule_was_chosen_with():
    for one, other in zip(answers.CHOSEN_ON, answers.UNSEEN, strict=True):
        assert not set(one) & set(other)


def test_a_run_without_labels_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", truth=False, scenes=1)
    words = argparse.Namespace(runs=[folder], method="fused")
    with pytest.raises(SystemExit, match="has labels, expected some to compare with"):
        answers.run(words)
