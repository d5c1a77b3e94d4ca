"""Learning curves: what is changed, what is trained again, what the page says."""

from __future__ import annotations

import argparse
import json

import pytest

from tools.benchmarks import learning
from tools.benchmarks.learning import CURVES, STUDENT, Training, page, reading


def known(one: Training) -> dict:
    """Numbers that tell the trainings apart."""
    miou = one.homes / 10 + one.steps / 1000 + one.width + len(one.input)
    rows = dict.fromkeys(learning.REFERENCES, 30.0)
    return {"1": {**rows, STUDENT: miou}, "5": {**rows, STUDENT: miou + 1}}


EVERY = sorted({one for curve in CURVES.values() for one in curve})


def test_one_thing_changes_along_a_curve():
    for name, curve in CURVES.items():
        assert len(curve) >= 2
        others = [field for field in Training._fields if field != name]
        assert len({tuple(getattr(one, field) for field in others) for one in curve}) == 1
        assert len({getattr(one, name) for one in curve}) == len(curve)
    assert [one.homes for one in CURVES["homes"]] == [3, 12, 48]


def test_a_training_is_as_many_steps_as_it_says():
    for one in EVERY:
        settings = dict(text.split("=") for text in one.settings())
        steps = int(settings["distill.epochs"]) * int(settings["ingest.train"])
        assert abs(steps - one.steps) <= one.homes / 2  # whole epochs


def test_the_page_has_a_line_for_each_and_a_sentence_for_each_curve():
    said = page({one: known(one) for one in EVERY}, ["a=b"])
    assert said.count("| color |") + said.count("| constant |") == len(EVERY)
    for name in CURVES:
        assert f"- {name} (" in said
    assert "not measured yet" not in said
    assert "`fused+voxels` 30.0 (30.0 with 5 cuts)" in said


def test_what_is_not_measured_is_said_so():
    some = {one: known(one) for one in CURVES["homes"][:2]}
    said = reading(some)
    assert len(said) == 2
    assert said[0].startswith("- homes (steps 2400, width 0.5, input color; one cut): 3: ")
    assert "+0.9 points from the first to the last" in said[0]
    assert "trainings are not measured yet" in said[1]


def test_an_interrupted_benchmark_goes_on_and_has_a_page(tmp_path, monkeypatch):
    trained = []

    def measured(workspace, changes):
        if len(trained) == 2:
            trained.append(None)
            raise KeyboardInterrupt
        trained.append(changes[0])
        return known(EVERY[0])

    monkeypatch.setattr(learning, "_pcdistill", lambda *_: None)
    monkeypatch.setattr(learning, "_measured", measured)
    parser = argparse.ArgumentParser()
    learning.add_arguments(parser)
    write = tmp_path / "page.md"
    arguments = parser.parse_args(["--workspace", str(tmp_path), "--write", str(write)])
    with pytest.raises(KeyboardInterrupt):
        learning.run(arguments)
    assert "not measured yet" in write.read_text()
    assert len(json.loads((tmp_path / "learning.json").read_text())) == 2
    learning.run(arguments)
    assert len(trained) == len(EVERY) + 1  # none twice
    assert "not measured yet" not in write.read_text()
