"""Label sets of any size from a stored scene to numbers and exports: nothing wraps or collides."""

from __future__ import annotations

import json

import pytest
import torch

from pcdistill.artifacts.predictions import load_predictions, load_result
from pcdistill.errors import ConfigError, SceneError
from pcdistill.inference import MethodTable, ScenePredictor
from pcdistill.labels import IGNORE_LABEL, NO_FEATURE_LABEL
from pcdistill.pipeline import RunWords
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.scenes import Scene, load_label_set, open_scene, read_ply, write_scene
from pcdistill.stages.evaluate import EvaluateStage
from pcdistill.stages.ingest import IngestStage
from pcdistill.stages.partition import PartitionStage
from pcdistill.visualization import colorize_labels
from tests.fixtures.runs import finished_run
from tests.stages.test_fuse import work

ROW = "teacher:demo-dense"
SIZES = (3, 255, 256, 300, 1000)
UNLABELLED, UNSEEN = 5, 4  # points


def write_label_set(folder, classes: int, ignore: int | None):
    content = {"name": "mine", "categories": [f"class {i}" for i in range(classes)]}
    if ignore is not None:
        content["ignore_label"] = ignore
    path = folder / "mine.json"
    path.write_text(json.dumps(content))
    return path


def labels_of(classes: int, none: int) -> torch.Tensor:
    """Every class twice, then points without any."""
    return torch.cat([torch.arange(classes).repeat(2), torch.full((UNLABELLED,), none)])


def make_run(folder, classes: int, ignore: int | None, labels: torch.Tensor) -> RunContext:
    points = torch.rand(len(labels), 3, generator=torch.Generator().manual_seed(0))
    write_scene(Scene("flat", points, labels=labels), folder / "scans" / "flat")
    sections = {
        "run": {
            "workspace": str(folder / "run"),
            "label_set": str(write_label_set(folder, classes, ignore)),
        },
        "ingest": {"source": "scan", "path": str(folder / "scans")},
        "evaluate": {"scored_points": "all", "votes": 1},
        "partition": {"method": "none"},
    }
    return RunContext(config_from_dict(sections, "test"))


@pytest.mark.parametrize("classes", SIZES)
@pytest.mark.parametrize("ignore", [None, -1, 254, 255, 1000])
def test_a_perfect_answer_is_right_everywhere(tmp_path, monkeypatch, classes, ignore):
    if ignore is not None and 0 <= ignore < classes:
        file = write_label_set(tmp_path, classes, ignore)
        with pytest.raises(ConfigError, match=rf"ignore_label is {ignore}, .*such as -1"):
            load_label_set(file)
        return
    none = load_label_set(write_label_set(tmp_path, classes, ignore)).ignore_label
    labels = labels_of(classes, max(none, -1))
    run = make_run(tmp_path, classes, ignore, labels)
    work(IngestStage, run, "flat")
    work(PartitionStage, run, "flat")
    truth = open_scene(run.workspace.scene("flat")).labels
    assert torch.equal(truth, labels_of(classes, IGNORE_LABEL))

    monkeypatch.setattr(RunWords, "label_embeddings", torch.eye(classes))
    seen = torch.arange(len(labels)) < len(labels) - UNSEEN  # the others have no label either
    features = torch.eye(classes)[truth.clamp(min=0)] * seen[:, None]
    monkeypatch.setattr(ScenePredictor, "features", lambda *_: (features, seen))
    monkeypatch.setattr(MethodTable, "ready_scenes", lambda *_: ("flat",))
    work(EvaluateStage, run, ROW)
    measured = load_result(run.workspace, ROW)
    assert (measured["miou"], measured["macc"]) == (100, 100)
    assert (measured["points"], measured["points_without_answer"]) == (2 * classes, 0)
    stored = load_predictions(run.workspace, ROW, "flat")
    expected = torch.where(seen, truth.clamp(min=0), NO_FEATURE_LABEL)
    assert torch.equal(stored, expected)

    monkeypatch.setattr(ScenePredictor, "labels", lambda *_: expected)
    cloud, names = finished_run(run).export(tmp_path / "out", ROW)
    written = read_ply(cloud)
    assert torch.equal(written.scalars["label"], torch.where(seen, expected, none))
    assert names.read_text().splitlines()[classes] == f"{none} no answer"
    assert bool((written.colors[~seen] == 0).all())
    assert torch.equal(written.colors[seen], run.label_set.palette[expected[seen]])
    gray = colorize_labels(truth, run.label_set.palette)[-1]
    assert not (run.label_set.palette == gray).all(dim=1).any()


@pytest.mark.parametrize("classes", SIZES)
def test_a_label_beyond_the_set_is_refused(tmp_path, classes):
    run = make_run(tmp_path, classes, -1, torch.tensor([0, classes]))
    with pytest.raises(SceneError, match=rf"1 points .* \({classes}\), expected 0 to"):
        work(IngestStage, run, "flat")


def test_the_number_for_none_counts_for_what_is_ingested(tmp_path):
    before = IngestStage(make_run(tmp_path, 3, 255, torch.tensor([0, 1]))).settings("flat")
    after = IngestStage(make_run(tmp_path, 3, 254, torch.tensor([0, 1]))).settings("flat")
    assert before != after


@pytest.mark.parametrize("ignore", [0, 2, "none", 1.5, True, 1 << 31, -(1 << 40)])
def test_a_number_for_none_that_cannot_be_is_refused(tmp_path, ignore):
    with pytest.raises(ConfigError, match=r"ignore_label is .* none of the 3 categories"):
        load_label_set(write_label_set(tmp_path, 3, ignore))
