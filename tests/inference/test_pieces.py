"""What rows say of the pieces of a scene: means by hand, kept for questions, never out of date."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from pcdistill.artifacts import open_artifacts
from pcdistill.errors import SceneError
from pcdistill.homes import home_scene
from pcdistill.inference import pieces as room_pieces
from pcdistill.inference.methods import POOLED
from pcdistill.inference.pieces import ScenePieces, average_pieces
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.pipeline.artifact_files import read_provenance, write_json, write_tensors
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import Dependency, Task
from pcdistill.pipeline.workspace import UnitRecord
from pcdistill.scenes import Scene, open_scene
from pcdistill.stages.evaluate import EvaluateStage
from pcdistill.stages.partition import PartitionStage
from tests.fixtures.runs import finished_run, predictor
from tests.stages.test_fuse import make_run, nothing, work, write_lifted
from tests.stages.test_partition_by_hand import parts, sheet, tilted
from tests.stages.toy import store, toy_run

SCENE = "home-validation-0"
HALF_STEP = 2.0**-11  # relative rounding of the half precision that is stored
FLOAT32 = 1e-6  # rounding of means of a few unit vectors


@pytest.fixture(scope="module")
def home():
    return replace(home_scene(5, "validation", frames=3, image_size=(48, 64)), name=SCENE)


@pytest.fixture
def run(home, tmp_path) -> RunContext:
    """A run with one partitioned home that both teachers saw, and no student."""
    made = make_run(tmp_path, home, SCENE, ingest={"train": 1, "validation": 1})
    work(PartitionStage, made, SCENE)
    write_lifted(made, SCENE, len(home.points), 64, 0.3)
    for teacher in made.config.run.teachers:
        record = UnitRecord("first", "done", "", 0.0, {}, {})
        made.workspace.write_record("lift", f"{teacher}/{SCENE}", record)
    return made


def pieces_of(run: RunContext) -> ScenePieces:
    artifacts = open_artifacts(run)
    return ScenePieces(artifacts, ScenePredictor(artifacts))


def stored(run: RunContext) -> Scene:
    return open_scene(run.workspace.scene(SCENE))


def evaluate(run: RunContext, row: str) -> None:
    units = [("partition", SCENE), *(("lift", f"{t}/{SCENE}") for t in run.config.run.teachers)]
    EvaluateStage(run).work(Task(row, tuple(Dependency(*unit) for unit in units), "test"), nothing)


def test_a_piece_has_the_mean_direction_of_its_seen_points():
    features = torch.tensor([[2.0, 0], [0, 1], [5, 5], [0, 3]])
    seen = torch.tensor([True, True, False, False])
    found = average_pieces(features, seen, torch.tensor([0, 0, 0, 1]))
    half = 0.5**0.5
    expected = torch.tensor([[half, half], [0, 0]])
    torch.testing.assert_close(found.features, expected, rtol=0, atol=FLOAT32)


def test_evaluating_keeps_the_pieces_that_a_question_needs(run, monkeypatch):
    evaluate(run, "average")
    features, seen = predictor(run).features("average", SCENE)
    scene = stored(run)
    expected = average_pieces(features, seen, pieces_of(run).cut(scene))
    monkeypatch.setattr(ScenePredictor, "features", None)  # nothing is computed
    found = pieces_of(run).features("average", scene)
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.features, expected.features, rtol=0, atol=HALF_STEP)


@pytest.mark.parametrize("change", ["lifted anew", "more votes"])
def test_pieces_of_other_inputs_are_made_anew(run, home, change):
    evaluate(run, "average")
    if change == "lifted anew":
        record = UnitRecord("second", "done", "", 0.0, {}, {})
        run.workspace.write_record("lift", f"demo-dense/{SCENE}", record)
    else:
        run = make_run(run.workspace.root, home, SCENE, ingest={"train": 1}, evaluate={"votes": 3})
    scene = stored(run)
    path = run.workspace.evaluation("average") / f"{SCENE}.safetensors"
    ids = pieces_of(run).cut(scene)
    wrong = {"pieces": ids.int(), "piece_features": torch.zeros(int(ids.max()) + 1, 64).half()}
    write_tensors(path, wrong, read_provenance(path))  # what was kept is not looked at
    features, seen = predictor(run).features("average", SCENE)
    expected = average_pieces(features, seen, ids)
    assert expected.features.any()
    assert torch.equal(pieces_of(run).features("average", scene).features, expected.features)


def test_the_pooled_row_is_the_mean_of_the_fused_features_of_a_superpoint(run):
    fused, seen = predictor(run).features("fused", SCENE)
    pooled, known = predictor(run).features(POOLED, SCENE)
    ids = pieces_of(run).cut(stored(run))
    for piece in range(0, int(ids.max()) + 1, 9):
        members = ids == piece
        assert bool((known[members] == bool(seen[members].any())).all())
        if seen[members].any():
            mean = functional.normalize(fused[members & seen].double().sum(dim=0), dim=0)
            each = functional.normalize(pooled[members].double(), dim=1)
            torch.testing.assert_close(each, mean.expand_as(each), rtol=0, atol=1e2 * FLOAT32)


def test_the_best_measured_row_is_the_default(run):
    assert finished_run(run).best_method == "student:superpoint"
    for row, miou in (("average", 30.0), ("fused", 40.0), ("student:superpoint", 35.0)):
        write_json(run.workspace.evaluation(row) / "result.json", {"miou": miou})
    assert finished_run(run).best_method == "fused"
    write_json(run.workspace.evaluation("fused") / "result.json", {"miou": None})
    assert finished_run(run).best_method == "student:superpoint"


@pytest.mark.parametrize("label_set", ["replica", "scannet200"])
def test_labels_of_another_label_set_are_not_measured_as_those_of_the_run(run, label_set):
    """The scene is not read again for another set; its classes would pass for those."""
    changed = RunContext(replace(run.config, run=replace(run.config.run, label_set=label_set)))
    with pytest.raises(SceneError, match=f"with 'scannet20' but run.label_set is '{label_set}'"):
        evaluate(changed, "average")
    assert not (run.workspace.evaluation("average") / "result.json").exists()


@pytest.mark.parametrize(("min_size", "right"), [(1, (79, 21)), (21, (79, 21)), (22, (100,))])
def test_single_points_are_joined_for_questions_into_pieces_of_the_least_size(
    tmp_path, min_size, right
):
    run = toy_run(tmp_path, partition={"method": "none", "min_size": min_size})
    scene = sheet(normals=tilted(21, 60))
    store(run, scene)
    work(PartitionStage, run, scene.name)
    ids = pieces_of(run).cut(scene)
    found = [(ids == number).nonzero()[:, 0].tolist() for number in range(int(ids.max()) + 1)]
    assert sorted(found) == parts(*right)


def test_cuts_of_few_scenes_are_kept(monkeypatch):
    """So that many scenes, each cut by its nearest neighbours, need no more memory than few."""
    cloud = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        room_pieces, "load_superpoint_ids", lambda workspace, name: torch.arange(60)
    )
    run = SimpleNamespace(workspace=None, piece_neighbors=4, piece_threshold=0.1, piece_size=5)
    made = room_pieces.ScenePieces(run, None)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(60, 3)
    for number in range(room_pieces.MAX_CUTS + 3):
        ids = made.cut(Scene(f"room{number}", cloud, normals=up))
        assert int(ids.max()) < 59
    assert list(made._cuts) == [f"room{number}" for number in range(3, room_pieces.MAX_CUTS + 3)]
