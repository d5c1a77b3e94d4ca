"""The rows of the results table read what they need, and no more."""

from __future__ import annotations

import sys

import pytest
import torch

from pcdistill.artifacts import open_point_features
from pcdistill.artifacts import point_features as lift_module
from pcdistill.artifacts.students import LoadedStudent
from pcdistill.homes import home_scene
from pcdistill.inference import predictor as predictor_module
from pcdistill.pipeline.artifact_files import read_tensors
from pcdistill.pipeline.pretrained import StudentInputSpec
from pcdistill.stages.lift import LiftStage
from pcdistill.stages.partition import PartitionStage
from tests.fixtures.runs import predictor
from tests.stages.test_fuse import make_run, work, write_lifted

SCENE = "home-train-0"


@pytest.fixture(scope="module")
def home():
    return home_scene(5, "train", frames=3, image_size=(48, 64))


@pytest.fixture
def lifted(home, tmp_path):
    """A run with a partitioned scene of which each teacher saw points of its own."""
    run = make_run(tmp_path, home, SCENE)
    work(PartitionStage, run, SCENE)
    write_lifted(run, SCENE, len(home.points), 64, 0.3)
    return run


@pytest.fixture
def reads(monkeypatch):
    """(file's folder, tensor) of everything that is read of lifted features."""
    found = []

    def listening(path, names=None):
        found.extend((path.parent.name, name) for name in names or ("everything",))
        return read_tensors(path, names)

    monkeypatch.setattr(lift_module, "read_tensors", listening)
    return found


def test_who_is_seen_is_told_without_reading_a_feature(lifted, reads):
    expected = open_point_features(lifted).load_stack(SCENE).seen.any(dim=0)
    reads.clear()
    seen = open_point_features(lifted).seen_mask(SCENE)
    assert torch.equal(seen, expected)
    assert 0 < int(seen.sum()) < len(seen)
    assert reads == [("demo-dense", "seen"), ("demo-masks", "seen")]


def test_a_teachers_row_reads_that_teacher_alone(lifted, reads):
    views = open_point_features(lifted).load_stack(SCENE)
    for number, teacher in enumerate(lifted.config.run.teachers):
        reads.clear()
        features, seen = predictor(lifted).features(f"teacher:{teacher}", SCENE)
        assert {folder for folder, _ in reads} == {teacher}
        assert torch.equal(seen, views.seen[number])
        assert torch.equal(features, views.of_teacher(number))
        assert int(features[seen].abs().sum(dim=1).count_nonzero()) == int(seen.sum())
        assert not features[~seen].any()


def test_where_features_are_not_kept_the_frames_say_who_is_seen(home, tmp_path):
    """A mask teacher may be silent on points that frames see, so it has to look again."""
    runs = [
        make_run(tmp_path / keep, home, SCENE, lift={"store_features": keep})
        for keep in ("all", "validation")
    ]
    for run in runs:
        work(PartitionStage, run, SCENE)
        for teacher in run.config.run.teachers:
            work(LiftStage, run, f"{teacher}/{SCENE}")
    kept, bare = (open_point_features(run).seen_mask(SCENE) for run in runs)
    assert torch.equal(kept, bare)
    assert 0 < int(kept.sum()) < len(kept)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1, "shifted")),
        ({"votes": 3}, (3, "shifted")),
        ({"protocol": "openscene"}, (5, "turned")),
        ({"protocol": "openscene", "votes": 2}, (2, "turned")),
    ],
)
def test_a_student_looks_as_often_as_its_protocol_says(
    home, tmp_path, monkeypatch, settings, expected
):
    """OpenScene's protocol is one of five turned looks; a setting goes before it."""
    run = make_run(tmp_path, home, SCENE, evaluate=settings)
    asked = []

    def listening(network, cloud, voxel_size, device, *, looks):
        asked.append((looks.count, "shifted" if looks.seed is None else "turned"))
        return torch.zeros(len(cloud.points), 64)

    needs = StudentInputSpec(0.1, "constant")
    monkeypatch.setattr(
        sys.modules["pcdistill.artifacts.run_artifacts"],
        "load_student",
        lambda workspace, config, name: LoadedStudent(None, needs),
    )
    monkeypatch.setattr(predictor_module, "infer_point_features", listening)
    predictor(run).features("student:superpoint", SCENE)
    assert asked == [expected]
    assert (run.protocol.votes, run.protocol.runs) == expected
