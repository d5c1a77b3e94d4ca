"""The benchmark of answers counts what is said of what is there and of what is not."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest
import torch

from tests.fixtures.viewer_run import SCENE, write_run
from tools.benchmarks import answers


def place(truth: str, *rows: int) -> SimpleNamespace:
    return SimpleNamespace(truth=truth, rows=torch.tensor(rows))


def test_it_counts_the_questions_of_each_kind(tmp_path, monkeypatch):
    """Of the three classes of the room; its sofa is found, and is no couch with wings."""
    monkeypatch.setattr(answers, "POINTS", 20)
    words = answers.Words({"couch": "sofa", "fridge": "refrigerator"}, ("horse", "car"), ())
    run = answers.open_run(write_run(tmp_path / "run", scenes=1))
    things = answers.things_of(run, SCENE)
    assert things.keys() == {"wall", "floor", "sofa"}
    sofa, wall = ((things[name] == 0).nonzero()[:, 0].tolist() for name in ("sofa", "wall"))
    said = {
        "sofa": (place("sofa", *sofa[: len(sofa) // 2]), place("sofa", *sofa)),
        "wall": (place("floor", *sofa),),
        "couch": (place("sofa", *sofa, *wall[: len(sofa)]),),
        "horse": (place("wall", *wall),),
    }
    monkeypatch.setattr(answers, "answers", lambda run, scene, text, method: said.get(text, ()))
    found = answers.shares([run], "validation", words, "fused")
    half = len(sofa) // 2 / len(sofa)
    assert found == {
        "classes_nothing": {"percent": 33.3, "questions": 3},
        "classes_right": {"percent": 33.3, "questions": 3},
        "classes_overlap": {"percent": round(100 * half / 3, 1), "questions": 3},
        "classes_overlap_5": {"percent": 33.3, "questions": 3},
        "others_nothing": {"percent": 0.0, "questions": 1},
        "others_right": {"percent": 100.0, "questions": 1},
        "others_overlap": {"percent": 50.0, "questions": 1},
        "others_overlap_5": {"percent": 50.0, "questions": 1},
        "absent_answered": {"percent": 50.0, "questions": 2},
    }


def test_a_place_overlaps_with_the_thing_that_most_of_it_is_of():
    """Two of its four points are of the first thing, which has four, one of the second."""
    things = torch.tensor([0, 0, 0, 0, 1, -1])
    assert answers.overlap(torch.tensor([0, 1, 4, 5]), things) == 2 / 6
    assert answers.overlap(torch.tensor([4]), things) == 1
    assert answers.overlap(torch.tensor([5]), things) == 0


def test_its_answers_are_those_of_the_run(tmp_path):
    run = answers.open_run(write_run(tmp_path / "run", scenes=1))
    (sofa,) = answers.answers(run, SCENE, "couch", "fused")
    assert sofa.truth == "sofa"
    things = answers.things_of(run, SCENE)
    assert answers.overlap(sofa.rows, things["wall"]) == 0
    assert answers.answers(run, SCENE, "airplane", "fused") == ()


def test_no_word_that_is_told_of_is_one_that_the_rule_was_chosen_with():
    for one, other in zip(answers.CHOSEN_ON, answers.UNSEEN, strict=True):
        assert not set(one) & set(other)


def test_a_run_without_labels_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", truth=False, scenes=1)
    words = argparse.Namespace(runs=[folder], method="fused")
    with pytest.raises(SystemExit, match="has labels, expected some to compare with"):
        answers.run(words)
