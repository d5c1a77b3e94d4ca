"""The benchmark of evaluation measures the scenes it was asked for, in processes of their own."""

from __future__ import annotations

import argparse

import pytest

from pcdistill.artifacts import load_result
from pcdistill.pipeline import Workspace
from tools.benchmarks import evaluate


def test_its_scenes_are_measured_and_counted(tmp_path):
    evaluate.write_run(tmp_path, 3, 900)
    few, many = (evaluate.evaluate(tmp_path, 3, scenes) for scenes in (2, 3))
    found = load_result(Workspace(tmp_path), evaluate.METHOD)
    assert (found["points"], len(found["scenes"])) == (2700, 3)
    assert found["points_without_answer"] == 270
    assert 20 < found["miou"] < 95
    assert few["miou"] == pytest.approx(many["miou"])  # the scenes are alike
    assert many["peak"] > 2**26
    files = {name: list(tmp_path.rglob(name)) for name in ("points.safetensors",)}
    assert len({path.stat().st_ino for path in files["points.safetensors"]}) == 1


def test_few_and_many_are_in_this_order():
    with pytest.raises(SystemExit, match="--scenes is 3 2, expected few and more of them"):
        evaluate.run(argparse.Namespace(points=100, scenes=(3, 2)))
