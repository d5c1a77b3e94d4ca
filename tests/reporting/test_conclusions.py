"""What is concluded from the rows of a run: which are compared, and with the right numbers."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from pcdistill.artifacts.predictions import load_result
from pcdistill.artifacts.students import LoadedStudent
from pcdistill.pipeline.artifact_files import read_json, write_json
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.pretrained import StudentInputSpec
from pcdistill.reporting import measured_results
from pcdistill.reporting.conclusions import comparisons, conclusions
from pcdistill.scenes import Scene
from pcdistill.stages.evaluate import EvaluateStage
from tests.fixtures.runs import finished_run, predictor
from tests.stages.test_evaluate_by_hand import VOXEL, Mirror
from tests.stages.toy import CLASSES, store, toy_labels, work
from tests.stages.toy_homes import CLUSTERS, homes_run, scan


@pytest.fixture(autouse=True)
def student(monkeypatch):
    needs = StudentInputSpec(VOXEL, "geometry")
    monkeypatch.setattr(
        sys.modules["pcdistill.artifacts.run_artifacts"],
        "load_student",
        lambda workspace, config, name: LoadedStudent(Mirror(), needs),
    )


def finished(folder, students=("superpoint",), labels=None, **sections) -> RunContext:
    run = homes_run(folder, distill={"students": list(students), "voxel_size": VOXEL}, **sections)
    run.label_set = labels or run.label_set
    for unit in EvaluateStage(run).units():
        work(EvaluateStage, run, unit)
    return run


@pytest.mark.parametrize("protocol", ["every point", "seen", "openscene"])
def test_every_difference_is_that_of_the_table(tmp_path, protocol):
    names = (*CLASSES, "giraffe")  # which no scan has; protocols differ in what that counts
    palette = torch.zeros(4, 3, dtype=torch.uint8)
    labels = toy_labels(names=names, prompt_names=names, palette=palette)
    run = finished(tmp_path, labels=labels, evaluate={"protocol": protocol})
    found = [one for compared in comparisons(finished_run(run)) for one in compared]
    assert [(one.first, one.second) for one in found] == [
        *(("fused", other) for other in (best_teacher(run), "average", "binary")),
        *(("fused", other) for other in ("shuffled", "oracle")),
        *(("student:superpoint", o) for o in ("fused+voxels", "fused", "fused+superpoints")),
    ]
    assert (
        load_result(run.workspace, best_teacher(run))["points_without_answer"] > 0
    )  # which protocols count
    for one in found:
        expected = (
            load_result(run.workspace, one.first)["miou"]
            - load_result(run.workspace, one.second)["miou"]
        )
        assert one.apart.difference == pytest.approx(expected, abs=1e-9)
        assert one.apart.scenes == len(CLUSTERS)
        assert one.apart.low <= one.apart.difference <= one.apart.high


def best_teacher(run: RunContext) -> str:
    return max(
        ("teacher:demo-masks", "teacher:demo-dense"),
        key=lambda row: load_result(run.workspace, row)["miou"],
    )


def test_the_sentences_name_every_difference_the_intervals_and_the_agreement(tmp_path):
    run = finished(tmp_path)
    said = conclusions(finished_run(run))
    assert len(said) == 4
    for compared, sentence in zip(comparisons(finished_run(run)), said, strict=False):
        assert sentence.startswith(compared[0].first)
        for one in compared:
            assert one.second in sentence
            assert str(one.apart) in sentence
    assert "paired bootstrap over 2 homes" in said[2]
    assert said[3] == read_json(run.workspace.true_capability)["sentence"]


def test_what_a_student_learned_from_are_its_targets(tmp_path):
    (point,) = [
        s for s in conclusions(finished_run(finished(tmp_path / "a", ["point"]))) if "student" in s
    ]
    assert "fused (its targets," in point
    (other,) = [s for s in conclusions(finished_run(finished(tmp_path / "b"))) if "student" in s]
    assert "fused+superpoints (its targets," in other
    assert "fused+voxels (fused with the same votes," in other


def test_the_best_student_is_compared(tmp_path):
    run = finished(tmp_path, ["point", "superpoint"])
    path = run.workspace.evaluation("student:point") / "result.json"
    write_json(path, {**read_json(path), "miou": 99.0})
    assert comparisons(finished_run(run))[1][0].first == "student:point"


@pytest.mark.parametrize("change", [{"protocol": "another"}, {"scenes": ["one"]}])
def test_what_was_measured_otherwise_is_not_compared(tmp_path, change):
    run = finished(tmp_path)
    path = run.workspace.evaluation("binary") / "result.json"
    write_json(path, {**read_json(path), **change})
    assert "binary" not in [one.second for one in comparisons(finished_run(run))[0]]
    assert "average" in [one.second for one in comparisons(finished_run(run))[0]]


def test_one_home_gives_no_interval_and_says_so(tmp_path):
    run = finished(tmp_path, ingest={"validation": 1})
    said = conclusions(finished_run(run))
    differences = [sentence for sentence in said if "rank correlation" not in sentence]
    assert not any("[" in sentence for sentence in differences)  # that one is over classes
    assert any("one of the homes alone gives no interval" in sentence for sentence in said)


def test_scans_without_labels_are_concluded_nothing_from(tmp_path):
    run = homes_run(tmp_path)
    for name in CLUSTERS:
        one = scan(name)
        store(run, Scene(name, one.points, one.colors, one.normals))
    for unit in EvaluateStage(run).units():
        work(EvaluateStage, run, unit)
    assert conclusions(finished_run(run)) == ()
    assert measured_results(run.workspace, predictor(run).methods.names) == []


def test_with_one_teacher_it_is_what_fusion_is_held_against(tmp_path):
    run = finished(tmp_path, run={"teachers": ["demo-masks"]})
    fused, student = comparisons(finished_run(run))
    assert [(one.second, one.apart.difference) for one in fused] == [("teacher:demo-masks", 0.0)]
    assert len(student) == 3


def test_without_teachers_there_is_nothing_to_compare(tmp_path):
    run = homes_run(tmp_path, run={"teachers": []}, distill={"pretrained": "given"})
    run.pretrained = None  # it stands beside the run
    for unit in EvaluateStage(run).units():
        work(EvaluateStage, run, unit)
    assert conclusions(finished_run(run)) == ()
    assert len(measured_results(run.workspace, predictor(run).methods.names)) == 1


def test_files_of_before_or_damaged_ones_are_passed_over(tmp_path):
    run = finished(tmp_path)
    path = run.workspace.evaluation("fused") / "result.json"
    old = {key: value for key, value in json.loads(path.read_text()).items() if key != "confusion"}
    write_json(path, old)
    run.workspace.true_capability.write_text("{")
    said = conclusions(finished_run(run))
    assert len(said) == 2
    assert said[0].startswith("student:superpoint")
    assert "fused (" not in said[0]
